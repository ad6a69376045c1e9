"""The tour in a real terminal: somebody who presses almost nothing is shown a good release, and a bad one caught."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path

import pyte
import pytest

COLUMNS, ROWS = 80, 24


class Terminal:
    def __init__(self, place: Path) -> None:
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            environment = {**os.environ, "TMPDIR": str(place), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
            os.execve(sys.executable, [sys.executable, "-m", "pithead.console.cli", "demo"], environment)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def press(self, key: str) -> None:
        """One key, after the moment that a person takes: the console takes quicker ones for a key that is held down."""
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            self.look()
        os.write(self._master, key.encode())

    @property
    def hint(self) -> str:
        return str(self._screen.display[-1]).strip()

    def __str__(self) -> str:
        return "\n".join(self._screen.display)

    def look(self) -> bool:
        """Takes in what has come; False when the program has ended."""
        if select.select([self._master], [], [], 0.1)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return False
            self._stream.feed(data)
        return True

    def wait_for(self, pattern: str, is_anywhere: bool = False) -> None:
        """In the bottom line, or anywhere on the screen."""
        deadline = time.monotonic() + 90
        while not re.search(pattern, str(self) if is_anywhere else self.hint):
            assert self.look(), f"ended before {pattern!r} came\n{self}"
            assert time.monotonic() < deadline, f"{pattern!r} does not come\n{self}"

    def status(self) -> int:
        deadline = time.monotonic() + 60
        while self.look():
            assert time.monotonic() < deadline, str(self)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.timeout(400)
def test_the_tour_shows_a_good_release_and_a_bad_one_caught_and_yields_to_the_operator(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    try:
        terminal.wait_for(r"1/3 .")
        terminal.wait_for(r"2/3 .*space holds")
        terminal.press(" ")
        terminal.wait_for(r"2/3 It is held\. space goes on")
        terminal.press(" ")
        terminal.wait_for(r"2/3 .*space holds")
        terminal.press("p")
        terminal.wait_for(r"50 % ▶", is_anywhere=True)
        terminal.press("p")
        terminal.wait_for(r"2/3 All users have it")
        terminal.wait_for(r"3/3 .*Hands off")
        terminal.wait_for(r"l unlocks")
        assert "rolled back" in str(terminal)
        assert "LOCKED" in str(terminal)
        terminal.press("q")
        assert terminal.status() == 0
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(terminal.pid, signal.SIGKILL)
            os.waitpid(terminal.pid, 0)
    assert list(tmp_path.glob("pithead-demo-*")) == [], "it was cleaned up before the prompt came back"
