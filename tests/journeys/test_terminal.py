"""The console in a real pseudo-terminal, read back with pyte: what an operator sees, byte by byte."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyte
import pytest
from scenes import Scene
from terminal import Terminal

from pithead.delivery import events as e

PROGRAM = """\
import sys
from pathlib import Path
from pithead.console.app import run_console
from pithead.console.desk import Desk
from pithead.delivery.journal import Journal
from pithead.delivery.logbook import LogBook

class StillDesk(Desk):
    def ensure_runner(self):
        return False

folder = Path(sys.argv[1])
journal = Journal(f"sqlite:///{folder / 'journal.db'}", "checkout")
sys.exit(run_console(StillDesk(journal, LogBook(journal), "ana", folder / "pithead.yaml", folder, "production", "us-east")))
"""
GIVEN_BACK = {"1049", "1000", "1003", "1004", "1006", "1015", "2004"}
"""Modes that must be off when the program has ended: other screen, mouse, focus, paste."""


class Screen(Terminal):
    """A terminal that also remembers every byte, and can be pulled out of the wall."""

    def __init__(self, command: list[str], size: tuple[int, int], environment: dict[str, str]) -> None:
        self.raw = bytearray()
        self._is_pulled = False
        super().__init__(command, size, environment)

    def _take(self, data: bytes) -> None:
        self.raw += data
        super()._take(data)

    @property
    def title(self) -> str:
        return self._screen.title

    def cells(self) -> list[pyte.screens.Char]:
        with self._turn:
            return [self._screen.buffer[y][x] for y in range(self._screen.lines) for x in range(self._screen.columns)]

    def modes_left_on(self) -> set[str]:
        on: set[str] = set()
        for modes, switch in re.findall(rb"\x1b\[\?([0-9;]+)([hl])", bytes(self.raw)):
            named = set(modes.decode().split(";"))
            on = on | named if switch == b"h" else on - named
        return on & GIVEN_BACK

    def hang_up(self) -> None:
        self._is_pulled = True
        os.close(self._master)

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *details: Any) -> None:
        if self._is_pulled:
            self._master = os.open(os.devnull, os.O_RDWR)  # for the base class to close
        super().__exit__(*details)


SIZES = ((80, 24), (120, 36), (160, 45))


@contextmanager
def console(
    tmp_path: Path, state: str, size: tuple[int, int] = (120, 36), **environment: str
) -> Iterator[tuple[Screen, Scene]]:
    scene = Scene(tmp_path)
    getattr(scene, state)()
    with Screen([sys.executable, "-c", PROGRAM, str(tmp_path)], size, environment) as terminal:
        terminal.wait_for(lambda text: "healthy" in text and "Awaiting release" in text, 60.0)
        yield terminal, scene
    scene.journal.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("state", "facts"),
    [
        ("idle", ("Round cart", "▸", "held: needs", "Nothing in flight", "s releases up to")),
        ("in_canary", ("Release 142", "✔ unit", "25 % ▶", "of 5:00", "errors", "undecided", "p promotes now")),
        ("undecided", ("paused by runner, undecided", "waits for a decision", "space resume")),
        ("failed", ("✘ 142", "unit: exit status 1", "t retry")),
        ("locked", ("LOCKED", "no releases over the holiday", "l unlock")),
    ],
)
def test_every_state_is_told_at_every_size(
    tmp_path: Path, state: str, facts: tuple[str, ...], size: tuple[int, int]
) -> None:
    with console(tmp_path, state, size) as (terminal, _):
        for fact in (*facts, "checkout", "PRODUCTION", "us-east", "5d42826", "healthy", "? help", "q leave"):
            terminal.wait_for(lambda text, fact=fact: fact in text)  # type: ignore[misc]
        assert all(len(row) == size[0] for row in terminal.text().split("\n"))


def test_an_idle_console_writes_no_byte(tmp_path: Path) -> None:
    with console(tmp_path, "idle") as (terminal, _):
        until_still(terminal)
        # A coarse age may turn in these seconds (2m → 3m): that is one repaint of a few rows, and told apart by a retry.
        assert any(bytes_within(terminal, 5.0) == 0 for _ in range(2))


def until_still(terminal: Screen) -> None:
    deadline = time.monotonic() + 60.0
    while bytes_within(terminal, 1.5):
        assert time.monotonic() < deadline


def bytes_within(terminal: Screen, seconds: float) -> int:
    before = terminal.bytes_read
    time.sleep(seconds)
    return terminal.bytes_read - before


def test_what_another_operator_does_is_seen_at_once(tmp_path: Path) -> None:
    with console(tmp_path, "in_canary") as (terminal, scene):
        scene.until(0)
        scene.happen(e.Promoted(25, 50), e.StepEntered(3, 50, 300.0), release=142, by="bo")
        assert terminal.wait_for(lambda text: "promoted 25 % → 50 %" in text and "moving to 50 %" in text) < 5.0


def test_the_log_is_followed_at_5000_lines_a_second_and_a_key_still_answers(tmp_path: Path) -> None:
    with console(tmp_path, "building") as (terminal, scene):
        for batch in range(20):
            scene.print(142, "unit", *(f"row {batch * 500 + n}" for n in range(500)))
            time.sleep(0.1)
        terminal.wait_for(lambda text: "row 9999" in text)
        terminal.press("?")
        terminal.wait_for(lambda text: "What the keys do" in text)


def test_hostile_text_reaches_no_terminal(tmp_path: Path) -> None:
    nasty = "\x1b]0;owned\x07\x1b[2J\x1b[31mred[/] [blink]x[/blink] \x9b7mends"
    with console(tmp_path, "building") as (terminal, scene):
        scene.print(142, "unit", nasty, "\x1b[?1049l left the screen")
        scene.happen(e.Locked(nasty), by=nasty[:60])
        terminal.wait_for(lambda text: "[blink]x[/blink]" in text and "left the screen" in text and "LOCKED" in text)
        assert "owned" not in terminal.title
        assert "PRODUCTION" in terminal.text()


def test_without_colour_no_colour_is_sent_and_nothing_is_missing(tmp_path: Path) -> None:
    with console(tmp_path, "in_canary", (80, 24), NO_COLOR="1", COLORTERM="") as (terminal, _):
        terminal.wait_for(lambda text: "PRODUCTION" in text and "… errors" in text and "undecided" in text)
        cells = terminal.cells()
        assert {cell.fg for cell in cells} | {cell.bg for cell in cells} == {"default"}
        assert any(cell.reverse for cell in cells)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order_and_gives_the_terminal_back(tmp_path: Path, sent: signal.Signals) -> None:
    with console(tmp_path, "in_canary") as (terminal, _):
        terminal.process.send_signal(sent)
        assert terminal.ended() == 0
        assert "release 142 goes on: canary 25 %" in terminal.text()
        assert terminal.modes_left_on() == set()


def test_a_terminal_that_is_gone_ends_it_without_burning_the_processor(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with console(tmp_path, "in_canary") as (terminal, _):
        terminal.hang_up()
        terminal.process.wait(20)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 6.0


def test_q_leaves_and_the_release_goes_on(tmp_path: Path) -> None:
    with console(tmp_path, "in_canary") as (terminal, scene):
        before = scene.journal.head()
        terminal.press("q")
        assert terminal.ended() == 0
        assert "`pithead wait 142` waits for it" in terminal.text()
        assert scene.journal.head() == before


def test_it_opens_without_what_it_does_not_need() -> None:
    heavy = ("docker", "kubernetes", "git", "httpx", "numpy")
    code = f"import sys, pithead.console.app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]", done.stderr
