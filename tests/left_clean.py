"""Fixtures for tests that start processes: a log that keeps its lines, a place to work in, and no process left there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from pithead.delivery.ports import Context


class Lines:
    """A log that keeps everything, and tells when something came."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.batches: list[int] = []
        self.came = asyncio.Event()

    async def write(self, lines: Sequence[str]) -> None:
        self.lines += lines
        self.batches.append(len(lines))
        self.came.set()

    async def wait_for(self, line: str) -> None:
        while line not in self.lines:
            self.came.clear()
            await asyncio.wait_for(self.came.wait(), 30)

    def __str__(self) -> str:
        return "\n".join(self.lines)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_in(folder: Path) -> list[psutil.Process]:
    """The living processes that work in the folder or have it in their command line."""
    return [process for process in psutil.process_iter(["cmdline", "cwd", "status"]) if _belongs(process, str(folder))]


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def alive() -> Callable[[int], bool]:
    return is_alive


@pytest.fixture
def wait_until_gone() -> Callable[[Iterable[int]], None]:
    """Waits until all of these processes have ended; fails with the command lines of those that will not."""

    def wait(pids: Iterable[int], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        left = set(pids)
        while left := {pid for pid in left if is_alive(pid)}:
            assert time.monotonic() < deadline, [psutil.Process(pid).cmdline() for pid in left]
            time.sleep(0.02)

    return wait


@pytest.fixture
def context(tmp_path: Path) -> Context:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    return Context("shop", state, tmp_path)


@pytest.fixture
def no_process_left(tmp_path: Path) -> Iterator[None]:
    """Every process that a test starts works in or from its own folder, so that those left over can be told by it."""
    yield
    deadline = time.monotonic() + 5
    while (left := processes_in(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    told = [(process.pid, process.info["cmdline"]) for process in left]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert not told, "processes were left behind"


def _belongs(process: psutil.Process, folder: str) -> bool:
    info = process.info
    if info["status"] == psutil.STATUS_ZOMBIE:
        return False
    if (info["cwd"] or "").startswith(folder):
        return True
    return any(folder in word for word in info["cmdline"] or ())
