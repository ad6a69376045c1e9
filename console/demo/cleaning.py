"""Takes a demo away again: its runner, its users, its instances with their proxy, its folder. Nothing else.

What belongs to a demo is known by records: processes that carry the demo's folder in their environment, and those that
the target remembers having started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import psutil

from pithead.console.demo.folder import CONFIG, MARK
from pithead.delivery.ports import Desired

END_SECONDS: Final = 8.0
TEARDOWN_SECONDS: Final = 30.0


class _NoLog:
    async def write(self, lines: Sequence[str]) -> None: ...


def clean(folder: str) -> list[str]:
    """What is left of the demo in the folder, in words; nothing if all went well."""
    problems: list[str] = []
    for step in (_end_processes, _take_down, _end_processes, _remove):
        try:
            step(Path(folder))
        except Exception as error:  # the steps after it are worth trying all the same
            problems.append(f"{step.__name__.strip('_').replace('_', ' ')}: {error}")
    return problems


def _end_processes(folder: Path) -> None:
    """The runner and the users: SIGTERM first. Again and again, for one may have started another meanwhile."""
    deadline = time.monotonic() + END_SECONDS
    asked: set[int] = set()
    while left := list(marked(folder)):
        for process in left:
            with contextlib.suppress(psutil.Error):
                if time.monotonic() > deadline:
                    process.kill()
                elif process.pid not in asked:
                    process.terminate()
            asked.add(process.pid)
        if time.monotonic() > deadline + END_SECONDS:
            raise RuntimeError(f"process {left[0].pid} does not end")
        psutil.wait_procs(left, timeout=0.1)


def marked(folder: Path) -> Iterator[psutil.Process]:
    """Every living process that was started by the demo of this folder; whoever asks is not among them."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            is_ours = process.pid != os.getpid() and process.environ().get(MARK) == str(folder)
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _take_down(folder: Path) -> None:
    """Instances and proxy. They outlive the runner by design, and only the target knows them."""
    from pithead.console.registry import open_backends
    from pithead.delivery.config import load_config

    config = folder / CONFIG
    if not config.is_file():
        return
    target = open_backends(load_config(config)).target
    asyncio.run(asyncio.wait_for(target.apply(Desired(), _NoLog()), TEARDOWN_SECONDS))


def _remove(folder: Path) -> None:
    """Artifacts are read-only, and so are their folders: nothing can be taken out of those before they are not."""
    for place, _, _ in os.walk(folder):
        Path(place).chmod(stat.S_IRWXU)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
