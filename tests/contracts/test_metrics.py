"""The contract of `Metrics`: one sample per metric, both arms at one moment, and never a zero for what was not read."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from live_service import START, artifact_of, get, until

from pithead.backends.envoy_metrics import EnvoyMetrics
from pithead.backends.process import ProcessTarget
from pithead.delivery.ports import (
    Arm,
    ArmAddress,
    BackendError,
    Context,
    Counts,
    Desired,
    Histogram,
    Metrics,
    MetricSpec,
    Observed,
    Sample,
    Target,
)

ERRORS, LATENCY = MetricSpec("errors", "ratio"), MetricSpec("latency", "latency")


@dataclass
class Scene:
    """A target with both arms running, and the metrics that read it."""

    target: Target
    metrics: Metrics
    folder: Path
    log: Any

    async def weight(self, weight: int) -> Observed:
        old, new = self.artifacts
        await self.target.apply(Desired(old, new, weight), self.log)
        return await self.target.observe()

    async def send(self, path: str, count: int, method: str = "GET") -> list[int]:
        address = (await self.target.observe()).address
        return [(await get(address, path, method)).status for _ in range(count)]

    async def read(self) -> Sequence[Sample]:
        return await self.metrics.scrape((await self.target.observe()).arms, [ERRORS, LATENCY])

    async def settled(self, requests: float) -> Sequence[Sample]:
        """What is read once so many requests of the canary have reached the histogram, which lags a little."""

        async def are_there() -> bool:
            latency = (await self.read())[1].canary
            return isinstance(latency, Histogram) and latency.count[-1] >= requests

        await until(are_there)
        return await self.read()

    def __post_init__(self) -> None:
        self.artifacts = artifact_of(self.folder, "old"), artifact_of(self.folder, "new")


@pytest.fixture(params=[(ProcessTarget, EnvoyMetrics)])
async def scene(request: pytest.FixtureRequest, context: Context, tmp_path: Path, lines: Any) -> AsyncIterator[Scene]:
    target_class, metrics_class = request.param
    options = target_class.Options.model_validate({"command": START, "readiness": {"path": "/health"}, "instances": 1})
    target = target_class(options, context)
    made = Scene(target, metrics_class(metrics_class.Options(), context), tmp_path / "artifacts", lines)
    await made.weight(100)
    yield made
    await target.teardown()


def counts(reading: object) -> Counts:
    assert isinstance(reading, Counts)
    return reading


async def test_each_metric_gets_one_sample_and_all_are_of_one_moment(scene: Scene) -> None:
    before = time.time()
    samples = await scene.read()
    assert [(sample.metric, sample.kind) for sample in samples] == [("errors", "ratio"), ("latency", "latency")]
    assert len({sample.at for sample in samples}) == 1
    assert before <= samples[0].at <= time.time()


async def test_an_arm_without_requests_is_read_as_such(scene: Scene) -> None:
    errors, latency = await scene.read()
    assert errors.baseline == Counts(0, 0)
    assert isinstance(latency.baseline, Histogram)
    assert latency.baseline.count[-1] == 0
    await scene.send("/", 1)
    settled = (await scene.settled(1))[1]
    assert isinstance(settled.canary, Histogram)
    assert settled.canary.le == latency.baseline.le


async def test_every_request_is_counted_once_for_its_arm(scene: Scene) -> None:
    assert set(await scene.send("/", 30)) == {200}
    assert set(await scene.send("/error", 7, "POST")) == {500}
    errors, latency = await scene.settled(37)
    assert errors.canary == Counts(bad=7, total=37)
    assert errors.baseline == Counts(0, 0)
    assert isinstance(latency.canary, Histogram)
    assert latency.canary.count[-1] == 37


async def test_the_histogram_is_cumulative_in_seconds_and_ends_in_infinity(scene: Scene) -> None:
    await scene.send("/sleep/0.25", 3)
    await scene.send("/", 5)
    (_, latency) = await scene.settled(8)
    histogram = latency.canary
    assert isinstance(histogram, Histogram)
    assert histogram.le[-1] == math.inf
    assert list(histogram.le) == sorted(histogram.le)
    assert list(histogram.count) == sorted(histogram.count)
    below = dict(zip(histogram.le, histogram.count, strict=True))
    assert below[0.2] <= 5 < below[1.0] == 8


async def test_what_the_users_see_of_a_crash_is_counted_once_however_it_looks(scene: Scene) -> None:
    await scene.send("/", 5)
    assert await scene.send("/reset", 3, "POST") == [503] * 3
    assert await scene.send("/cut", 5) == [0] * 5, "the answer breaks off"
    (errors, _) = await scene.settled(5)
    # Envoy does not tell a connection cut before the status from one cut after it, unless by counting both kinds.
    assert errors.canary == Counts(bad=8, total=13)


async def test_answers_that_break_off_can_be_left_out(scene: Scene, context: Context) -> None:
    metrics = EnvoyMetrics(EnvoyMetrics.Options(count_cut_answers=False), context)
    await scene.send("/cut", 4)
    (sample,) = await metrics.scrape((await scene.target.observe()).arms, [ERRORS])
    assert sample.canary == Counts(bad=0, total=4)


async def test_an_arm_whose_instances_are_all_gone_has_errors(scene: Scene) -> None:
    assert (await scene.send("/crash", 1, "POST"))[0] == 503
    assert await scene.send("/", 4) == [503] * 4, "nobody watches, so nothing starts it again"
    (errors, _) = await scene.read()
    assert errors.canary == Counts(bad=5, total=5)


async def test_counters_go_on_through_a_promotion(scene: Scene) -> None:
    await scene.send("/", 6)
    before = counts((await scene.settled(6))[0].canary)
    _, new = scene.artifacts
    await scene.target.apply(Desired(new), scene.log)
    await scene.send("/", 4)
    after = counts((await scene.read())[0].baseline)
    assert (after.total - before.total, after.bad) == (4, 0)


async def test_an_arm_that_cannot_be_read_is_none_and_the_other_is_read(scene: Scene) -> None:
    arms: dict[Arm, ArmAddress] = dict((await scene.target.observe()).arms)
    nowhere = {**arms["baseline"].labels, "envoy_admin": "http://127.0.0.1:1"}
    for labels in (nowhere, {**nowhere, "cluster": "slot_z"}, {**arms["baseline"].labels, "cluster": "slot_z"}, {}):
        given: Mapping[Arm, ArmAddress] = {**arms, "baseline": ArmAddress("old-digest", labels)}
        errors, latency = await scene.metrics.scrape(given, [ERRORS, LATENCY])
        assert (errors.baseline, latency.baseline) == (None, None)
        assert errors.canary is not None
        assert latency.canary is not None
    (alone,) = await scene.metrics.scrape({"canary": arms["canary"]}, [ERRORS])
    assert alone.baseline is None


async def test_nothing_that_can_be_read_is_a_broken_tool(scene: Scene) -> None:
    gone = ArmAddress("x", {"envoy_admin": "http://127.0.0.1:1", "cluster": "slot_a"})
    with pytest.raises(BackendError, match="gives no metrics"):
        await scene.metrics.scrape({"canary": gone, "baseline": gone}, [ERRORS])


async def test_no_arms_are_no_error(scene: Scene) -> None:
    (sample,) = await scene.metrics.scrape({}, [ERRORS])
    assert (sample.canary, sample.baseline) == (None, None)


async def test_an_answer_that_is_no_envoys_is_a_broken_tool(context: Context) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n{"stats": [1]}')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        arm = ArmAddress("x", {"envoy_admin": f"http://127.0.0.1:{port}", "cluster": "slot_a"})
        with pytest.raises(BackendError, match="gives no metrics"):
            await EnvoyMetrics(EnvoyMetrics.Options(), context).scrape({"canary": arm}, [ERRORS])
