"""The `envoy` metrics: both arms' counters and histograms, read from the proxy that splits the traffic.

One request gives all readings of both arms, so they are of the same moment. A cluster's counters go on from the slot's
earlier life and start again at zero with a new Envoy: only increments between two samples mean anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import httpx

from pithead.backends.envoy_bootstrap import LATENCY_BOUNDS_MS, LATENCY_TOP_MS
from pithead.delivery.config_values import PositiveDuration, Section, option
from pithead.delivery.durations import parse_duration
from pithead.delivery.ports import (
    Arm,
    ArmAddress,
    BackendError,
    Context,
    Counts,
    Finding,
    Histogram,
    MetricSpec,
    Reading,
    Sample,
)

ADMIN_LABEL: Final = "envoy_admin"
CLUSTER_LABEL: Final = "cluster"

_COMPLETED: Final = "upstream_rq_completed"
_SERVER_ERRORS: Final = "upstream_rq_5xx"
_UNAVAILABLE: Final = "upstream_rq_503"
_CUT_CONNECTIONS: Final = "upstream_cx_destroy_remote_with_active_rq"
_LATENCY: Final = "upstream_rq_time"
_COUNTERS: Final = (_COMPLETED, _SERVER_ERRORS, _UNAVAILABLE, _CUT_CONNECTIONS)


class EnvoyMetricsOptions(Section):
    """What is read of Envoy."""

    timeout_seconds: PositiveDuration = option(
        "How long a reading may take.", key="timeout", default=parse_duration("2s"), written="2s"
    )
    count_cut_answers: bool = option(
        "Whether an answer that breaks off after its status counts as an error. Switch it off for a service that ends "
        "WebSockets from its side: Envoy counts these alike.",
        default=True,
        strict=True,
    )


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What Envoy has counted for one cluster."""

    counters: Mapping[str, float]
    latency: Histogram


class EnvoyMetrics:
    """The `Metrics` of the embedded data plane; it finds an arm by the labels `envoy_admin` and `cluster`.

    Kind "ratio": answers of 500 and above of all completed requests. What Envoy answers itself because an instance
    refused, reset or hung up is among them, a request that succeeded on another instance is not. Kind "latency": from
    the request's arrival at Envoy to the end of the answer, to the millisecond.
    """

    Options: ClassVar[type[EnvoyMetricsOptions]] = EnvoyMetricsOptions

    def __init__(self, options: EnvoyMetricsOptions, context: Context) -> None:
        self._options = options
        self._context = context

    async def scrape(self, arms: Mapping[Arm, ArmAddress], metrics: Sequence[MetricSpec]) -> Sequence[Sample]:
        """BackendError when there are arms and not one of them can be read."""
        admins = {address.labels[ADMIN_LABEL] for address in arms.values() if ADMIN_LABEL in address.labels}
        answers = await asyncio.gather(*(self._read(admin) for admin in admins), return_exceptions=True)
        at = time.time()
        clusters: dict[tuple[str, str], _Cluster] = {}
        failures: list[BaseException] = []
        for admin, answer in zip(admins, answers, strict=True):
            if isinstance(answer, BaseException):
                failures.append(answer)
            else:
                clusters |= {(admin, name): cluster for name, cluster in answer.items()}
        if failures and not clusters:
            raise failures[0]
        found = {arm: clusters.get(_key(address)) for arm, address in arms.items()}
        return [
            Sample(
                at,
                metric.name,
                metric.kind,
                self._reading(metric, found.get("canary")),
                self._reading(metric, found.get("baseline")),
            )
            for metric in metrics
        ]

    async def check(self) -> Sequence[Finding]:
        """Nothing to look at before the target has started its Envoy, and that is the target's to check."""
        return [Finding("envoy metrics", True, "read from the target's own Envoy")]

    def _reading(self, metric: MetricSpec, cluster: _Cluster | None) -> Reading | None:
        if cluster is None:
            return None
        if metric.kind == "latency":
            return cluster.latency
        return _errors(cluster.counters, count_cut_answers=self._options.count_cut_answers)

    async def _read(self, admin: str) -> Mapping[str, _Cluster]:
        """All of Envoy's clusters by name."""
        names = "|".join((*_COUNTERS, _LATENCY))
        query = {"filter": rf"^cluster\..+\.({names})$", "format": "json", "histogram_buckets": "cumulative"}
        try:
            async with httpx.AsyncClient(
                verify=False,  # noqa: S501 - plain http on the loopback address, and certificates cost 30 ms to load
                trust_env=False,
                timeout=self._options.timeout_seconds,
            ) as client:
                answer = await client.get(f"{admin}/stats", params=query)
                answer.raise_for_status()
            return _clusters(answer.json()["stats"])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
            raise BackendError(
                f"Envoy at {admin} gives no metrics: {str(error) or type(error).__name__}.",
                "`pithead doctor` says whether the target's Envoy runs.",
            ) from error


def _key(address: ArmAddress) -> tuple[str, str]:
    return address.labels.get(ADMIN_LABEL, ""), address.labels.get(CLUSTER_LABEL, "")


def _errors(counters: Mapping[str, float], *, count_cut_answers: bool) -> Counts:
    """Every answer counts once, as good or as bad.

    A connection that the instance cut before the status has become one of the 503s, one that it cut after it has been
    completed with the instance's own status. Envoy does not tell the two apart. So at least `cut - 503s` answers have
    broken off; the larger of the two is a lower bound for both kinds together, and never falls.
    """
    unavailable = counters.get(_UNAVAILABLE, 0.0)
    cut = counters.get(_CUT_CONNECTIONS, 0.0) if count_cut_answers else 0.0
    bad = counters.get(_SERVER_ERRORS, 0.0) - unavailable + max(unavailable, cut)
    return Counts(bad, max(bad, counters.get(_COMPLETED, 0.0)))


def _clusters(stats: Iterable[Mapping[str, Any]]) -> Mapping[str, _Cluster]:
    counters: dict[str, dict[str, float]] = {}
    histograms: dict[str, Histogram] = {}
    for stat in stats:
        if "histograms" in stat:
            for histogram in stat["histograms"]:
                histograms[_cluster_of(histogram["name"])] = _histogram(histogram["buckets"])
        else:
            counters.setdefault(_cluster_of(stat["name"]), {})[stat["name"].rpartition(".")[2]] = float(stat["value"])
    # Envoy leaves out the histogram of a cluster that has had no request yet.
    return {name: _Cluster(counted, histograms.get(name, _NO_REQUEST)) for name, counted in counters.items()}


def _cluster_of(name: str) -> str:
    return name.removeprefix("cluster.").rpartition(".")[0]


def _histogram(buckets: Sequence[Mapping[str, float]]) -> Histogram:
    """Envoy's milliseconds as seconds; its last bucket, above every duration there is, as infinity."""
    bounds = [float(bucket["upper_bound"]) for bucket in buckets]
    le = tuple(bound / 1000 if bound < LATENCY_TOP_MS else float("inf") for bound in bounds)
    return Histogram(le, tuple(float(bucket["cumulative"]) for bucket in buckets))


_BOUNDS_MS: Final = (*LATENCY_BOUNDS_MS, LATENCY_TOP_MS)
_NO_REQUEST: Final = _histogram([{"upper_bound": bound, "cumulative": 0} for bound in _BOUNDS_MS])
