"""Several operators at once: two consoles in terminals of their own and a script, all about the same release."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from terminal import Terminal

from pithead.console.demo.setting import Pace, Setting, open_setting
from pithead.delivery import events as e
from pithead.delivery.state import ServiceState

PATIENCE_SECONDS = 60.0


@pytest.fixture
def setting() -> Iterator[Setting]:
    with open_setting(Pace(step="30m", bake="30m")) as found:
        yield found


def until(setting: Setting, holds: Callable[[ServiceState], bool]) -> ServiceState:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds(state := setting.desk.journal.fold()):
        assert time.monotonic() < deadline, state
        time.sleep(0.05)
    return state


def to_first_step(setting: Setting) -> ServiceState:
    """The release of a good commit, with its canary at the first of two steps."""
    commit = setting.repository.released["good"]
    setting.desk.press(e.StartRequested(setting.repository.before(commit)))
    until(setting, lambda s: s.in_flight is not None and s.in_flight.shifted_at is not None)
    setting.desk.press(e.PromoteRequested(seen=setting.desk.journal.head()))
    until(setting, lambda s: s.live is not None and s.in_flight is None and s.pending is not None)
    setting.desk.press(e.StartRequested(commit))
    return until(setting, lambda s: s.in_flight is not None and s.in_flight.shifted_at is not None)


def test_two_consoles_and_a_script_promote_at_once_and_the_release_moves_one_step(setting: Setting) -> None:
    before = to_first_step(setting)
    assert before.in_flight is not None
    assert before.in_flight.step == 0
    command = [sys.executable, "-m", "pithead.console.cli"]
    config = ["-c", str(setting.config.file)]
    ana, bo = ({"PITHEAD_OPERATOR": name} for name in ("ana", "bo"))
    with Terminal([*command, *config], (120, 36), ana) as one, Terminal([*command, *config], (160, 45), bo) as other:
        for terminal in (one, other):
            terminal.wait_for(lambda text: "Canary against baseline" in text and "10 %" in text, PATIENCE_SECONDS)
        seen = setting.desk.journal.head()
        script = subprocess.Popen(
            [*command, "promote", "--seen", str(seen), "--json", *config],
            env={**os.environ, "PITHEAD_OPERATOR": "cy"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Pressed together with the script's own command: the journal decides who was first.
        while setting.desk.journal.head() == seen and script.poll() is None:
            time.sleep(0.001)
            if _is_about_to_write(script):
                break
        one.press("p")
        other.press("p")
        output, error = script.communicate(timeout=PATIENCE_SECONDS)
        until(setting, lambda s: not s.unanswered and _answers(setting, seen) == 3)
        for terminal in (one, other):
            terminal.wait_for(lambda text: "50 %" in text, PATIENCE_SECONDS)
        promoted = [event for event in setting.desk.journal.read(seen) if isinstance(event.payload, e.Promoted)]
        refused = [event for event in setting.desk.journal.read(seen) if isinstance(event.payload, e.Refused)]
        assert len(promoted) == 1, (output, error)
        assert len(refused) == 2
        assert all("stale" in event.payload.reason for event in refused if isinstance(event.payload, e.Refused))
        assert script.returncode == (0 if promoted[0].actor == "cy" else 3)
        for name, terminal in (("ana", one), ("bo", other)):
            if promoted[0].actor != name:
                terminal.wait_for(lambda text: "stale" in text, PATIENCE_SECONDS)
    after = setting.desk.journal.fold().in_flight
    assert after is not None
    assert (after.step, after.weight) == (1, 50)


def _is_about_to_write(script: subprocess.Popen[str]) -> bool:
    """Python has started and opened the journal: its own write is some milliseconds away."""
    try:
        return any(file.path.endswith("journal.db") for file in psutil.Process(script.pid).open_files())
    except psutil.Error:
        return True


def _answers(setting: Setting, seen: int) -> int:
    return sum(isinstance(event.payload, e.Promoted | e.Refused) for event in setting.desk.journal.read(seen))
