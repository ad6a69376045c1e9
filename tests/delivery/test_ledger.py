"""The runner's one way to decide: nothing between the state and the record, whatever is cancelled or full."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from pithead.delivery import events as e
from pithead.delivery import lease
from pithead.delivery.events import Event, NewEvent
from pithead.delivery.journal import Journal, JournalError, LeaseLostError
from pithead.delivery.ledger import Ledger
from pithead.delivery.state import ServiceState


class Held(Journal):
    """A disk that a test can hold, or fill up."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "shop")
        self.gate = threading.Event()
        self.gate.set()
        self.began = asyncio.Event()
        self.failures = 0
        self._loop = asyncio.get_running_loop()

    def append(self, new: Sequence[NewEvent], epoch: int | None = None) -> tuple[Event, ...]:
        self._loop.call_soon_threadsafe(self.began.set)
        assert self.gate.wait(20)
        if self.failures:
            self.failures -= 1
            raise JournalError("the disk is full.")
        return super().append(new, epoch)


@pytest.fixture
async def ledger(sqlite_url: str) -> Ledger:
    journal = Held(sqlite_url)
    mine = lease.take(journal, "me")
    assert mine is not None
    return Ledger(journal, mine.epoch, journal.fold())


def locked_once(state: ServiceState) -> Sequence[NewEvent]:
    return () if state.lock else [NewEvent("runner", e.Locked("once"))]


async def test_many_tasks_decide_one_after_another_on_what_the_last_one_recorded(ledger: Ledger) -> None:
    done = await asyncio.gather(*(ledger.decide(locked_once) for _ in range(20)))
    assert sorted(done) == [False] * 19 + [True]
    assert ledger.journal.head() == 1
    assert ledger.state == ledger.journal.fold()


async def test_a_decision_that_is_cancelled_while_it_is_written_is_known_to_the_next(ledger: Ledger) -> None:
    journal = ledger.journal
    assert isinstance(journal, Held)
    journal.gate.clear()
    first = asyncio.ensure_future(ledger.decide(locked_once))
    await asyncio.wait_for(journal.began.wait(), 20)
    first.cancel()
    second = asyncio.ensure_future(ledger.decide(locked_once))
    await asyncio.sleep(0)
    journal.gate.set()
    await asyncio.wait({first, second}, timeout=20)
    assert first.cancelled()
    assert second.result() is False
    assert journal.head() == 1


async def test_a_full_disk_delays_a_decision_and_writes_it_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pithead.delivery.journal.RETRY_SECONDS", 0.01)
    journal = ledger.journal
    assert isinstance(journal, Held)
    journal.failures = 5
    assert await asyncio.wait_for(ledger.decide(locked_once), 20)
    assert journal.head() == 1
    assert capsys.readouterr().err.count("the disk is full") == 1, "it is told once"


async def test_a_decision_that_waits_for_the_disk_can_be_cancelled(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pithead.delivery.journal.RETRY_SECONDS", 0.01)
    journal = ledger.journal
    assert isinstance(journal, Held)
    journal.failures = 10_000
    waiting = asyncio.ensure_future(ledger.decide(locked_once))
    await asyncio.wait_for(journal.began.wait(), 20)
    waiting.cancel()
    await asyncio.wait({waiting}, timeout=20)
    assert waiting.cancelled()
    journal.failures = 0
    assert await ledger.decide(locked_once)


async def test_what_others_write_comes_in_between_in_order(
    ledger: Ledger, sqlite_url: str, open_journal: Callable[..., Journal]
) -> None:
    other = open_journal(sqlite_url)
    following = asyncio.ensure_future(ledger.follow())
    for i in range(20):
        await asyncio.to_thread(other.append, [NewEvent("ann", e.LockRequested(str(i)))])
        await ledger.note(e.BackendLost("source", str(i)))
    await asyncio.wait_for(ledger.until(lambda s: s.seq == 40), 20)
    following.cancel()
    await asyncio.wait({following})
    assert ledger.state == other.fold()
    assert len(ledger.state.unanswered) == 20


async def test_facts_about_a_release_that_is_not_in_flight_are_not_recorded(ledger: Ledger) -> None:
    assert not await ledger.about_release(7, lambda _: [e.Paused("error", "x")])
    assert ledger.journal.head() == 0


async def test_a_lost_lease_ends_a_decision_at_once(ledger: Ledger) -> None:
    ledger.epoch += 1
    with pytest.raises(LeaseLostError):
        await asyncio.wait_for(ledger.decide(locked_once), 20)
    assert ledger.state.seq == 0


async def test_waiting_for_a_change_ends_with_the_time_out(ledger: Ledger) -> None:
    await asyncio.wait_for(ledger.changed(0, 0.02), 20)
    waiting = asyncio.ensure_future(ledger.changed(0))
    await ledger.note(e.Unlocked())
    await asyncio.wait_for(waiting, 20)
    await asyncio.wait_for(ledger.changed(0), 20)  # it has moved on already
