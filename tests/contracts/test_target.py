"""The contract of `Target`: instances that are ready before they serve, traffic that moves without a dropped request,
and orders that converge whatever happened before."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest
from left_clean import processes_in
from live_service import START, Answer, Users, artifact_of, get, until

from pithead.backends.envoy_admin import EnvoyAdmin
from pithead.backends.process import ProcessTarget
from pithead.delivery.ports import Artifact, BackendError, CheckFailed, Context, Desired, Observed, Target

Make = Callable[..., Target]


@pytest.fixture(params=[ProcessTarget])
async def make(request: pytest.FixtureRequest, context: Context) -> AsyncIterator[Make]:
    """Targets that stand for the same place; whatever runs there is gone after the test."""
    backend = request.param

    def made(**options: object) -> Target:
        readiness = {"path": "/health", "timeout": "20s"}
        given = {"command": START, "readiness": readiness, "stop_grace": "1s", **options}
        target: Target = backend(backend.Options.model_validate(given), context)
        return target

    yield made
    await made().teardown()  # type: ignore[attr-defined]


@pytest.fixture
def target(make: Make) -> Target:
    return make()


@pytest.fixture
def old(tmp_path: Path) -> Artifact:
    return artifact_of(tmp_path / "artifacts", "old", seconds=0.01)


@pytest.fixture
def new(tmp_path: Path) -> Artifact:
    return artifact_of(tmp_path / "artifacts", "new", seconds=0.01)


AGAIN = [("ready", 0), ("ready", 1)]


def arms(observed: Observed) -> list[tuple[str, str, str]]:
    return sorted((instance.digest, instance.arm, instance.state) for instance in observed.instances)


def share(answers: Sequence[Answer], commit: str) -> float:
    return sum(answer.commit == commit for answer in answers) / len(answers)


async def watched(target: Target, holds: Callable[[Observed], bool], seconds: float = 40.0) -> Observed:
    """The first thing seen by watching for which it holds."""
    async with asyncio.timeout(seconds), aclosing(target.watch()) as stream:  # type: ignore[type-var]
        async for observed in stream:
            if holds(observed):
                return observed
    raise AssertionError("the watch ended")


async def seen(target: Target, holds: Callable[[Observed], bool]) -> None:
    """Waits until it holds for what is observed."""

    async def asked() -> bool:
        return holds(await target.observe())

    await until(asked)


async def requests_in_hand(target: Target, count: int) -> None:
    """Waits until the canary's instances have so many requests in hand."""
    canary = (await target.observe()).arms["canary"].labels

    async def asked() -> bool:
        hosts = await EnvoyAdmin(canary["envoy_admin"]).hosts(canary["cluster"])
        return sum(host.active_requests for host in hosts.values()) >= count

    await until(asked)


async def test_nothing_is_there_before_the_first_order(target: Target) -> None:
    assert await target.observe() == Observed()


async def test_the_first_release_has_all_instances_and_all_traffic(target: Target, old: Artifact, lines: Any) -> None:
    await target.apply(Desired(old), lines)
    observed = await target.observe()
    assert arms(observed) == [("old-digest", "baseline", "ready")] * 2
    assert (observed.stable, observed.canary, observed.weight) == ("old-digest", None, 0)
    assert observed.wanted_instances == 2
    assert list(observed.arms) == ["baseline"]
    assert (await get(observed.address)).commit == "old"


async def test_the_same_order_again_changes_nothing(make: Make, old: Artifact, new: Artifact, lines: Any) -> None:
    for desired in (Desired(old), Desired(old, new, 50)):
        await make().apply(desired, lines)
        before = await make().observe()
        await make().apply(desired, lines)
        assert await make().observe() == before


async def test_a_canary_of_weight_zero_runs_and_gets_nothing(
    target: Target, old: Artifact, new: Artifact, lines: Any
) -> None:
    await target.apply(Desired(old), lines)
    await target.apply(Desired(old, new, 0), lines)
    observed = await target.observe()
    assert ("new-digest", "canary", "ready") in arms(observed)
    assert (observed.canary, observed.weight) == ("new-digest", 0)
    async with Users(observed.address) as users:
        await users.some(200)
    assert not users.of("new")
    assert not users.failures


async def test_a_canary_has_its_share_of_the_instances(make: Make, old: Artifact, new: Artifact, lines: Any) -> None:
    target = make(instances=4)
    for weight, count in [(1, 1), (26, 2), (20, 1), (100, 4), (75, 4), (40, 3)]:
        await target.apply(Desired(old, new, weight), lines)
        observed = await target.observe()
        assert [arm for _, arm, _ in arms(observed)].count("canary") == count
        assert [arm for _, arm, _ in arms(observed)].count("baseline") == 4
        assert observed.wanted_instances == 4 + count


async def test_a_whole_release_and_the_way_back_drop_no_request(
    target: Target, old: Artifact, new: Artifact, lines: Any
) -> None:
    await target.apply(Desired(old), lines)
    address = (await target.observe()).address
    async with Users(address) as users:
        for weight in (0, 10, 50, 100):
            await target.apply(Desired(old, new, weight), lines)
            assert (await target.observe()).weight == weight
            answers = await users.some(400)
            assert abs(share(answers, "new") - weight / 100) <= (0 if weight in (0, 100) else 0.09)
        await target.apply(Desired(new), lines)
        assert share(await users.some(100), "new") == 1
        assert arms(await target.observe()) == [("new-digest", "baseline", "ready")] * 2
        await target.apply(Desired(old), lines)
        assert share(await users.some(100), "old") == 1
    assert users.failures == []
    assert (await target.observe()).address == address


async def test_promotion_starts_no_instance_anew(target: Target, old: Artifact, new: Artifact, lines: Any) -> None:
    await target.apply(Desired(old, new, 100), lines)
    before = {i.name: i.started_at for i in (await target.observe()).instances if i.digest == new.digest}
    await target.apply(Desired(new), lines)
    assert {i.name: i.started_at for i in (await target.observe()).instances} == before


async def test_a_fast_promotion_has_all_instances_before_it_has_the_traffic(
    make: Make, old: Artifact, new: Artifact, lines: Any
) -> None:
    target = make(instances=3)
    await target.apply(Desired(old, new, 10), lines)
    async with Users((await target.observe()).address) as users:
        await target.apply(Desired(new), lines)
        await users.some(100)
    assert users.failures == []
    assert arms(await target.observe()) == [("new-digest", "baseline", "ready")] * 3


async def test_a_rollback_takes_the_traffic_away_at_once(
    target: Target, old: Artifact, new: Artifact, lines: Any, record_property: Callable[[str, object], None]
) -> None:
    await target.apply(Desired(old), lines)
    address = (await target.observe()).address
    delays = []
    async with Users(address) as users:
        for _ in range(5):
            await target.apply(Desired(old, new, 50), lines)
            await users.some(50)
            asked = time.monotonic()
            await target.apply(Desired(old), lines)
            assert share(await users.some(50), "old") == 1
            delays.append(max(answer.ended for answer in users.of("new")) - asked)
    assert users.failures == []
    record_property("last_canary_answer_ms", [round(1000 * delay, 1) for delay in delays])
    assert max(delays) < 0.2


async def test_a_rollback_waits_for_no_other_order(make: Make, old: Artifact, new: Artifact, lines: Any) -> None:
    await make().apply(Desired(old, new, 100), lines)
    address = (await make().observe()).address
    long = [asyncio.create_task(get(address, "/sleep/2.5")) for _ in range(8)]
    await requests_in_hand(make(), 8)
    # Down to 10 % one of the two instances has to go, and that waits for the requests that it has in hand.
    lowering = asyncio.create_task(make(drain="20s").apply(Desired(old, new, 10), lines))
    async with Users(address) as users:
        await seen(make(), lambda found: any(instance.state == "stopping" for instance in found.instances))
        asked = time.monotonic()
        rollback = asyncio.create_task(make(drain="20s").apply(Desired(old), lines))
        await seen(make(), lambda found: found.weight == 0)
        assert time.monotonic() - asked < 0.5
        assert not lowering.done()
        await users.some(50)
        assert max(answer.ended for answer in users.of("new")) - asked < 0.5
        with pytest.raises(BackendError, match="newer order"):
            await lowering
        await rollback
    assert users.failures == []
    assert {answer.status for answer in await asyncio.gather(*long)} == {200}
    assert [arm for _, arm, _ in arms(await make().observe())] == ["baseline"] * 2


async def test_a_rollback_ends_a_wait_for_instances_that_start_slowly(
    make: Make, old: Artifact, tmp_path: Path, lines: Any
) -> None:
    slow = artifact_of(tmp_path / "artifacts", "slow", start_seconds=60)
    await make().apply(Desired(old), lines)
    starting = asyncio.create_task(make().apply(Desired(old, slow, 10), lines))
    await seen(make(), lambda found: len(found.instances) == 3)
    asked = time.monotonic()
    await make().apply(Desired(old), lines)
    assert time.monotonic() - asked < 5
    with pytest.raises(BackendError, match="newer order"):
        await starting
    assert arms(await make().observe()) == [("old-digest", "baseline", "ready")] * 2


async def test_fewer_instances_drop_no_request(make: Make, old: Artifact, new: Artifact, lines: Any) -> None:
    target = make(instances=4)
    await target.apply(Desired(old, new, 100), lines)
    async with Users((await target.observe()).address) as users:
        for weight in (30, 100, 60, 20):
            await target.apply(Desired(old, new, weight), lines)
            await users.some(30)
        await make(instances=1).apply(Desired(old, new, 20), lines)
        await users.some(30)
    assert users.failures == []
    assert len((await target.observe()).instances) == 2


async def test_long_requests_are_finished_before_an_instance_goes(
    make: Make, old: Artifact, new: Artifact, lines: Any
) -> None:
    target = make(drain="10s")
    await target.apply(Desired(old, new, 100), lines)
    address = (await target.observe()).address
    long = asyncio.create_task(get(address, "/sleep/1.5"))
    await requests_in_hand(target, 1)
    await target.apply(Desired(old), lines)
    answer = await long
    assert (answer.status, answer.commit) == (200, "new")


async def test_an_artifact_may_be_its_own_canary(target: Target, old: Artifact, lines: Any) -> None:
    await target.apply(Desired(old, old, 50), lines)
    observed = await target.observe()
    assert sorted(arm for _, arm, _ in arms(observed)) == ["baseline", "baseline", "canary", "canary"]
    assert observed.weight == 50
    await target.apply(Desired(old), lines)
    assert arms(await target.observe()) == [("old-digest", "baseline", "ready")] * 2


async def test_any_order_follows_on_any_other_without_a_dropped_request(
    target: Target, old: Artifact, new: Artifact, tmp_path: Path, lines: Any
) -> None:
    other = artifact_of(tmp_path / "artifacts", "other", seconds=0.01)
    orders = [
        Desired(old, new, 30),
        Desired(other),
        Desired(old, new, 30),
        Desired(old, other, 60),
        Desired(other, old, 20),
        Desired(new, old, 70),
        Desired(other, new, 10),
        Desired(other, new, 100),
        Desired(other, new, 30),
        Desired(new),
        Desired(old, other, 100),
    ]
    await target.apply(Desired(old), lines)
    async with Users((await target.observe()).address) as users:
        for desired in orders:
            await target.apply(desired, lines)
            observed = await target.observe()
            assert desired.stable is not None
            assert observed.stable == desired.stable.digest
            assert observed.canary == (desired.canary and desired.canary.digest)
            assert observed.weight == desired.weight
            assert {state for _, _, state in arms(observed)} == {"ready"}
            assert len(observed.instances) == observed.wanted_instances
            await users.some(30)
    assert users.failures == []


async def test_an_empty_order_ends_everything_and_the_address_is_kept(
    make: Make, old: Artifact, new: Artifact, lines: Any, tmp_path: Path
) -> None:
    await make().apply(Desired(old, new, 50), lines)
    address = (await make().observe()).address
    await make().apply(Desired(), lines)
    assert (await make().observe()).instances == ()
    assert processes_in(tmp_path) == []
    await make().apply(Desired(new), lines)
    assert (await make().observe()).address == address
    assert (await get(address)).commit == "new"


@pytest.mark.parametrize(
    ("manners", "options", "words"),
    [
        ({"exit": 3}, {}, ["ended with exit status 3", "fatal: no database"]),
        ({"never_listen": True}, {"readiness": {"timeout": "1s"}}, ["not ready within 1s", "nothing listens"]),
        ({"health": 500}, {"readiness": {"path": "/health", "timeout": "1s"}}, ["GET /health answered 500"]),
        ({}, {"command": "./no-such-program {port}"}, ["`./no-such-program {port}` was not found"]),
        ({"ignore_sigterm": True, "health": 500}, {"readiness": {"path": "/health", "timeout": "1s"}}, ["500"]),
    ],
    ids=["exits", "never listens", "unhealthy", "missing command", "ignores SIGTERM"],
)
async def test_a_canary_that_will_not_run_is_refused_and_leaves_no_trace(
    make: Make,
    old: Artifact,
    tmp_path: Path,
    lines: Any,
    manners: dict[str, Any],
    options: dict[str, Any],
    words: list[str],
) -> None:
    await make().apply(Desired(old), lines)
    before = await make().observe()
    bad = artifact_of(tmp_path / "artifacts", "bad", **manners)
    options = {"instances": 2, **options}
    if "command" in options:
        # The live one runs on: only the new one is started this way.
        bad = artifact_of(tmp_path / "artifacts", "worse")
        options["command"] = f"cd {bad.location} && {options['command']}"
        words = ["was not found", "no-such-program"]
        with pytest.raises(CheckFailed) as refusal:
            await make(**options).apply(Desired(bad), lines)
    else:
        async with Users(before.address) as users:
            with pytest.raises(CheckFailed) as refusal:
                await make(**options).apply(Desired(old, bad, 50), lines)
        assert users.failures == []
        assert len(users.of("old")) == len(users.answers)
    for word in words:
        assert word in str(refusal.value)
    assert arms(await make().observe()) == arms(before)
    assert processes_in(Path(bad.location)) == []


async def test_a_first_release_that_will_not_run_leaves_nothing(target: Target, tmp_path: Path, lines: Any) -> None:
    bad = artifact_of(tmp_path / "artifacts", "bad", exit=1)
    with pytest.raises(CheckFailed):
        await target.apply(Desired(bad), lines)
    assert (await target.observe()).instances == ()
    good = artifact_of(tmp_path / "artifacts", "good")
    await target.apply(Desired(good), lines)
    assert (await get((await target.observe()).address)).commit == "good"


async def test_an_instance_that_lost_its_port_to_another_gets_a_new_one(
    target: Target, tmp_path: Path, lines: Any
) -> None:
    unlucky = artifact_of(tmp_path / "artifacts", "unlucky", lost_port=str(tmp_path / "lost"))
    await target.apply(Desired(unlucky), lines)
    assert arms(await target.observe()) == [("unlucky-digest", "baseline", "ready")] * 2


async def test_an_artifact_that_is_gone_is_not_the_commits_fault(target: Target, tmp_path: Path, lines: Any) -> None:
    with pytest.raises(BackendError, match=r"not at .* any more"):
        await target.apply(Desired(Artifact("gone-digest", "gone", str(tmp_path / "gone"))), lines)


async def test_who_ignores_sigterm_is_killed_and_its_children_with_it(
    make: Make, old: Artifact, tmp_path: Path, lines: Any
) -> None:
    stubborn = artifact_of(tmp_path / "artifacts", "stubborn", ignore_sigterm=True, leave_child=True)
    await make().apply(Desired(stubborn), lines)
    assert len(processes_in(Path(stubborn.location))) == 4
    await make(stop_grace="300ms").apply(Desired(old), lines)
    assert processes_in(Path(stubborn.location)) == []


async def test_an_instance_that_dies_is_started_again_while_somebody_watches(
    make: Make, old: Artifact, lines: Any
) -> None:
    target = make()
    await target.apply(Desired(old), lines)
    address = (await target.observe()).address
    victim = await _pid(address)
    psutil.Process(victim).kill()
    await watched(target, lambda found: sorted((i.state, i.restarts) for i in found.instances) == AGAIN)
    async with Users(address) as users:
        await users.some(100)
    assert users.failures == []


async def _pid(address: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    body = (await reader.read()).split()[-1]
    writer.close()
    return int(body)


async def test_an_instance_that_keeps_dying_is_called_failing(make: Make, tmp_path: Path, lines: Any) -> None:
    target = make(restart_limit=1, instances=1)
    service = artifact_of(tmp_path / "artifacts", "service")
    await target.apply(Desired(service), lines)
    (Path(service.location) / "manners.json").write_text('{"exit": 9}')
    psutil.Process(await _pid((await target.observe()).address)).kill()
    observed = await watched(
        target, lambda found: "started again in" in found.instances[0].detail and _is_failing(found)
    )
    assert "exit status 9" in observed.instances[0].detail


def _is_failing(observed: Observed) -> bool:
    return observed.instances[0].state == "failing" and observed.instances[0].restarts >= 1


async def test_an_instance_that_is_not_ready_any_more_gets_no_requests(
    target: Target, tmp_path: Path, lines: Any
) -> None:
    sick = tmp_path / "sick"
    service = artifact_of(tmp_path / "artifacts", "service", sick=str(sick))
    await target.apply(Desired(service), lines)
    sick.touch()
    await watched(target, lambda found: {i.state for i in found.instances} == {"failing"})
    assert (await get((await target.observe()).address)).status == 200, "rather a doubtful instance than none"
    sick.unlink()
    await watched(target, lambda found: {i.state for i in found.instances} == {"ready"})


async def test_a_proxy_that_dies_is_started_again_with_the_weight_it_had(
    target: Target, old: Artifact, new: Artifact, lines: Any, tmp_path: Path
) -> None:
    await target.apply(Desired(old, new, 50), lines)
    before = await target.observe()
    (proxy,) = [process for process in processes_in(tmp_path) if "envoy" in process.name()]
    proxy.kill()
    proxy.wait()
    assert "not running" in (await target.observe()).note
    observed = await watched(target, lambda found: found.weight == 50 and not found.note)
    assert observed.address == before.address
    async with Users(observed.address) as users:
        answers = await users.some(200)
    assert 0.3 < share(answers, "new") < 0.7


async def test_a_watch_tells_of_every_change_and_of_nothing_else(
    target: Target, old: Artifact, new: Artifact, lines: Any
) -> None:
    told: list[Observed] = []

    async def watch() -> None:
        async for observed in target.watch():
            told.append(observed)

    async def has_weight_40() -> bool:
        return bool(told) and told[-1].weight == 40

    watching = asyncio.create_task(watch())
    try:
        await target.apply(Desired(old), lines)
        await target.apply(Desired(old, new, 40), lines)
        await until(has_weight_40)
        count = len(told)
        await asyncio.sleep(1.5)
        assert len(told) == count
        assert all(one != two for one, two in itertools.pairwise(told))
    finally:
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching


async def test_an_order_that_was_cancelled_anywhere_is_put_right_by_the_next(
    make: Make, old: Artifact, new: Artifact, lines: Any
) -> None:
    target = make(stop_grace="300ms")
    await target.apply(Desired(old), lines)
    orders = [Desired(old, new, 50), Desired(new), Desired(old), Desired(old, new, 10), Desired(new, old, 30)]
    chance = random.Random(7)
    async with Users((await target.observe()).address, rate=100) as users:
        for turn in range(25):
            order = asyncio.create_task(target.apply(orders[turn % len(orders)], lines))
            await asyncio.sleep(chance.uniform(0, 0.25))
            order.cancel()
            await asyncio.wait({order})
        await target.apply(Desired(old, new, 20), lines)
        await users.some(50)
    observed = await target.observe()
    assert users.failures == []
    assert arms(observed) == [("new-digest", "canary", "ready"), *[("old-digest", "baseline", "ready")] * 2]
    assert observed.weight == 20


APPLYING = """
import asyncio, json, sys
from pathlib import Path
from pithead.backends.envoy_admin import EnvoyAdmin
from pithead.backends.process import ProcessTarget
from pithead.delivery.ports import Artifact, Context, Desired

class Quiet:
    async def write(self, lines): pass

async def main(folder, options, orders):
    target = ProcessTarget(ProcessTarget.Options.model_validate(options), Context("shop", Path(folder), Path(folder)))
    print("ready", flush=True)
    for stable, canary, weight in orders:
        desired = Desired(Artifact(*stable), Artifact(*canary) if canary else None, weight)
        await target.apply(desired, Quiet())

asyncio.run(main(*json.loads(sys.stdin.read())))
"""


async def test_an_order_whose_process_was_killed_anywhere_is_put_right_from_another(
    make: Make, old: Artifact, new: Artifact, lines: Any, context: Context, tmp_path: Path
) -> None:
    program = tmp_path / "applying.py"
    program.write_text(APPLYING)
    plain = [list(dataclasses.astuple(artifact)) for artifact in (old, new)]
    orders = [(plain[0], plain[1], 50), (plain[1], None, 0), (plain[0], None, 0)] * 3
    options = {"command": START, "readiness": {"path": "/health"}, "stop_grace": "300ms"}
    target = make(stop_grace="300ms")
    await target.apply(Desired(old), lines)
    chance = random.Random(11)
    async with Users((await target.observe()).address, rate=100) as users:
        for _ in range(8):
            runner = await asyncio.create_subprocess_exec(sys.executable, str(program), stdin=-1, stdout=-1)
            assert runner.stdin is not None
            assert runner.stdout is not None
            runner.stdin.write(json.dumps([str(context.state_folder), options, orders]).encode())
            runner.stdin.close()
            await runner.stdout.readline()
            await asyncio.sleep(chance.uniform(0, 0.5))
            runner.send_signal(signal.SIGKILL)
            await runner.wait()
        await target.apply(Desired(old, new, 20), lines)
        await users.some(50)
    observed = await target.observe()
    assert users.failures == []
    assert arms(observed) == [("new-digest", "canary", "ready"), *[("old-digest", "baseline", "ready")] * 2]
    services = processes_in(tmp_path / "artifacts")
    assert len(services) == 3, "an instance that nobody wrote down was ended"


async def test_several_services_live_on_one_machine(
    make: Make, old: Artifact, new: Artifact, tmp_path: Path, lines: Any
) -> None:
    (tmp_path / "another").mkdir()
    options = ProcessTarget.Options.model_validate({"command": START})
    another = ProcessTarget(options, Context("another", tmp_path / "another", tmp_path))
    one = make()
    try:
        await asyncio.gather(one.apply(Desired(old), lines), another.apply(Desired(new), lines))
        first, second = (await one.observe()).address, (await another.observe()).address
        assert ((await get(first)).commit, (await get(second)).commit) == ("old", "new")
    finally:
        await another.teardown()
    assert (await get(first)).commit == "old"


@pytest.mark.parametrize("weight", [-1, 101])
async def test_an_impossible_weight_is_refused(target: Target, old: Artifact, lines: Any, weight: int) -> None:
    with pytest.raises(BackendError, match="not possible"):
        await target.apply(Desired(old, old, weight), lines)


async def test_it_can_be_checked_before_and_after(make: Make, old: Artifact, lines: Any) -> None:
    assert all(finding.is_well for finding in await make().check())
    await make().apply(Desired(old), lines)
    assert all(finding.is_well for finding in await make().check())
    bad = await make(command="no-such-program").check()
    assert [finding.subject for finding in bad if not finding.is_well] == ["start command"]
