"""A runner may be cut off after any event, its backends may go away and come back: the release goes on to its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import backends_in_memory as memory
import pytest

from pithead.delivery import convergence, lease
from pithead.delivery import events as e
from pithead.delivery.events import Event, NewEvent
from pithead.delivery.journal import Journal, LeaseLostError
from pithead.delivery.ports import BackendError, Desired

Works = Any  # conftest.Works: a conftest cannot be imported


class CutOff(Journal):
    """Takes events up to the seq `last`, and then nothing more, as if the process had been killed right there."""

    def __init__(self, url: str, last: int) -> None:
        super().__init__(url, "shop")
        self._last = last
        self._turn = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self.is_cut = asyncio.Event()

    def append(self, new: Sequence[NewEvent], epoch: int | None = None) -> tuple[Event, ...]:
        with self._turn:
            if self.head() >= self._last:
                self._loop.call_soon_threadsafe(self.is_cut.set)
                raise LeaseLostError("cut off")
            placed = super().append(new, epoch)
            if placed[-1].seq >= self._last:
                self._loop.call_soon_threadsafe(self.is_cut.set)
            return placed


async def one_release(works: Works) -> None:
    await works.until(lambda s: (r := s.release(2)) is not None and r.outcome is not None)
    await works.until(lambda s: s.target and s.target.canary is None and s.target.stable == s.live.artifact.digest)


async def test_a_runner_cut_off_after_any_event_is_succeeded_by_one_that_ends_the_release(
    works: Works, tmp_path: Any
) -> None:
    """After each one of the events of a good release: the next runner promotes it, with nothing lost and nothing twice."""
    last = works.desk.head() + 2  # the start command, and the first event of the runner
    cuts = 0
    while True:
        here = type(works)(tmp_path / str(cuts))
        here.release_live(1)
        here.blueprint = replace(
            here.blueprint, steps=(e.StepPlan(10, 0.02), e.StepPlan(50, 0.02)), bake_seconds=0.02, interval_seconds=0.01
        )
        here.desk.append([NewEvent("ann", e.StartRequested(memory.sha(2)))])
        cut_off = CutOff(here.url, last)
        await here.start(cut_off)
        over = asyncio.ensure_future(one_release(here))
        cut = asyncio.ensure_future(cut_off.is_cut.wait())
        await asyncio.wait({over, cut}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        was_cut = cut.done()
        over.cancel()
        cut.cancel()
        await asyncio.wait({over, cut})
        await here.stop(None)
        if not was_cut:
            here.desk.close()
            break
        head = here.desk.head()
        await here.start()
        await one_release(here)
        await here.stop()
        events = here.events()
        state = here.desk.fold()
        kinds = [event.kind for event in events if event.seq > 5]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert len(events) > head
        assert state.release(2).outcome == "promoted", (last, here.story())
        assert state.live.artifact == memory.artifact(2)
        assert here.target.finished[-1] == Desired(memory.artifact(2)), (last, here.story())
        for once in ("release_started", "artifact_built", "went_live", "release_ended"):
            assert kinds.count(once) == 1, (last, once, here.story())
        steps = [event.payload.step for event in events if isinstance(event.payload, e.StepEntered)]
        assert steps == [0, 1, 2], (last, here.story())
        assert not state.unanswered
        here.desk.close()
        cuts += 1
        last += 1
    assert cuts >= 20, "the loop did not go over the whole release"


async def test_a_runner_cut_off_while_traffic_returns_is_succeeded_by_one_that_brings_it_back(
    works: Works, tmp_path: Any
) -> None:
    for more in range(1, 5):
        here = type(works)(tmp_path / str(more))
        here.release_live(1)
        here.blueprint = replace(here.blueprint, steps=(e.StepPlan(30, 60.0),))
        await here.start()
        await here.press(e.StartRequested(memory.sha(2)))
        await here.until(lambda s: s.in_flight and s.in_flight.shifted_at)
        await here.stop(None)
        here.desk.append([NewEvent("ann", e.AbortRequested("no"))])
        cut_off = CutOff(here.url, here.desk.head() + more)
        await here.start(cut_off)
        await asyncio.wait_for(cut_off.is_cut.wait(), 20)
        await here.stop(None)
        await here.start()
        await one_release(here)
        assert here.state.release(2).outcome == "aborted", here.story()
        assert here.target.weight == 0
        assert here.target.canary is None
        await here.stop()
        here.desk.close()


async def test_a_build_that_was_running_is_begun_again_as_a_new_attempt(works: Works) -> None:
    works.builder.gate.clear()
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await asyncio.wait_for(works.builder.began.wait(), 20)
    await works.stop(None)
    works.builder.gate.set()
    await works.start()
    await one_release(works)
    build = next(s for s in works.state.release(2).stages if s.name == "build")
    assert (build.state, build.attempt) == ("passed", 2)


async def test_a_new_runner_goes_on_with_the_evidence_of_the_one_before(works: Works) -> None:
    works.blueprint = replace(works.blueprint, steps=(e.StepPlan(10, 60.0),))
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.until(lambda s: s.in_flight and "errors" in s.in_flight.verdicts)
    await works.until(lambda s: s.in_flight.verdicts["errors"].word == "pass")
    await works.stop(None)
    works.metrics.requests = 0.0
    await works.start()
    scrapes = works.metrics.scrapes
    while works.metrics.scrapes < scrapes + 4:
        await works.metrics.changing.next.wait()
    assert works.state.in_flight.verdicts["errors"].word == "pass"
    assert [p.verdict for p in works.payloads(e.VerdictReached)][-1] == "pass"


async def test_the_hold_time_goes_on_where_the_runner_before_left_it(works: Works) -> None:
    works.blueprint = replace(works.blueprint, steps=(e.StepPlan(10, 1.0),), bake_seconds=0.0)
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await works.until(lambda s: s.in_flight and s.in_flight.shifted_at)
    await works.stop(None)
    await works.start()
    await one_release(works)
    shifted = [ev.at for ev in works.events() if isinstance(ev.payload, e.TrafficShifted)]
    assert len(shifted) == 2, "one for the step, one for the bake: not one for each runner"
    entered = [ev.at for ev in works.events() if isinstance(ev.payload, e.StepEntered)]
    assert entered[1] - shifted[0] >= 0.999
    assert entered[1] - shifted[0] < 4.0


async def test_a_command_that_came_while_no_runner_was_there_is_answered_by_the_next(works: Works) -> None:
    (asked,) = works.desk.append([NewEvent("ann", e.LockRequested("freeze"))])
    await works.start()
    state = await works.until(lambda s: s.lock)
    assert (state.lock.by, state.lock.reason) == ("ann", "freeze")
    assert [ev.kind for ev in works.events() if ev.cause == asked.seq] == ["locked"]


async def test_a_second_runner_gets_no_lease(works: Works) -> None:
    await works.start()
    other = Journal(works.url, "shop")
    assert lease.take(other, "second") is None
    other.close()


async def test_a_runner_whose_lease_was_taken_ends_without_writing_a_word(works: Works) -> None:
    import sqlalchemy

    from pithead.delivery.journal_tables import leases

    await works.start()
    await works.until(lambda s: s.target and s.pending)
    with works.desk.writing() as connection:
        connection.execute(sqlalchemy.update(leases).values(epoch=99))
    head = works.desk.head()
    works.desk.append([NewEvent("ann", e.LockRequested("anybody there?"))])
    await works.ended()
    assert works.desk.head() == head + 1
    assert works.desk.fold().unanswered


async def test_two_runners_on_one_journal_never_both_write(works: Works) -> None:
    """The first is stalled, the second takes over; what the first still wants to write is refused."""
    await works.start()
    await works.until(lambda s: s.target and s.pending)
    first, stalled = works.runner, works._task
    lease.give_up(works._journal, works._holder)
    works._task = None
    await works.start()
    await works.press(e.StartRequested(memory.sha(2)))
    await asyncio.wait_for(asyncio.shield(stalled), 20)
    await one_release(works)
    assert first is not works.runner
    epochs = [p.epoch for p in works.payloads(e.RunnerStarted)]
    assert epochs == [1, 2]
    answers = [ev for ev in works.events() if ev.cause is not None]
    assert len({ev.cause for ev in answers}) == 1


@pytest.mark.parametrize("what", ["target", "source"])
async def test_a_backend_lost_while_idle_is_told_once_and_its_return_once(
    works: Works, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pithead.delivery.runner.FIRST_BACKOFF_SECONDS", 0.02)
    await works.start()
    await works.until(lambda s: s.target and s.pending)
    backend = getattr(works, what)
    backend.break_with(BackendError("it does not answer.", "Start it."))
    state = await works.until(lambda s: what in s.lost)
    assert (state.lost[what].message, state.lost[what].mend) == ("it does not answer.", "Start it.")
    await asyncio.sleep(0.3)  # it is tried again several times
    head = works.desk.head()
    backend.break_with(None)
    await works.until(lambda s: what not in s.lost)
    await asyncio.sleep(0.1)
    assert [p.backend for p in works.payloads(e.BackendLost)] == [what]
    assert [p.backend for p in works.payloads(e.BackendBack)] == [what]
    assert works.desk.head() <= head + 2


async def test_an_idle_runner_writes_nothing(works: Works) -> None:
    await works.start()
    await works.until(lambda s: s.target and s.pending)
    await asyncio.sleep(0.2)
    head = works.desk.head()
    await asyncio.sleep(0.6)
    assert works.desk.head() == head


async def test_a_target_that_was_lost_before_this_runner_came_is_found_again(fresh_works: Works) -> None:
    """Nothing is live, so nothing is applied: seeing it is enough."""
    fresh_works.desk.append([NewEvent("runner", e.BackendLost("target", "gone."))])
    await fresh_works.start()
    await fresh_works.until(lambda s: s.target and not s.lost)


async def test_a_journal_without_a_past_takes_nothing_down(fresh_works: Works) -> None:
    fresh_works.target.stable = memory.artifact(1)
    await fresh_works.start()
    await fresh_works.until(lambda s: s.target and s.pending)
    await asyncio.sleep(0.1)
    assert fresh_works.target.applied == []


async def test_a_new_head_is_listed_without_being_asked_for(works: Works) -> None:
    await works.start()
    await works.until(lambda s: s.pending and len(s.pending.commits) == 5)
    works.source.push(memory.commit(7))
    state = await works.until(lambda s: len(s.pending.commits) == 6)
    assert state.pending.head == memory.sha(7)


async def test_a_fault_in_deciding_answers_the_command_all_the_same(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one command that trips the program would keep every later one waiting."""
    await works.start()
    await works.until(lambda s: s.target and s.pending)

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("pithead.delivery.decisions.plan_forward", broken)
    (refused,) = await works.press(e.StartRequested(memory.sha(2)))
    assert isinstance(refused.payload, e.Refused)
    assert "a bug" in refused.payload.reason
    (locked,) = await works.press(e.LockRequested("still here"))
    assert isinstance(locked.payload, e.Locked)


async def test_what_somebody_changed_at_the_target_by_hand_is_put_right(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convergence, "DRIFT_SECONDS", 0.02)
    await works.start()
    await works.until(lambda s: s.target and s.live and s.target.stable == s.live.artifact.digest)
    applied = len(works.target.finished)
    live, works.target.stable = works.target.stable, None
    works.target.break_with(None)  # lets the watch see it
    await works.until(lambda s: s.target and s.target.stable is None)
    await works.until(lambda s: s.target and s.live and s.target.stable == s.live.artifact.digest)
    assert works.target.stable == live
    assert len(works.target.finished) == applied + 1
