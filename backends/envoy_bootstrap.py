"""What Envoy is told when it starts: one listener, one route, two clusters between which the traffic is split.

Pure functions from values to Envoy's configuration. What changes while Envoy runs is not in here: the split is runtime
(`RUNTIME_PREFIX`), the instances of a cluster are a file that Envoy watches (`endpoints`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pithead.backends.ports_found import LOOPBACK

CLUSTERS: Final = ("slot_a", "slot_b")
LISTENER: Final = "users"
RUNTIME_PREFIX: Final = "pithead.split"
LATENCY_BOUNDS_MS: Final = (
    0.5,
    1,
    2,
    3,
    5,
    7,
    10,
    15,
    20,
    30,
    50,
    75,
    100,
    150,
    200,
    300,
    500,
    750,
    1e3,
    2e3,
    5e3,
    1e4,
)
LATENCY_TOP_MS: Final = 1e9
"""Eleven days stand for infinity: Envoy does not list what is above its last bucket, and the total would be lost."""

FLUSH: Final = "0.2s"
"""Histograms reach the admin address with a flush only. At this pace an idle Envoy takes 0.5 % of a core."""

_TYPE: Final = "type.googleapis.com/envoy"
_NO_LIMIT: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One instance behind a cluster. One that drains gets no new request and may finish those that it has."""

    port: int
    is_draining: bool = False


def endpoints_file(folder: Path, cluster: str) -> Path:
    return folder / f"{cluster}.json"


def endpoints(cluster: str, instances: Sequence[Endpoint]) -> dict[str, Any]:
    """The file that tells Envoy which instances a cluster has."""
    hosts = [
        {
            "endpoint": {"address": _address(instance.port)},
            "health_status": "DRAINING" if instance.is_draining else "HEALTHY",
        }
        for instance in instances
    ]
    assignment = {
        "@type": f"{_TYPE}.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": hosts}],
    }
    return {"resources": [assignment]}


def bootstrap(listener_port: int, endpoints_folder: Path, split: Mapping[str, int]) -> dict[str, Any]:
    """The whole configuration. `split` holds until the first change of it comes through the admin address."""
    shares = {f"{RUNTIME_PREFIX}.{cluster}": share for cluster, share in split.items()}
    return {
        "node": {"id": "pithead", "cluster": "pithead"},
        "admin": {"address": _address(0)},
        "stats_flush_interval": FLUSH,
        "stats_config": {
            "histogram_bucket_settings": [
                {"match": {"suffix": "upstream_rq_time"}, "buckets": [*LATENCY_BOUNDS_MS, LATENCY_TOP_MS]}
            ]
        },
        "layered_runtime": {
            "layers": [{"name": "start", "static_layer": shares}, {"name": "admin", "admin_layer": {}}],
        },
        "static_resources": {
            "listeners": [_listener(listener_port)],
            "clusters": [_cluster(cluster, endpoints_folder) for cluster in CLUSTERS],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _listener(port: int) -> dict[str, Any]:
    return {
        "name": LISTENER,
        "address": _address(port),
        # With it, a second Envoy could listen on the same port and silently take half of the requests.
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [_extension("envoy.filters.network.http_connection_manager", _connections())]}],
    }


def _connections() -> dict[str, Any]:
    """The proxy shows itself as little as it can: no headers of its own, no time limits of its own."""
    router = _extension(
        "envoy.filters.http.router",
        {"@type": f"{_TYPE}.extensions.filters.http.router.v3.Router", "suppress_envoy_headers": True},
    )
    return {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": LISTENER,
        "codec_type": "AUTO",
        "server_header_transformation": "PASS_THROUGH",
        "use_remote_address": True,
        "max_request_headers_kb": 96,
        "stream_idle_timeout": "0s",
        "request_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"name": LISTENER, "virtual_hosts": [_all_hosts()]},
        "http_filters": [router],
    }


def _all_hosts() -> dict[str, Any]:
    clusters = [{"name": cluster, "weight": int(cluster == CLUSTERS[0])} for cluster in CLUSTERS]
    route = {
        "timeout": "0s",
        "weighted_clusters": {"runtime_key_prefix": RUNTIME_PREFIX, "clusters": clusters},
        "retry_policy": _retries(),
    }
    return {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}


def _retries() -> dict[str, Any]:
    """Only where no instance can have seen the request: those that it may have changed something are never repeated."""
    other_instance = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    return {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": 2,
        "retry_host_predicate": [
            _extension("envoy.retry_host_predicates.previous_hosts", {"@type": f"type.googleapis.com/{other_instance}"})
        ],
        "host_selection_retry_max_attempts": 3,
    }


def _cluster(name: str, endpoints_folder: Path) -> dict[str, Any]:
    source = {
        "path": str(endpoints_file(endpoints_folder, name)),
        "watched_directory": {"path": str(endpoints_folder)},
    }
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    protocol = {
        "@type": f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
        # Shorter than any server's own (Node.js: 5 s, gunicorn: 2 s): who closes first cannot lose a request by it.
        "common_http_protocol_options": {"idle_timeout": "1s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    return {
        "name": name,
        "type": "EDS",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "eds_cluster_config": {"eds_config": {"path_config_source": source}},
        # Without this, Envoy would send requests to draining instances when more than half of them drain.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {"thresholds": [dict.fromkeys(limits, _NO_LIMIT)]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
    }


def _extension(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "typed_config": config}
