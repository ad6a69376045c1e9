"""The quick way into the journal writes what the long way writes, and leaves everything else to it."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pithead.delivery import events as e
from pithead.delivery.events import NewEvent
from pithead.delivery.journal import Journal
from pithead.delivery.journal_at_once import append_at_once

STARTED = e.ReleaseStarted("forward", "a" * 40, "One", None, (), (), (), 0.0)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(f"sqlite:///{tmp_path}/journal.db", "shop")


def url(journal: Journal) -> str:
    return f"sqlite:///{journal.place}"


def test_it_writes_the_event_that_the_journal_would(journal: Journal) -> None:
    journal.append([NewEvent("ana", STARTED, 7)])
    wish = e.AbortRequested("it smokes “badly”\n\x1b[31m")
    assert append_at_once(url(journal), "shop", "ana", wish, True) == 2
    (other,) = journal.append([NewEvent("ana", wish, 7)])
    quick = journal.read(1)[0]
    assert (quick.payload, quick.release, quick.actor, quick.cause) == (wish, 7, "ana", None)
    assert (other.seq, other.payload, other.kind) == (3, quick.payload, quick.kind)
    assert [command.seq for command in journal.fold().unanswered] == [2, 3]


def test_a_roll_back_is_about_no_release(journal: Journal) -> None:
    journal.append([NewEvent("ana", STARTED, 7)])
    assert append_at_once(url(journal), "shop", "ana", e.RollBackRequested(3, "why"), False) == 2
    assert journal.read(1)[0].payload == e.RollBackRequested(3, "why")
    assert journal.read(1)[0].release is None


def test_what_is_not_plain_is_left_to_the_journal(journal: Journal, tmp_path: Path) -> None:
    abort = e.AbortRequested()
    assert append_at_once(url(journal), "shop", "ana", abort, True) is None, "no release"
    journal.append([NewEvent("ana", STARTED, 1), NewEvent("runner", e.ReleaseEnded("promoted"), 1)])
    assert append_at_once(url(journal), "shop", "ana", abort, True) is None, "it has ended"
    journal.append([NewEvent("ana", STARTED, 2), NewEvent("bo", e.ReleaseQueued("forward", "b" * 40, "Two"), 3)])
    assert append_at_once(url(journal), "shop", "ana", abort, True) is None, "one is queued"
    assert append_at_once(url(journal), "other", "ana", abort, False) is None, "a service without a past"
    assert append_at_once(f"sqlite:///{tmp_path}/none.db", "shop", "ana", abort, False) is None
    assert append_at_once("postgresql+psycopg://host/name", "shop", "ana", abort, False) is None
    (tmp_path / "text.db").write_text("this is no journal")
    assert append_at_once(f"sqlite:///{tmp_path}/text.db", "shop", "ana", abort, False) is None
    assert journal.head() == 4
    assert not (tmp_path / "none.db").exists()


def test_both_ways_together_leave_no_gap(journal: Journal) -> None:
    journal.append([NewEvent("ana", STARTED, 1)])
    wish = e.RollBackRequested()
    with ThreadPoolExecutor(4) as pool:
        quick = [pool.submit(append_at_once, url(journal), "shop", "ana", wish, False) for _ in range(40)]
        slow = [pool.submit(journal.append, [NewEvent("bo", wish)]) for _ in range(40)]
        places = [f.result() for f in quick] + [f.result()[0].seq for f in slow]
    assert sorted(seq for seq in places if seq) == list(range(2, 82))
    assert [event.seq for event in journal.read(0)] == list(range(1, 82))


def test_it_loads_neither_sqlalchemy_nor_textual() -> None:
    program = (
        "import sys; import pithead.console.cli, pithead.console.config_file, pithead.delivery.journal_at_once;"
        "print([name for name in ('sqlalchemy', 'textual', 'numpy', 'psutil') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
