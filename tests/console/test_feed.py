"""The feed: what the journal holds becomes a glance, soon, in order, and without reading what is not needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from scenes import Scene, StillDesk

from pithead.console.departure import watch_terminal
from pithead.console.feed import AT_ONCE, Feed
from pithead.console.sampling import KEPT_SAMPLES, gathered
from pithead.console.tailing import LogTail, current_log
from pithead.delivery import events as e
from pithead.delivery.journal import Journal, JournalError
from pithead.delivery.logbook import SampleRow
from pithead.widgets.log_ring import KEPT_LINES


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@asynccontextmanager
async def feeding(scene: Scene) -> AsyncIterator[tuple[Feed, list[float]]]:
    calls: list[float] = []
    feed = Feed(scene.desk(), calls.append)
    task = asyncio.ensure_future(feed.run())
    try:
        async with asyncio.timeout(20):
            await feed.is_settled()
        yield feed, calls
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_glance_is_the_fold_of_the_journal_and_its_last_events(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.in_canary()
    async with feeding(scene) as (feed, _):
        glance = feed.glance()
        assert glance.state == scene.state
        assert [event.seq for event in glance.events] == [event.seq for event in scene.journal.tail(200)]
        assert set(glance.samples) == {"errors", "p99"}
        assert glance.runner == "alive"
        assert glance.is_ready


async def test_events_come_in_order_and_once_whoever_finds_them_first(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.in_canary()
    async with feeding(scene) as (feed, _):
        feed.hasten()
        for n in range(60):
            scene.happen(e.VerdictReached("errors", "pass", f"{n}"), release=142)
        await until(lambda: feed.state.seq == scene.journal.head())
        seqs = [event.seq for event in feed.glance().events]
        assert seqs == sorted(set(seqs))
        assert seqs[-1] == scene.journal.head()


async def test_an_answer_is_told_at_once_also_when_it_is_there_before_it_is_expected(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.in_canary()
    async with feeding(scene) as (feed, calls):
        (command,) = scene.happen(e.PromoteRequested(1), release=142, by="ana")
        scene.happen(e.Refused("promote", "stale."), release=142, cause=command.seq)
        await until(lambda: feed.state.seq == scene.journal.head())
        calls.clear()
        feed.expect(command)
        assert calls == [AT_ONCE]
        assert [answer.event.payload for answer in feed.take_answers()] == [e.Refused("promote", "stale.")]


async def test_a_journal_that_cannot_be_read_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path)
    scene.idle()
    with monkeypatch.context() as broken:

        def unreadable(*_: object) -> None:
            raise JournalError("journal.db: this file is damaged. Move it away.")

        broken.setattr(Journal, "fold", unreadable)
        feed = Feed(scene.desk(), lambda apart: None)
        task = asyncio.ensure_future(feed.run())
        await until(lambda: "Move it away" in feed.glance().trouble)
        assert not feed.glance().is_ready
    await until(lambda: feed.glance().is_ready and not feed.glance().trouble)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_nothing_is_asked_to_be_painted_while_nothing_happens(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.idle()
    async with feeding(scene) as (_, calls):
        calls.clear()
        await asyncio.sleep(3.0)
        assert calls == []


async def test_a_runner_that_was_killed_is_replaced_and_the_operator_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path)
    scene.in_canary()
    monkeypatch.setattr(StillDesk, "ensure_runner", lambda _: True)
    async with feeding(scene) as (feed, _):
        with scene.journal.writing() as connection:
            connection.exec_driver_sql("UPDATE leases SET expires_at = 0")
        await until(lambda: "the runner was gone: started another" in feed.glance().note)
        assert feed.glance().runner == "none"


# ── logs and samples ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_log_of_the_running_stage_is_followed_from_its_end(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.building()
    tail = LogTail(scene.book)
    state = scene.state
    assert await tail.read(state)
    (begun,) = tail.take()
    assert begun.begins == "unit of release 142"
    assert begun.lines[-1].endswith("test_total_139 PASSED")
    scene.print(142, "unit", "one more", "and another")
    assert await tail.read(state)
    (more,) = tail.take()
    assert (more.begins, more.lines, more.first) == (None, ("one more", "and another"), 141)
    assert not await tail.read(state)


async def test_a_tail_that_fell_behind_goes_on_at_the_end(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.building()
    tail = LogTail(scene.book)
    state = scene.state
    await tail.read(state)
    scene.print(142, "unit", *(f"row {n}" for n in range(KEPT_LINES + 9_000)))
    await tail.read(state)
    batch = tail.take()[-1]
    assert batch.begins is not None
    assert batch.lines[-1] == f"row {KEPT_LINES + 8_999}"
    assert len(batch.lines) == KEPT_LINES


async def test_a_log_that_ended_is_not_read_for_ever(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.failed()
    tail = LogTail(scene.book)
    state = scene.state
    key = current_log(state)
    assert key is not None
    assert (key.stage, key.is_running) == ("unit", False)
    for _ in range(10):
        await tail.read(state)
    assert tail.pause_seconds(state) is None


def test_samples_are_those_of_the_last_attempt_and_bounded() -> None:
    first = [SampleRow(n, float(n), "p99", 1, {}) for n in range(400)]
    again = [SampleRow(400 + n, 400.0 + n, "p99", 2, {}) for n in range(3)]
    known = gathered({}, first)
    assert len(known["p99"]) == KEPT_SAMPLES
    assert [row.attempt for row in gathered(known, again)["p99"]] == [2, 2, 2]


async def test_without_a_terminal_there_is_none_to_lose() -> None:
    left: list[bool] = []
    async with asyncio.timeout(5):
        await asyncio.wait({asyncio.ensure_future(watch_terminal(lambda: left.append(True)))}, timeout=1.5)
    assert left == []
