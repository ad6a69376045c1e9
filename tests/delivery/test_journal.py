"""The journal's promises, on each database that it may live in."""

from __future__ import annotations

import itertools
import os
import re
import stat
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import happenings
import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pithead.delivery import fold, lease
from pithead.delivery import journal as journal_module
from pithead.delivery.events import KINDS, Event, LockRequested, NewEvent, PromoteRequested, Unknown, decode, encode
from pithead.delivery.journal import Journal, JournalError, LeaseLostError
from pithead.delivery.journal_tables import checkpoints, events
from pithead.delivery.state import ServiceState

Spawn = Callable[..., "subprocess.Popen[str]"]
OpenJournal = Callable[..., Journal]

WRITER = """
import sys, threading
from pithead.delivery.events import LockRequested, NewEvent
from pithead.delivery.journal import Journal
url, name, threads, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
journal = Journal(url, "shop")
print("ready", flush=True)
sys.stdin.readline()
def write(thread):
    for i in range(0, count, 2):
        journal.append([NewEvent(f"{name}.{thread}", LockRequested(str(i + j))) for j in (0, 1)])
workers = [threading.Thread(target=write, args=(t,)) for t in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
"""


def note(words: object, actor: str = "ann") -> NewEvent:
    return NewEvent(actor, LockRequested(str(words)))


def words_of(found: Sequence[Event]) -> list[str]:
    return [event.payload.reason for event in found if isinstance(event.payload, LockRequested)]


def finish(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


# ── order ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_many_processes_and_threads_write_one_order_without_gaps(
    database: str, spawn: Spawn, open_journal: OpenJournal
) -> None:
    finish([spawn(WRITER, database, f"p{n}", 3, 20) for n in range(5)])

    journal = open_journal(database)
    found = journal.read(0)
    assert [event.seq for event in found] == list(range(1, 5 * 3 * 20 + 1))
    assert journal.head() == len(found)
    for writer in {event.actor for event in found}:
        assert words_of([event for event in found if event.actor == writer]) == [str(i) for i in range(20)]


def test_events_of_one_call_stand_side_by_side(database: str, open_journal: OpenJournal) -> None:
    journals = [open_journal(database) for _ in range(3)]

    def write(journal: Journal, name: str) -> None:
        for i in range(10):
            journal.append([note(f"{i}.{j}", name) for j in range(4)])

    threads = [threading.Thread(target=write, args=(j, f"w{n}")) for n, j in enumerate(journals)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = journals[0].read(0)
    calls = [found[i : i + 4] for i in range(0, len(found), 4)]
    assert len(found) == 120
    assert all(len({(event.actor, event.at) for event in call}) == 1 for call in calls)
    assert all([w[-2:] for w in words_of(call)] == [".0", ".1", ".2", ".3"] for call in calls)


def test_append_returns_the_events_as_they_are_read_later(journal: Journal) -> None:
    placed = journal.append([note("one"), NewEvent("bob", PromoteRequested(7, full=True), release=3, cause=1)])
    assert list(placed) == journal.read(0)


def test_services_in_one_database_count_and_read_apart(database: str, open_journal: OpenJournal) -> None:
    shop, till = open_journal(database, "shop"), open_journal(database, "till")
    shop.append([note("a")])
    till.append([note("b"), note("c")])
    shop.append([note("d")])
    assert [(e.seq, w) for e, w in zip(shop.read(0), words_of(shop.read(0)), strict=True)] == [(1, "a"), (2, "d")]
    assert words_of(till.read(0)) == ["b", "c"]
    assert till.fold().seq == 2


def test_an_empty_append_writes_nothing(journal: Journal) -> None:
    assert journal.append([]) == ()
    assert journal.head() == 0
    assert journal.fold() == ServiceState("shop")


def test_tail_read_and_of_release_tell_the_same_story(journal: Journal) -> None:
    for i in range(1, 31):
        journal.append([NewEvent("ann", LockRequested(str(i)), release=i % 3)])
    everything = journal.read(0)
    assert journal.read(10, limit=5) == everything[10:15]
    assert journal.tail(4) == everything[-4:]
    assert journal.tail(4, before=10) == everything[5:9]
    assert journal.of_release(2) == [event for event in everything if event.release == 2]


# ── durability, and never changing ───────────────────────────────────────────────────────────────────────────────

STUBBORN = """
import sys
from pithead.delivery.events import LockRequested, NewEvent
from pithead.delivery.journal import Journal
journal = Journal(sys.argv[1], "shop")
while True:
    placed = journal.append([NewEvent(sys.argv[2], LockRequested("x")) for _ in range(2)])
    print(placed[-1].seq, flush=True)
"""


def test_every_acknowledged_event_survives_kill_9(database: str, spawn: Spawn, open_journal: OpenJournal) -> None:
    acknowledged: dict[str, int] = {}
    for life in range(4):
        writers = {f"{life}.{n}": spawn(STUBBORN, database, f"{life}.{n}") for n in range(2)}
        for writer in writers.values():
            assert writer.stdout is not None
            for _ in range(5 + 3 * life):
                assert writer.stdout.readline(), writer.communicate()[1]
        for name, writer in writers.items():
            writer.kill()
            lines = writer.communicate()[0].split("\n")[:-1]  # what was printed up to the kill
            acknowledged[name] = max(map(int, lines), default=0)

    found = open_journal(database).read(0)
    assert [event.seq for event in found] == list(range(1, len(found) + 1))
    for name, last in acknowledged.items():
        mine = [event.seq for event in found if event.actor == name]
        assert mine
        assert mine[-1] >= last
        assert len(mine) % 2 == 0, "half of a call was written"


def test_no_statement_ever_changes_or_removes_an_event(
    database: str, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "CHECKPOINT_EVERY", 5)
    journal = open_journal(database)
    statements: list[str] = []
    sqlalchemy.event.listen(journal.engine, "before_cursor_execute", lambda *a: statements.append(a[2].lower()))
    for i in range(30):
        journal.append([note(i)])
    journal.checkpoint()
    journal.fold()
    mine = lease.take(journal, "runner")
    assert mine is not None
    lease.renew(journal, mine)
    changing = [s for s in statements if re.match(r"(update|delete|replace)", s)]
    assert changing  # heads, checkpoints and leases do change
    assert not [s for s in changing if re.match(r"(update|delete from|replace into) events\b", s)]


# ── what goes in comes out ───────────────────────────────────────────────────────────────────────────────────────


def test_events_of_every_kind_come_back_as_they_went_in(database: str, open_journal: OpenJournal) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(happenings.new_events, min_size=1, max_size=12))
    def property_(news: list[NewEvent]) -> None:
        journal = open_journal(database, f"service{next(numbers)}")
        journal.append(news)
        found = journal.read(0)
        assert [(f.actor, f.payload, f.release, f.cause) for f in found] == [
            (n.actor, n.payload, n.release, n.cause) for n in news
        ]
        journal.close()

    numbers = itertools.count()
    property_()


@pytest.mark.parametrize(
    "words",
    [
        "\x1b]0;owned\x07\x1b[2J",
        "nul \x00 in the middle",
        "[bold red]markup[/]",
        "\u202eright to left\u2066",
        "'; drop table events; --",
        "%s %(a)s {0} :name",
        "🚀" * 1000,
        "line\r\nline\u2028line",
        "x" * 2_000_000,
        "",
    ],
    ids=lambda words: repr(words[:12]),
)
def test_hostile_text_comes_back_unchanged(journal: Journal, words: str) -> None:
    journal.append([note(words)])
    assert words_of(journal.read(0)) == [words]
    assert words_of(journal.tail(1)) == [words]


def test_half_a_surrogate_pair_is_replaced_and_stops_nobody(journal: Journal) -> None:
    """Python's argv and file names hold them for bytes that are not UTF-8; JSON and UTF-8 cannot."""
    placed = journal.append([note("caf\udce9 \ud800!"), NewEvent("ann", Unknown("later", {"a": ["\udfff"]}))])
    assert words_of(placed) == ["caf� �!"]
    assert list(placed) == journal.read(0)
    assert journal.fold().unanswered[0].wish == LockRequested("caf� �!")


def test_a_kind_of_a_later_version_is_kept_whole(journal: Journal) -> None:
    later = Unknown("teleported", {"to": [1, {"deep": None}], "why": "é"})
    journal.append([NewEvent("runner", later, release=2)])
    (event,) = journal.read(0)
    assert event.payload == later
    assert event.kind == "teleported"
    assert journal.fold().seq == 1


def test_a_known_kind_in_another_form_is_kept_as_unknown(journal: Journal) -> None:
    journal.append([note("fine")])
    with journal.writing() as connection:
        connection.execute(
            sqlalchemy.update(events).values(kind="promoted", data='{"from_weight": "much", "extra": 1}')
        )
    (event,) = journal.read(0)
    assert event.payload == Unknown("promoted", {"from_weight": "much", "extra": 1})
    assert journal.fold().seq == 1


# ── checkpoints ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fold_from_a_checkpoint_is_the_fold_of_everything(
    database: str, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "CHECKPOINT_EVERY", 7)
    numbers = itertools.count()

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.lists(happenings.new_events, min_size=1, max_size=9), max_size=6))
    def property_(calls: list[list[NewEvent]]) -> None:
        journal = open_journal(database, f"service{next(numbers)}")
        for call in calls:
            journal.append(call)
        with journal.reading() as connection:
            kept = connection.execute(
                sqlalchemy.select(checkpoints.c.seq).where(checkpoints.c.service == journal.service)
            ).scalar()
        total = sum(map(len, calls))
        assert (kept is not None) == (total >= 6)
        assert journal.fold() == fold.fold(journal.read(0), ServiceState(journal.service))
        journal.close()

    property_()


def test_a_checkpoint_of_another_version_or_damaged_is_not_believed(journal: Journal) -> None:
    journal.append([note("one"), note("two")])
    journal.checkpoint()
    wrong = b'{"service":"shop","seq":1}'
    for change in ({"version": fold.VERSION + 1, "state": wrong}, {"version": fold.VERSION, "state": b"\x00not json"}):
        with journal.writing() as connection:
            connection.execute(sqlalchemy.update(checkpoints).values(**change))
        state = journal.fold()
        assert state.seq == 2
        assert len(state.unanswered) == 2


def test_a_long_fold_tells_how_far_it_is_and_keeps_what_it_made(
    sqlite_journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "CHECKPOINT_EVERY", 10_000_000)
    for _ in range(3):
        sqlite_journal.append([note("x")] * 5000)
    monkeypatch.setattr(journal_module, "CHECKPOINT_EVERY", 1000)
    heard: list[tuple[int, int]] = []
    state = sqlite_journal.fold(lambda done, of: heard.append((done, of)))
    assert heard == [(5000, 15000), (10000, 15000)]
    again: list[tuple[int, int]] = []
    assert sqlite_journal.fold(lambda done, of: again.append((done, of))) == state
    assert again == []


def test_a_checkpoint_that_cannot_be_kept_does_not_unsay_the_event(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever tries again after the error would write the event twice."""
    monkeypatch.setattr(journal_module, "CHECKPOINT_EVERY", 2)

    def full(_state: ServiceState) -> None:
        raise JournalError("the disk is full.")

    monkeypatch.setattr(journal, "_store", full)
    for i in range(5):
        assert len(journal.append([note(i)])) == 1
    assert words_of(journal.read(0)) == ["0", "1", "2", "3", "4"]
    assert journal.fold().seq == 5


# ── the fence ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_events_under_a_lost_lease_are_refused_and_leave_no_trace(journal: Journal) -> None:
    first = lease.take(journal, "first")
    assert first is not None
    journal.append([note("in time")], epoch=first.epoch)
    lease.give_up(journal, first)
    second = lease.take(journal, "second")
    assert second is not None
    assert second.epoch > first.epoch

    with pytest.raises(LeaseLostError, match="another runner"):
        journal.append([note("too late"), note("too late")], epoch=first.epoch)
    journal.append([note("mine")], epoch=second.epoch)
    journal.append([note("an operator's")])

    found = journal.read(0)
    assert words_of(found) == ["in time", "mine", "an operator's"]
    assert [event.seq for event in found] == [1, 2, 3]


def test_an_epoch_without_any_lease_is_refused(journal: Journal) -> None:
    with pytest.raises(LeaseLostError):
        journal.append([note("x")], epoch=1)
    assert journal.head() == 0


# ── the cost of reading ──────────────────────────────────────────────────────────────────────────────────────────


def test_no_query_reads_a_whole_table(sqlite_journal: Journal) -> None:
    """Of the journal, the lease and the log book, as SQLite plans them."""
    from pithead.delivery.logbook import LogBook

    asked: list[tuple[str, Any]] = []
    sqlalchemy.event.listen(sqlite_journal.engine, "before_cursor_execute", lambda *a: asked.append((a[2], a[3])))
    book = LogBook(sqlite_journal)
    sqlite_journal.append([note("x")])
    sqlite_journal.checkpoint()
    sqlite_journal.read(0)
    sqlite_journal.tail(5)
    sqlite_journal.tail(5, before=10)
    sqlite_journal.of_release(1)
    sqlite_journal.fold()
    mine = lease.take(sqlite_journal, "x")
    assert mine is not None
    lease.holder(sqlite_journal)
    lease.renew(sqlite_journal, mine)
    book.write(1, "build", 1, 0, ["line"])
    book.write_samples(1, 1, 1.0, {"errors": {}})
    book.count(1, "build", 1)
    book.lines(1, "build", 1, 0, 10)
    book.tail(1, "build", 1, 10)
    book.attempts(1)
    book.samples(1)

    reading = [(sql, values) for sql, values in asked if re.match(r"(select|update|delete)", sql.lower())]
    assert len(reading) > 15
    with sqlite_journal.engine.connect() as connection:
        for sql, values in reading:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all()
            scans = [row[3] for row in plan if row[3].startswith("SCAN")]
            assert not scans, (sql, plan)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_file_and_its_folder_are_the_owners_alone(tmp_path: Path, open_journal: OpenJournal) -> None:
    before = os.umask(0o022)
    try:
        journal = open_journal(f"sqlite:///{tmp_path}/new/journal.db")
        journal.append([note("x")])
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert set(modes) == {"journal.db", "journal.db-wal", "journal.db-shm"}
    assert set(modes.values()) == {0o600}


CREATOR = """
import sys
print("ready", flush=True)
sys.stdin.readline()
from pithead.delivery.events import LockRequested, NewEvent
from pithead.delivery.journal import Journal
Journal(sys.argv[1], "shop").append([NewEvent(sys.argv[2], LockRequested("first!"))])
"""


def test_eight_processes_may_create_it_at_once(database: str, spawn: Spawn, open_journal: OpenJournal) -> None:
    finish([spawn(CREATOR, database, f"p{n}") for n in range(8)])
    found = open_journal(database).read(0)
    assert [event.seq for event in found] == list(range(1, 9))
    assert len({event.actor for event in found}) == 8


def test_a_file_that_is_no_journal_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"my precious text file, longer than a page of nothing\n" * 200)
    before = path.read_bytes()
    with pytest.raises(JournalError, match="damaged, or no journal") as told:
        Journal(f"sqlite:///{path}", "shop")
    assert str(path) in str(told.value)
    assert path.read_bytes() == before


def test_a_damaged_page_is_told_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(f"sqlite:///{path}", "shop")
    journal.append([note("x" * 500) for _ in range(500)])
    journal.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(JournalError, match="damaged, or no journal"):
        Journal(f"sqlite:///{path}", "shop").fold()


def test_a_folder_that_cannot_be_written_is_told_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(JournalError, match=r"cannot be written .*Give journal\.url a place"):
        Journal(f"sqlite:///{tmp_path}/file/journal.db", "shop")


def test_a_journal_held_by_another_program_is_told(
    sqlite_journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    sqlite_journal.append([note("before")])
    quick = Journal(f"sqlite:///{tmp_path}/state/journal.db", "shop")
    sqlalchemy.event.listen(quick.engine, "checkout", lambda c, *_: c.execute("PRAGMA busy_timeout=50").close())
    other = sqlite3.connect(tmp_path / "state" / "journal.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(JournalError, match="another program holds the journal"):
            quick.append([note("x")])
        assert words_of(quick.read(0)) == ["before"]  # readers do not wait for writers
    finally:
        other.close()
    quick.append([note("after")])
    assert words_of(quick.read(0)) == ["before", "after"]
    quick.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_journal_without_a_file_is_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JournalError, match="file"):
        Journal(url, "shop")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("not a url", "cannot be read"),
        ("oracledb2://u:hunter2@host/x", "no driver"),
        ("postgresql+psycopg://u:hunter2@127.0.0.1:1/x?connect_timeout=2", "127.0.0.1"),
    ],
)
def test_a_url_that_leads_nowhere_is_told_without_its_password(url: str, words: str) -> None:
    with pytest.raises(JournalError, match=words) as told:
        Journal(url, "shop")
    assert "hunter2" not in str(told.value)


def test_text_that_is_no_event_is_read_as_unknown_and_never_raises() -> None:
    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from(sorted(KINDS)) | st.text(max_size=5), st.text())
    def property_(kind: str, data: str) -> None:
        decode(kind, data)

    property_()
    for data in ("[" * 100_000, '{"a":' * 50_000, "1" * 10_000, "NaN", "null", '"x"'):
        assert isinstance(decode("promoted", data), Unknown)


@given(happenings.payloads)
@settings(max_examples=300, deadline=None)
def test_encoding_and_decoding_is_the_identity(payload: object) -> None:
    from pithead.delivery.events import kind_of

    assert decode(kind_of(payload), encode(payload)) == payload  # type: ignore[arg-type]
