"""The demo's own folder: private, apart from everything else of the user's, and gone when the demo is.

The journal, the state of all backends and the repository lie in it. It is told to every process that the demo starts by
`PITHEAD_STATE`, and by a mark by which the watchdog finds them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Final

from pithead.delivery.config import STATE_VARIABLE

CONFIG: Final = "pithead.yaml"
MARK: Final = "PITHEAD_DEMO"
PREFIX: Final = "pithead-demo-"
PATIENCE_SECONDS: Final = 60.0
SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


class NotCleanedError(Exception):
    """Something of the demo is left; the message says what."""


@contextlib.contextmanager
def demo_folder() -> Iterator[Path]:
    """The folder, with a watchdog that takes everything away when this ends, or when this process does.

    NotCleanedError when something is left afterwards. SIGTERM and SIGHUP end the demo as an exception would.
    """
    with _signals_raised():
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        with _environment({STATE_VARIABLE: str(folder / "state"), MARK: str(folder)}):
            watchdog = _start_watchdog(folder)
            try:
                yield folder
            finally:
                _clean_up(watchdog, folder)


def _start_watchdog(folder: Path) -> subprocess.Popen[bytes]:
    """In a session of its own, so that neither the terminal's end nor Ctrl-C reaches it. It does not carry the mark."""
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "pithead.console.demo.watchdog", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        folder.rmdir()
        raise


def _clean_up(watchdog: subprocess.Popen[bytes], folder: Path) -> None:
    """Lets go of the watchdog and waits until it is done; whoever is impatient may leave, it goes on alone."""
    try:
        said, _ = watchdog.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        raise NotCleanedError(f"cleaning {folder} up takes long; process {watchdog.pid} goes on with it.") from None
    if watchdog.returncode != 0:
        words = said.decode(errors="replace") or f"the watchdog ended with {watchdog.returncode}"
        raise NotCleanedError(f"the demo left something behind in {folder}: {words}")


@contextlib.contextmanager
def _environment(added: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _signals_raised() -> Iterator[None]:
    def heard(number: int, _frame: FrameType | None) -> None:
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)  # once is enough: the way out is not to be cut short
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, heard) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
