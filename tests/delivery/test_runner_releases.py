"""Releases from start to end, driven by a real runner over a real journal and backends in memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import backends_in_memory as memory
import pytest

from pithead.delivery import events as e
from pithead.delivery.ports import BackendError, CheckFailed, Desired
from pithead.delivery.state import ServiceState

Works = Any  # conftest.Works: a conftest cannot be imported


def is_over(number: int) -> Any:
    return lambda state: (r := state.release(number)) is not None and r.outcome is not None


def outcome(state: ServiceState, number: int) -> str | None:
    release = state.release(number)
    return release.outcome if release else None


def stages(state: ServiceState, number: int) -> dict[str, str]:
    release = state.release(number)
    assert release is not None
    return {stage.name: stage.state for stage in release.stages}


# ── the good ones ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_good_release_climbs_each_step_and_goes_live(works: Works) -> None:
    await works.start()
    (started,) = await works.press(e.StartRequested(memory.sha(3)))
    assert isinstance(started.payload, e.ReleaseStarted)
    assert started.actor == "ann"
    assert started.payload.commits == (memory.sha(3), memory.sha(2))
    state = await works.until(is_over(2))

    assert outcome(state, 2) == "promoted"
    assert stages(state, 2) == dict.fromkeys(("build", "unit", "canary", "rollout"), "passed")
    assert state.live.artifact == memory.artifact(3)
    assert works.target.weights[:3] == [10, 50, 100]
    await works.until(lambda s: s.target and s.target.stable == memory.artifact(3).digest and s.target.canary is None)
    assert works.target.finished[-1] == Desired(memory.artifact(3))
    await works.until(lambda s: s.pending.base == memory.sha(3))
    assert [c.sha for c in works.state.pending.commits] == [memory.sha(n) for n in (6, 5, 4)]
    assert state.durations.keys() == {"build", "unit", "canary", "rollout"}
    shifts = [(p.step, p.weight) for p in works.payloads(e.TrafficShifted)]
    assert shifts == [(0, 10), (1, 50), (2, 100)]


async def test_every_step_is_journalled_before_traffic_moves(works: Works) -> None:
    seen: list[tuple[Desired, int]] = []
    apply = works.target.apply

    async def watched(desired: Desired, log: Any) -> None:
        journalled = [ev.payload.weight for ev in works.desk.read(0) if isinstance(ev.payload, e.StepEntered)]
        seen.append((desired, journalled[-1] if journalled else 0))
        await apply(desired, log)

    works.target.apply = watched
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.until(is_over(2))
    assert all(known == desired.weight for desired, known in seen if desired.canary is not None)
    assert [desired.weight for desired, _ in seen if desired.canary is not None] == [10, 50, 100]


async def test_the_first_release_says_that_it_has_nothing_to_compare_with_and_goes_straight_through(
    fresh_works: Works,
) -> None:
    await fresh_works.start()
    (started,) = await fresh_works.press(e.StartRequested(memory.sha(1)))
    assert started.payload.is_first
    assert "nothing is live to compare it with" in started.payload.note
    state = await fresh_works.until(is_over(1))
    assert outcome(state, 1) == "promoted"
    assert stages(state, 1)["canary"] == "skipped"
    assert fresh_works.target.stable == memory.artifact(1)
    assert fresh_works.metrics.scrapes == 0


async def test_a_start_without_a_commit_takes_the_newest(works: Works) -> None:
    works.source.commits_made = [replace(c, is_mainline=True) for c in works.source.commits_made]
    await works.start()
    (started,) = await works.press(e.StartRequested(""))
    assert started.payload.commit == memory.sha(6)
    await works.until(is_over(2))


async def test_the_artifact_that_is_live_already_skips_its_canary(works: Works) -> None:
    same = memory.artifact(1)

    async def build(commit: str, *_: object) -> object:
        return replace(same, commit=commit)

    works.builder.build = build
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "promoted"
    assert stages(state, 2)["canary"] == "skipped"
    assert works.target.weights == []


async def test_promote_fully_skips_the_rest_and_is_called_so(works: Works) -> None:
    works.blueprint = replace(works.blueprint, steps=(e.StepPlan(5, 60.0), e.StepPlan(50, 60.0)))
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(lambda s: s.in_flight and s.in_flight.shifted_at)
    answer = await works.press(e.PromoteRequested(state.seq, full=True))
    assert isinstance(answer[0].payload, e.Promoted)
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "fast_promoted"
    assert works.target.weights[:2] == [5, 100]


async def test_a_second_start_waits_in_the_queue_and_begins_when_the_first_has_ended(works: Works) -> None:
    works.builder.gate.clear()
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    (queued,) = await works.press(e.StartRequested(memory.sha(4)))
    assert isinstance(queued.payload, e.ReleaseQueued)
    (refused,) = await works.press(e.StartRequested(memory.sha(4)))
    assert "queued already" in refused.payload.reason
    works.builder.gate.set()
    state = await works.until(is_over(3))
    assert [outcome(state, n) for n in (2, 3)] == ["promoted", "promoted"]
    second = next(ev for ev in works.events() if ev.release == 3 and isinstance(ev.payload, e.ReleaseStarted))
    assert second.payload.base == memory.sha(2), "what release 2 took live is not pending any more"
    assert second.payload.commits == (memory.sha(4), memory.sha(3))
    assert second.actor == "ann"


async def test_a_newer_start_takes_the_place_of_the_queued_one(works: Works) -> None:
    works.builder.gate.clear()
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.press(e.StartRequested(memory.sha(3)))
    await works.press(e.StartRequested(memory.sha(5)))
    state = works.state
    assert outcome(state, 3) == "superseded"
    assert state.queued.commit == memory.sha(5)
    works.builder.gate.set()
    state = await works.until(is_over(4))
    assert outcome(state, 4) == "promoted"


async def test_a_queued_commit_that_went_live_otherwise_is_cancelled_in_words(works: Works) -> None:
    works.builder.gate.clear()
    await works.start()
    await works.press(e.StartRequested(memory.sha(4)))
    await works.press(e.StartRequested(memory.sha(3)))
    works.builder.gate.set()
    state = await works.until(is_over(3))
    assert outcome(state, 2) == "promoted"
    assert outcome(state, 3) == "cancelled"
    assert "not pending any more" in state.release(3).reason


# ── the bad ones ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_canary_with_errors_is_brought_back_and_the_service_locked(works: Works) -> None:
    works.metrics.error_ratio[memory.artifact(2).digest] = 0.2
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "rolled_back"
    assert "errors" in state.release(2).reason
    assert state.lock is not None
    assert "release 2 was rolled back" in state.lock.reason
    assert works.target.weight == 0
    assert works.target.stable == memory.artifact(1)
    assert works.target.canary is None
    assert state.live.release == 1
    assert state.health == "healthy", "the release failed, the service is well"
    assert works.payloads(e.TrafficReturned)
    (refused,) = await works.press(e.StartRequested(memory.sha(3)))
    assert "locked" in refused.payload.reason


async def test_a_canary_that_will_not_run_is_brought_back(works: Works) -> None:
    works.target.will_not_run.add(memory.artifact(2).digest)
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "rolled_back"
    assert "does not get ready" in state.release(2).reason
    assert works.target.weights == []


async def test_a_canary_whose_instances_die_under_traffic_is_brought_back(works: Works) -> None:
    works.blueprint = replace(works.blueprint, steps=(e.StepPlan(5, 60.0),))
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.until(lambda s: s.in_flight and s.in_flight.shifted_at)
    works.target.crash_canary("killed by signal 11, for the third time")
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "rolled_back"
    assert "signal 11" in state.release(2).reason


async def test_a_failed_canary_is_held_where_the_config_says_pause(works: Works) -> None:
    works.blueprint = replace(works.blueprint, on_fail="pause")
    works.metrics.error_ratio[memory.artifact(2).digest] = 0.2
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(lambda s: s.in_flight and s.in_flight.paused)
    assert state.in_flight.paused.reason == "failed"
    assert works.target.weight == 10
    await works.press(e.AbortRequested("no"))
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "aborted"
    assert works.target.weight == 0


async def test_a_failing_test_ends_the_release_before_any_traffic_moves(works: Works) -> None:
    works.commands.results["make test"] = [1]
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "failed"
    assert stages(state, 2) == {"build": "passed", "unit": "failed", "canary": "pending", "rollout": "pending"}
    assert "exit status 1" in state.release(2).reason
    assert not [d for d in works.target.applied if d.canary is not None]
    assert state.lock is None


async def test_a_test_is_tried_again_as_often_as_the_config_says(works: Works) -> None:
    works.blueprint = replace(works.blueprint, tests=(replace(works.blueprint.tests[0], retries=2),))
    works.commands.results["make test"] = [1, CheckFailed("time-out after 5 s."), 0]
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "promoted"
    assert next(s for s in state.release(2).stages if s.name == "unit").detail == "passed at retry 2 of 2"


async def test_a_build_that_says_no_ends_the_release_as_failed(works: Works) -> None:
    works.builder.faults[memory.sha(2)] = CheckFailed("it does not compile.")
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "failed"
    assert stages(state, 2)["build"] == "failed"


@pytest.mark.parametrize(
    "fault",
    [BackendError("no compiler here.", "Install one."), OSError(28, "No space left on device"), ValueError("a bug")],
    ids=["backend", "disk", "bug"],
)
async def test_a_broken_tool_pauses_and_a_retry_goes_on_as_a_new_attempt(works: Works, fault: Exception) -> None:
    works.builder.faults[memory.sha(2)] = fault
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(lambda s: s.in_flight and s.in_flight.paused)
    assert state.in_flight.paused.reason == "error"
    assert stages(state, 2)["build"] == "errored"
    (refused,) = await works.press(e.ResumeRequested(state.seq))
    assert "retry it, or abort" in refused.payload.reason
    works.builder.faults.clear()
    answer = await works.press(e.RetryRequested(works.state.seq))
    assert isinstance(answer[0].payload, e.Retried)
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "promoted"
    assert next(s for s in state.release(2).stages if s.name == "build").attempt == 2


async def test_a_broken_tool_ends_the_release_where_the_config_says_rollback(works: Works) -> None:
    works.blueprint = replace(works.blueprint, on_error="rollback")
    works.builder.faults[memory.sha(2)] = BackendError("no compiler here.")
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "errored"


@pytest.mark.parametrize(
    ("status", "words"), [(127, "not found"), (137, "signal 9"), (-9, "signal 9"), (126, "not exec")]
)
async def test_a_test_that_could_not_run_is_errored_not_failed(works: Works, status: int, words: str) -> None:
    works.commands.results["make test"] = [status]
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(lambda s: s.in_flight and s.in_flight.paused)
    assert stages(state, 2)["unit"] == "errored"
    assert words in state.in_flight.paused.words


async def test_a_target_that_cannot_be_driven_pauses_and_goes_on_once_it_can(works: Works) -> None:
    await works.start()
    await works.until(lambda s: s.target)
    works.target.break_with(BackendError("the proxy does not answer.", "Start it."))
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(lambda s: s.in_flight and s.in_flight.paused)
    assert state.in_flight.paused.reason == "error"
    assert "the proxy does not answer" in state.in_flight.paused.words
    await works.until(lambda s: "target" in s.lost)
    assert works.state.health == "unknown"
    works.target.break_with(None)
    await works.until(lambda s: s.in_flight.shifted_at and not s.lost)
    await works.press(e.ResumeRequested(works.state.seq))
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "promoted"


# ── metrics that are not there ───────────────────────────────────────────────────────────────────────────────────


async def test_lost_metrics_pause_and_never_count_as_a_pass(works: Works) -> None:
    works.metrics.fault = BackendError("the metrics server does not answer.", "Start it.")
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(lambda s: s.in_flight and s.in_flight.paused)
    assert state.in_flight.paused.reason == "error"
    assert state.lost["metrics"].mend == "Start it."
    assert state.in_flight.step == 0

    await works.press(e.ResumeRequested(works.state.seq))  # too early: still nothing to judge by
    state = await works.until(lambda s: s.in_flight.paused)
    assert state.in_flight.step == 0
    assert works.target.weight == 10

    works.metrics.fault = None
    await works.until(lambda s: not s.lost)
    if works.state.in_flight.paused:
        await works.press(e.ResumeRequested(works.state.seq))
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "promoted"


async def test_metrics_lost_on_a_later_step_do_not_let_it_pass_on_what_was_seen_before(works: Works) -> None:
    works.blueprint = replace(works.blueprint, steps=(e.StepPlan(10, 0.05), e.StepPlan(50, 0.01)), bake_seconds=0.01)
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    scrape = works.metrics.scrape

    async def until_the_second_step(arms: Any, metrics: Any) -> Any:
        if works.target.weight >= 50:
            raise BackendError("gone.")
        return await scrape(arms, metrics)

    works.metrics.scrape = until_the_second_step
    state = await works.until(lambda s: s.in_flight is None or s.in_flight.paused)
    assert state.in_flight is not None, works.story()
    assert state.in_flight.paused.reason == "error"
    assert state.in_flight.step == 1


async def test_too_few_requests_hold_the_step_until_they_came(works: Works) -> None:
    works.metrics.requests = 0.0
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(lambda s: s.in_flight and s.in_flight.paused)
    assert state.in_flight.paused.reason == "undecided"
    assert state.in_flight.step == 0
    works.metrics.requests = 1000.0
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "promoted"


async def test_a_promotion_without_evidence_goes_one_step_and_says_so(works: Works) -> None:
    works.metrics.requests = 0.0
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(lambda s: s.in_flight and s.in_flight.paused)
    answer = await works.press(e.PromoteRequested(state.seq))
    assert "without a pass of errors" in answer[0].payload.note
    state = await works.until(lambda s: s.in_flight.step == 1 and s.in_flight.paused)
    assert works.target.weight == 50


# ── abort, pause, roll back ──────────────────────────────────────────────────────────────────────────────────────


async def test_abort_ends_the_build_that_runs(works: Works) -> None:
    works.builder.gate.clear()
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await asyncio.wait_for(works.builder.began.wait(), 20)
    await works.press(e.AbortRequested("not this one"))
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "aborted"
    assert works.builder.cancelled == 1
    assert state.release(2).reason == "not this one"
    assert stages(state, 2)["build"] == "aborted"


async def test_abort_ends_the_test_that_runs(works: Works) -> None:
    works.commands.gate.clear()
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.until(lambda s: s.in_flight and s.in_flight.running_stage and s.in_flight.running_stage.name == "unit")
    await works.press(e.AbortRequested())
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "aborted"


async def test_abort_cuts_an_apply_short_and_takes_the_traffic_away(works: Works) -> None:
    await works.start()
    await works.until(lambda s: s.target)
    works.target.gate.clear()
    works.target.began.clear()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.until(lambda s: s.in_flight and s.in_flight.step == 0)
    while not any(d.canary for d in works.target.applied):
        works.target.began.clear()
        await asyncio.wait_for(works.target.began.wait(), 20)
    await works.press(e.AbortRequested())
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "aborted"
    assert [d.weight for d in works.target.cancelled] == [10]
    assert works.target.finished[-1] == Desired(memory.artifact(1))
    assert works.target.weights == []


async def test_traffic_is_said_to_have_returned_however_quick_it_was(works: Works) -> None:
    works.blueprint = replace(works.blueprint, steps=(e.StepPlan(30, 60.0),))
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.until(lambda s: s.in_flight and s.in_flight.shifted_at)
    await works.press(e.AbortRequested())
    await works.until(is_over(2))
    (returned,) = works.payloads(e.TrafficReturned)
    assert 0 <= returned.seconds < 5
    kinds = [ev.kind for ev in works.events()]
    assert kinds.index("return_began") < kinds.index("traffic_returned") < kinds.index("release_ended", 6)


async def test_the_time_of_a_pause_does_not_count_as_held(works: Works) -> None:
    works.blueprint = replace(works.blueprint, steps=(e.StepPlan(10, 0.5),), bake_seconds=0.0)
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.until(lambda s: s.in_flight and s.in_flight.shifted_at)
    await works.press(e.PauseRequested())
    await asyncio.sleep(0.6)
    assert works.state.in_flight.step == 0
    assert works.state.in_flight.paused is not None
    await works.press(e.ResumeRequested(works.state.seq))
    await works.until(is_over(2))
    at = {type(ev.payload): ev.at for ev in works.events() if ev.release == 2}
    entered = {ev.payload.step: ev.at for ev in works.events() if isinstance(ev.payload, e.StepEntered)}
    shifted = {ev.payload.step: ev.at for ev in works.events() if isinstance(ev.payload, e.TrafficShifted)}
    held = entered[1] - shifted[0] - (at[e.Resumed] - at[e.Paused])
    assert 0.499 <= held < 5.0


async def test_a_pause_during_the_build_holds_before_the_next_stage(works: Works) -> None:
    works.builder.gate.clear()
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.press(e.PauseRequested())
    works.builder.gate.set()
    await works.until(lambda s: s.in_flight.stages[0].state == "passed")
    await asyncio.sleep(0.1)
    assert stages(works.state, 2)["unit"] == "pending"
    await works.press(e.ResumeRequested(works.state.seq))
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "promoted"


async def test_a_finished_release_is_rolled_back_past_every_step_and_locks_the_service(works: Works) -> None:
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.until(is_over(2))
    await works.until(lambda s: s.target.stable == memory.artifact(2).digest)
    before = len(works.target.weights)
    answer = await works.press(e.RollBackRequested(reason="slow checkout"))
    assert isinstance(answer[0].payload, e.ReleaseStarted)
    assert (answer[0].payload.kind, answer[0].payload.to) == ("rollback", 1)
    state = await works.until(is_over(3))

    assert outcome(state, 3) == "promoted"
    assert outcome(state, 2) == "rolled_back"
    assert state.live.artifact == memory.artifact(1)
    assert works.target.weights[before:] == []
    assert works.target.stable == memory.artifact(1)
    assert works.builder.built == [memory.sha(2)], "the artifact was there: nothing is built again"
    assert "slow checkout" in state.lock.reason
    assert state.roll_back_targets == ()


async def test_a_roll_back_works_while_the_service_is_locked(works: Works) -> None:
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.until(is_over(2))
    await works.press(e.LockRequested("freeze"))
    await works.press(e.RollBackRequested())
    state = await works.until(is_over(3))
    assert outcome(state, 3) == "promoted"
    assert state.lock.reason == "freeze"


async def test_a_roll_back_builds_again_when_the_artifact_is_gone(works: Works) -> None:
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.until(is_over(2))
    works.builder.kept.clear()
    await works.press(e.RollBackRequested())
    state = await works.until(is_over(3))
    assert outcome(state, 3) == "promoted"
    assert works.builder.built[-1] == memory.sha(1)


async def test_roll_back_in_flight_aborts_and_locks(works: Works) -> None:
    works.blueprint = replace(works.blueprint, steps=(e.StepPlan(10, 60.0),))
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.until(lambda s: s.in_flight and s.in_flight.shifted_at)
    await works.press(e.RollBackRequested(reason="bad"))
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "aborted"
    assert "bad" in state.lock.reason
    assert works.target.weight == 0


async def test_a_lock_in_flight_holds_the_next_step_but_not_the_way_back(works: Works) -> None:
    works.blueprint = replace(works.blueprint, steps=(e.StepPlan(10, 0.2), e.StepPlan(50, 60.0)))
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.press(e.LockRequested("freeze"))
    await works.until(lambda s: s.in_flight and s.in_flight.shifted_at)
    await asyncio.sleep(0.4)
    assert works.state.in_flight.step == 0
    (refused,) = await works.press(e.PromoteRequested(works.state.seq))
    assert "locked by ann: freeze" in refused.payload.reason
    await works.press(e.UnlockRequested())
    await works.until(lambda s: s.in_flight.step == 1)
    await works.press(e.LockRequested("freeze"))
    await works.press(e.AbortRequested())
    state = await works.until(is_over(2))
    assert outcome(state, 2) == "aborted"


async def test_three_operators_pressing_promote_at_once_advance_one_step(works: Works) -> None:
    works.blueprint = replace(works.blueprint, steps=(e.StepPlan(10, 60.0), e.StepPlan(30, 60.0), e.StepPlan(50, 60.0)))
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    state = await works.until(lambda s: s.in_flight and s.in_flight.shifted_at)
    answers = await asyncio.gather(*(works.press(e.PromoteRequested(state.seq)) for _ in range(3)))
    firsts = [answer[0].payload for answer in answers]
    assert [type(p) for p in firsts].count(e.Promoted) == 1
    assert all("stale" in p.reason for p in firsts if isinstance(p, e.Refused))
    assert works.state.in_flight.step == 1
