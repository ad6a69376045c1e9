"""Log lines and samples: all of them, in order, also when there are millions or the runner ends in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pithead.delivery import logbook
from pithead.delivery.canary.judge import Judged
from pithead.delivery.journal import Journal, JournalError
from pithead.delivery.logbook import BATCH_LINES, LogBook, StageLog
from pithead.delivery.plain_text import plain
from pithead.delivery.ports import Counts, Histogram, Sample
from pithead.delivery.watchman import as_data, as_sample

OpenJournal = Callable[..., Journal]


@pytest.fixture
def book(journal: Journal) -> LogBook:
    return LogBook(journal)


@pytest.fixture
def sqlite_book(sqlite_journal: Journal) -> LogBook:
    return LogBook(sqlite_journal)


def texts(book: LogBook, first: int = 0, limit: int = 100_000, stage: str = "build", attempt: int = 1) -> list[str]:
    return [line.text for line in book.lines(1, stage, attempt, first, limit)]


async def test_lines_come_back_numbered_and_in_order(book: LogBook) -> None:
    log = StageLog(book, 1, "build", 1)
    lines = [f"line {n}" for n in range(3 * BATCH_LINES + 17)]
    for start in range(0, len(lines), 70):
        await log.write(lines[start : start + 70])
    await log.close()
    found = book.lines(1, "build", 1, 0, 10_000)
    assert [line.text for line in found] == lines
    assert [line.number for line in found] == list(range(len(lines)))
    assert book.count(1, "build", 1) == len(lines)


async def test_any_part_can_be_read(sqlite_book: LogBook) -> None:
    log = StageLog(sqlite_book, 1, "build", 1)
    lines = [str(n) for n in range(2345)]
    await log.write(lines[:1])
    await log.flush()
    await log.write(lines[1:])
    await log.close()
    for first in (0, 1, 499, 500, 501, 1000, 2344, 2345, 9999):
        for limit in (1, 10, 500, 3000):
            assert texts(sqlite_book, first, limit) == lines[first : first + limit], (first, limit)
    assert [line.text for line in sqlite_book.tail(1, "build", 1, 24)] == lines[-24:]
    assert [line.text for line in sqlite_book.tail(1, "build", 1, 99_999)] == lines


async def test_stages_attempts_and_services_are_kept_apart(database: str, open_journal: OpenJournal) -> None:
    shop, till = LogBook(open_journal(database, "shop")), LogBook(open_journal(database, "till"))
    for book, stage, attempt, words in (
        (shop, "build", 1, "a"), (shop, "build", 2, "b"), (shop, "unit", 1, "c"), (till, "build", 1, "d"),
    ):  # fmt: skip
        log = StageLog(book, 1, stage, attempt)
        await log.write([words])
        await log.close()
    assert texts(shop) == ["a"]
    assert texts(shop, attempt=2) == ["b"]
    assert texts(shop, stage="unit") == ["c"]
    assert texts(till) == ["d"]
    assert shop.attempts(1) == [("build", 1, 1), ("build", 2, 1), ("unit", 1, 1)]
    assert shop.lines(2, "build", 1) == []
    assert shop.tail(1, "nothing", 1, 10) == []


async def test_a_log_is_written_within_a_moment_without_being_closed(book: LogBook) -> None:
    log = StageLog(book, 1, "build", 1)
    await log.write(["one", "two"])
    for _ in range(100):
        if await asyncio.to_thread(book.count, 1, "build", 1) == 2:
            break
        await asyncio.sleep(0.02)
    assert texts(book) == ["one", "two"]
    await log.close()


async def test_a_new_log_of_the_same_attempt_goes_on_where_the_last_one_ended(book: LogBook) -> None:
    for words in (["one", "two"], ["three"], []):
        log = StageLog(book, 1, "canary", 1)
        await log.write(words)
        await log.close()
    assert texts(book, stage="canary") == ["one", "two", "three"]


def test_whatever_is_printed_is_stored_as_plain_text(database: str, open_journal: OpenJournal) -> None:
    book = LogBook(open_journal(database))
    attempts = iter(range(1, 1000))

    async def written(lines: list[str], attempt: int) -> None:
        log = StageLog(book, 1, "build", attempt, plain)
        await log.write(lines)
        await log.close()

    any_text = st.text(st.characters(exclude_categories=()), max_size=30)

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(any_text, max_size=8))
    def property_(lines: list[str]) -> None:
        attempt = next(attempts)
        asyncio.run(written(lines, attempt))
        expected = [part for line in lines for part in plain(line).split("\n")]
        assert texts(book, attempt=attempt) == expected

    property_()


async def test_a_line_that_holds_several_is_several(book: LogBook) -> None:
    log = StageLog(book, 1, "build", 1)
    await log.write(["one\ntwo", "three"])
    await log.write(["four"])
    await log.close()
    assert texts(book) == ["one", "two", "three", "four"]
    assert texts(book, first=2) == ["three", "four"]


async def test_secrets_never_reach_the_disk(book: LogBook) -> None:
    from pithead.delivery.masking import MASK, masker

    log = StageLog(book, 1, "build", 1, masker(["hunter2"]))
    await log.write(["password is hunter2, I said hunter2"])
    await log.close()
    assert texts(book) == [f"password is {MASK}, I said {MASK}"]


async def test_a_loud_build_is_cut_in_the_middle_and_keeps_its_end(
    sqlite_book: LogBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logbook, "KEPT_BYTES", 10_000)
    monkeypatch.setattr(logbook, "KEPT_TAIL", 50)
    log = StageLog(sqlite_book, 1, "build", 1)
    lines = [f"{n:09}" for n in range(20_000)]
    for start in range(0, len(lines), 1000):
        await log.write(lines[start : start + 1000])
    await log.close()
    found = texts(sqlite_book)
    assert found[:1000] == lines[:1000]
    assert "18,950 lines not kept" in found[1000]
    assert found[1001:] == lines[-50:]


async def test_a_log_that_just_fits_is_kept_whole(sqlite_book: LogBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logbook, "KEPT_BYTES", 10_000)
    monkeypatch.setattr(logbook, "KEPT_TAIL", 50)
    log = StageLog(sqlite_book, 1, "build", 1)
    lines = [f"{n:09}" for n in range(1050)]
    await log.write(lines)
    await log.close()
    assert texts(sqlite_book) == lines


class Slow(LogBook):
    """A disk that is full for the first writes, or slow."""

    def __init__(self, journal: Journal, failures: int = 0) -> None:
        super().__init__(journal)
        self.failures = failures
        self.began = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.largest_waiting = 0

    def write(self, *arguments: object) -> None:
        self._loop.call_soon_threadsafe(self.began.set)
        if self.failures:
            self.failures -= 1
            raise JournalError("the disk is full.")
        super().write(*arguments)  # type: ignore[arg-type]


async def test_a_full_disk_loses_no_line_not_even_at_the_end(
    sqlite_journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pithead.delivery.journal.RETRY_SECONDS", 0.02)
    book = Slow(sqlite_journal, failures=5)
    log = StageLog(book, 1, "build", 1)
    await log.write(["one", "two"])
    await asyncio.wait_for(book.began.wait(), 20)  # the timer's write is under way, and waits for the disk
    await log.write(["three"])
    await asyncio.wait_for(log.close(), 20)
    assert texts(book) == ["one", "two", "three"]


async def test_writing_waits_for_the_disk_so_that_memory_is_not_filled(
    sqlite_journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pithead.delivery.journal.RETRY_SECONDS", 0.02)
    book = Slow(sqlite_journal, failures=10_000)
    log = StageLog(book, 1, "build", 1)
    writing = asyncio.ensure_future(log.write(["x"] * BATCH_LINES))
    await asyncio.wait_for(book.began.wait(), 20)
    assert not writing.done()
    book.failures = 0
    await asyncio.wait_for(writing, 20)
    await log.close()
    assert book.count(1, "build", 1) == BATCH_LINES


def test_samples_come_back_as_they_were_judged(book: LogBook) -> None:
    histogram = Histogram((0.1, 1.0, float("inf")), (1.0, 2.0, 3.0))
    taken = [
        Sample(10.0, "errors", "ratio", Counts(1.0, 2.5), None),
        Sample(10.0, "latency", "latency", histogram, histogram),
    ]
    judged = Judged("errors", "no_data", "nothing yet.")
    book.write_samples(1, 1, 10.5, {s.metric: as_data(s, judged) for s in taken})
    book.write_samples(1, 2, 11.5, {"errors": as_data(taken[0], judged)})
    book.write_samples(2, 1, 11.5, {"errors": as_data(taken[0], judged)})
    book.write_samples(1, 1, 12.0, {})
    rows = book.samples(1)
    assert [as_sample(row) for row in rows] == [*taken, taken[0]]
    assert [row.attempt for row in rows] == [1, 1, 2]
    assert [row.data["verdict"] for row in rows] == ["no_data"] * 3
    assert book.samples(1, after=rows[0].id) == rows[1:]
    assert book.samples(1, limit=1) == rows[:1]
    json.dumps([dict(row.data) for row in rows], allow_nan=False)


def test_a_sample_of_another_version_is_passed_over(book: LogBook) -> None:
    book.write_samples(1, 1, 1.0, {"errors": {"kind": "ratio", "t": 1.0, "canary": {"weird": 1}}})
    book.write_samples(1, 1, 1.0, {"errors": {}})
    assert [as_sample(row) for row in book.samples(1)] == [None, None]
