"""The command line as a script meets it: exit status, what goes to stdout and what to stderr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pithead.delivery import events as e
from pithead.delivery.events import NewEvent
from pithead.delivery.journal import Journal

CONFIG = """\
service: shop
source: {git: {repository: .}}
pipeline: {build: {archive: {}}}
target: {process: {command: "./serve --port $PORT"}}
metrics: {source: {envoy: {}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pithead.yaml").write_text(CONFIG)
    return tmp_path


def pithead(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PITHEAD_STATE": str(folder / "state"), "PITHEAD_OPERATOR": "ana"}
    environment.pop("PITHEAD_CONFIG", None)
    command = [sys.executable, "-m", "pithead.console.cli", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_a_read_only_config_in_a_read_only_folder_is_enough(folder: Path) -> None:
    (folder / "state").mkdir(mode=0o700)
    (folder / "pithead.yaml").chmod(0o444)
    folder.chmod(0o555)
    try:
        done = pithead(folder, "status", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["service"] == "shop"
        again = pithead(folder, "init")
        assert again.returncode == 2
        assert "exists" in again.stderr
        assert (folder / "pithead.yaml").read_text() == CONFIG
    finally:
        folder.chmod(0o755)


def test_without_a_config_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = pithead(tmp_path, "status")
    assert done.returncode == 2
    assert "pithead init" in done.stderr
    assert done.stdout == ""


def test_all_that_is_wrong_with_a_config_is_told_by_line(folder: Path) -> None:
    (folder / "pithead.yaml").write_text(CONFIG.replace("service: shop", "servise: Shop!"))
    done = pithead(folder, "pending")
    assert done.returncode == 2
    assert "pithead.yaml:1" in done.stderr
    assert "service" in done.stderr


def test_what_is_not_there_is_bad_usage(folder: Path) -> None:
    for words in (("wait",), ("wait", "7"), ("show", "7"), ("log", "7"), ("wait", "--timeout", "5"), ("nonsense",)):
        done = pithead(folder, *words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert done.stderr, words


def test_a_damaged_journal_is_unreachable_and_named(folder: Path) -> None:
    journal = folder / "state" / "shop" / "journal.db"
    journal.parent.mkdir(parents=True)
    journal.write_text("this is no database, however long it is " * 50)
    done = pithead(folder, "status")
    assert done.returncode == 4
    assert "damaged" in done.stderr


def test_wait_tells_the_outcome_by_its_exit_status(folder: Path) -> None:
    journal = Journal(f"sqlite:///{folder}/state/shop/journal.db", "shop")
    outcomes: tuple[e.Outcome, ...] = ("promoted", "rolled_back", "fast_promoted", "failed")
    for number, outcome in enumerate(outcomes, start=1):
        started = e.ReleaseStarted("forward", f"{number:040x}", "A change", None, (), (), (), 0.0)
        journal.append([NewEvent("ana", started, number), NewEvent("runner", e.ReleaseEnded(outcome), number)])
    assert [pithead(folder, "wait", str(n)).returncode for n in (1, 2, 3, 4)] == [0, 1, 0, 1]
    shown = json.loads(pithead(folder, "history", "--json").stdout)
    assert [release["outcome"] for release in shown] == list(reversed(outcomes))


def test_events_are_printed_as_text_whatever_they_hold(folder: Path) -> None:
    journal = Journal(f"sqlite:///{folder}/state/shop/journal.db", "shop")
    journal.append([NewEvent("ana", e.Locked("\x1b[2J\x1b]0;gone\x07 [red]why[/red] \u202eback"))])
    for words in (("events",), ("status",)):
        done = pithead(folder, *words)
        assert done.returncode == 0
        assert "[red]why[/red]" in done.stdout
        assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout)
