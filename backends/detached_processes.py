"""Processes that outlive whoever started them: how they are started, told apart, found again and ended.

Each leads a session of its own and carries a mark in its environment, which its descendants inherit. A process is known
by its pid and the moment of its birth, so that a pid that was given away again is never taken for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from pithead.backends.finishing import in_thread
from pithead.delivery.ports import BackendError

MARK: Final = "PITHEAD_INSTANCE"

_FIRST_PAUSE_SECONDS: Final = 0.01
_LONGEST_PAUSE_SECONDS: Final = 0.1
_KILL_PATIENCE_SECONDS: Final = 10.0

_DEAD_REMEMBERED: Final = 100

_HAS_PROC: Final = sys.platform.startswith("linux")

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Those that this process started: only a parent can collect an exit status, and must, or the dead stay as zombies."""


@dataclass(frozen=True, slots=True)
class Detached:
    """A process that was started here, by this process or an earlier one."""

    pid: int
    born: str


def start(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], output: Path, mark: str) -> Detached:
    """Starts a session leader whose output is appended to the private file `output`. BackendError if that fails."""
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            process = subprocess.Popen(
                arguments,
                cwd=folder,
                env={**environment, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise BackendError(
            f"{arguments[0]} could not be started in {folder}: {error.strerror}.",
            "Check that the folder is there and that this machine has memory and processes to spare.",
        ) from error
    _reap()
    _children[process.pid] = process
    return Detached(process.pid, _born(process.pid, zombies=True) or "")


def is_alive(process: Detached) -> bool:
    child = _children.get(process.pid)
    if child is not None and child.poll() is not None:
        return False
    return bool(process.born) and _born(process.pid) == process.born


def how_it_ended(process: Detached) -> str:
    """In words. Only the one who started a process learns its exit status."""
    child = _children.get(process.pid)
    status = child.poll() if child is not None else None
    if status is None:
        return "ended (started by an earlier run, so its exit status is unknown)"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by signal {-status} ({signal.Signals(-status).name})"
    return f"ended with exit status {status}"


def exit_status(process: Detached) -> int | None:
    """Negative for a signal; None while it runs and for other people's children."""
    child = _children.get(process.pid)
    return child.poll() if child is not None else None


async def end(processes: Sequence[Detached], grace_seconds: float) -> None:
    """SIGTERM to each whole session, SIGKILL to what is left after the grace. BackendError if something will not end."""
    if not await _is_over(processes, signal.SIGTERM, grace_seconds) and not await _is_over(
        processes, signal.SIGKILL, _KILL_PATIENCE_SECONDS
    ):
        left = [pid for process in processes for pid in _session(process)]
        raise BackendError(
            f"Process {left[0] if left else '?'} does not end, not even by SIGKILL.", "Look what holds it."
        )
    for process in processes:
        child = _children.pop(process.pid, None)
        if child is not None:
            child.poll()  # it may have ended after the last look


def marked(prefixes: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Every living process of ours whose mark begins like one of these, with its mark."""
    for pid in psutil.pids():
        mark = _mark(pid)
        if mark.startswith(prefixes):
            yield pid, mark


def kill_marked(prefixes: tuple[str, ...], except_marks: Collection[str] = ()) -> None:
    """SIGKILL to every marked process but those with the marks given."""
    for pid, mark in marked(prefixes):
        if mark not in except_marks and pid != os.getpid():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


async def _is_over(processes: Sequence[Detached], number: signal.Signals, patience_seconds: float) -> bool:
    """Sends the signal and waits. False when the patience is over before the last of them is."""
    deadline = time.monotonic() + patience_seconds
    pause = _FIRST_PAUSE_SECONDS
    left = await in_thread(_send, processes, number)
    while left:
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
        left = await in_thread(_send, left, signal.SIGKILL if number == signal.SIGKILL else None)
    return True


def _send(processes: Sequence[Detached], number: signal.Signals | None) -> Sequence[Detached]:
    """Those of which something is left, after sending the signal, if any, to all that is left of them."""
    left = []
    for process in processes:
        members = _session(process)
        for pid in members:
            if number is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        if members:
            left.append(process)
    return left


def _session(process: Detached) -> list[int]:
    """The living members of the session that the process leads or led.

    A session's number is not given away while it has members. So if somebody else has that pid, nobody of it is left.
    """
    child = _children.get(process.pid)
    if child is not None:
        child.poll()
    leader = _born(process.pid, zombies=True)
    if leader is not None and process.born and leader != process.born:
        return []
    return [pid for pid in psutil.pids() if _leader(pid) == process.pid and _born(pid) is not None]


def _mark(pid: int) -> str:
    """Empty for processes without one, of other users, and for the dead."""
    if not _HAS_PROC:
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            return process.environ().get(MARK, "") if process.status() != psutil.STATUS_ZOMBIE else ""
        return ""
    # Ten times as fast as psutil, and every order looks at every process.
    try:
        environment = b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    return environment.partition(f"\0{MARK}=".encode())[2].partition(b"\0")[0].decode("utf-8", "replace")


def _reap() -> None:
    """Collects children that ended unnoticed, and forgets all but the latest of the dead."""
    ended = [pid for pid, child in _children.items() if child.poll() is not None]
    for pid in ended[:-_DEAD_REMEMBERED]:
        del _children[pid]


def _leader(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _born(pid: int, *, zombies: bool = False) -> str | None:
    """When the process began, in words that stay the same for its life; None when there is none, or only its remains."""
    if _HAS_PROC:
        # In ticks since the machine started. psutil gives the time of day, which moves when the clock is set.
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return None
        fields = stat[stat.rindex(b")") + 2 :].split()
        return None if fields[0] in (b"Z", b"X") and not zombies else f"{_boot()}-{fields[19].decode()}"
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE and not zombies else repr(process.create_time())
    except psutil.Error:
        return None


@functools.cache
def _boot() -> str:
    """Names this run of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return ""
