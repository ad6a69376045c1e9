"""Takes a demo away again: its runner, its users, its instances with their proxy, its folder. Nothing else.

What belongs to a demo is known by records: processes that carry the demo's folder in their environment, and those that
the target remembers having started. When the target cannot be asked, its processes are known by the mark that it gives
each, together with the folder that they work in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from pithead.console.demo.folder import CONFIG, MARK
from pithead.delivery.ports import TARGETS, Context, Desired
from pithead.delivery.private_files import make_private_folder

END_SECONDS: Final = 8.0
TEARDOWN_SECONDS: Final = 30.0
INSTANCE_MARK: Final = "PITHEAD_INSTANCE"
"""What the process target puts into the environment of all that it starts."""


class _NoLog:
    async def write(self, lines: Sequence[str]) -> None: ...


def clean(folder: str) -> list[str]:
    """What is left of the demo in the folder, in words; nothing if all went well."""
    problems: list[str] = []
    for step in (_end_processes, _take_down, _end_the_rest, _remove):
        try:
            step(Path(folder))
        except Exception as error:  # the steps after it are worth trying all the same
            problems.append(f"{step.__name__.strip('_').replace('_', ' ')}: {error}")
    return problems


def _end_processes(folder: Path) -> None:
    """The runner and the users, who would start others meanwhile."""
    _end(lambda: marked(folder))


def _end_the_rest(folder: Path) -> None:
    """Nothing, when the target could be taken down."""
    _end(lambda: (*marked(folder), *_instances(folder)))


def _end(living: Callable[[], Iterable[psutil.Process]]) -> None:
    """SIGTERM first. Looks again until none is there, for one may have started another."""
    deadline = time.monotonic() + END_SECONDS
    asked: set[int] = set()
    while left := list(living()):
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
    return (process for process, environment in _others() if environment.get(MARK) == str(folder))


def _instances(folder: Path) -> Iterator[psutil.Process]:
    for process, environment in _others():
        with contextlib.suppress(psutil.Error, OSError):
            places = (process.cwd(), *process.cmdline())
            if INSTANCE_MARK in environment and any(place.startswith(f"{folder}{os.sep}") for place in places):
                yield process


def _others() -> Iterator[tuple[psutil.Process, Mapping[str, str]]]:
    """The processes that may be looked at, with their environment."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                yield process, process.environ()


def _take_down(folder: Path) -> None:
    """Instances and proxy. They outlive the runner by design, and only the target knows them: the other backends, which
    may be what is broken, are not asked."""
    from pithead.console.registry import Registry
    from pithead.delivery.config import load_config

    path = folder / CONFIG
    if not path.is_file():
        return
    config = load_config(path)
    backend = Registry().load(TARGETS, config.target.name)
    state = make_private_folder(config.state_folder() / "target")
    context = Context(config.service, state, config.folder)
    target = backend(backend.Options.model_validate(config.target.options), context)
    asyncio.run(asyncio.wait_for(target.apply(Desired(), _NoLog()), TEARDOWN_SECONDS))


def _remove(folder: Path) -> None:
    """Artifacts are read-only, and so are their folders: nothing can be taken out of those before they are not."""
    for place, _, _ in os.walk(folder):
        Path(place).chmod(stat.S_IRWXU)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
