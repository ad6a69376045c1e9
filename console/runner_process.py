"""The runner's process: `python -m pithead.console.runner_process CONFIG`. It has no terminal, ends in order on SIGTERM,
ignores SIGHUP, and goes at once when another runner holds the lease."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from pithead.console.registry import Registry, open_backends
from pithead.console.station import blueprint_of, cleaner
from pithead.delivery import lease
from pithead.delivery.config import Config, ConfigErrors, load_config
from pithead.delivery.events import NewEvent, Refused, RunnerStopped
from pithead.delivery.journal import Journal, JournalError
from pithead.delivery.plain_text import plain
from pithead.delivery.ports import PortError
from pithead.delivery.runner import Backends, Runner
from pithead.delivery.state import ServiceState

THREADS = 32
CONFIG_SECONDS = 0.5
AGAIN = -1
"""The process is to begin anew, with the config as it is now."""


def main(arguments: list[str]) -> int:
    """0 when it ended in order or was not needed, 2 for a config that cannot be used, 4 when it could not work."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.umask(0o077)
    path = Path(arguments[0])
    try:
        config = load_config(path)
        journal = Journal(config.journal_url(), config.service)
    except ConfigErrors as errors:
        _tell(str(errors))
        return 2
    except (PortError, JournalError) as error:
        _tell(str(error))
        return 4
    try:
        status = _hold(config, journal)
    finally:
        journal.close()
    if status == AGAIN:
        module = "pithead.console.runner_process"
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - this very program
    return status


def _hold(config: Config, journal: Journal) -> int:
    mine = lease.take(journal, f"{socket.gethostname()}:{os.getpid()}")
    if mine is None:
        return 0
    try:
        return asyncio.run(_run(config, journal, mine))
    except (PortError, ConfigErrors) as error:
        _tell(str(error))
        _give_reason(journal, plain(f"the runner cannot start: {error}"))
        return 4
    except JournalError as error:
        _tell(str(error))
        return 4
    finally:
        try:
            lease.give_up(journal, mine)
        except JournalError as error:
            _tell(str(error))


async def _run(config: Config, journal: Journal, mine: lease.Holder) -> int:
    registry = Registry()
    opened = open_backends(load_config(config.file, registry), registry)
    from pithead.backends.commands import GuardedCommands

    backends = Backends(opened.source, opened.builder, GuardedCommands(), opened.target, opened.metrics)
    # Room for calls that hang, so that the journal never waits for a thread behind them.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "pithead"))
    state = await asyncio.to_thread(journal.fold)
    runner = Runner(journal, mine, state, blueprint_of(config), backends, cleaner(config))
    work = asyncio.ensure_future(runner.run(version("pithead")))
    change = asyncio.ensure_future(_config_change(config.file, registry, runner))
    change.add_done_callback(lambda done: work.cancel() if _is_return(done) else None)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        is_changed = _is_return(change)
        why = "the config changed: it is read anew" if is_changed else "ended by a signal"
        await runner.say_goodbye(f"{why}; the release goes on with the next runner")
        # At once, and not when the last thread has ended: a call that hangs must not keep the next runner out.
        lease.give_up(journal, mine)
        return AGAIN if is_changed else 0
    return 0


async def _config_change(path: Path, registry: Registry, runner: Runner) -> None:
    """Returns when the config is another one, can be used, and no build or test would be cut off by a new start."""
    read = told = _stamp(path)
    while True:
        await asyncio.sleep(CONFIG_SECONDS)
        stamp = _stamp(path)
        if stamp is None or stamp == read or _is_building(runner.ledger.state):
            continue
        try:
            await asyncio.to_thread(load_config, path, registry)
            return
        except ConfigErrors as errors:
            if stamp != told:
                _tell(f"the changed config cannot be used, the one of before still is:\n{errors}")
            told = stamp


def _is_return(done: asyncio.Future[None]) -> bool:
    return done.done() and not done.cancelled() and done.exception() is None


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _is_building(state: ServiceState) -> bool:
    stage = state.in_flight.running_stage if state.in_flight else None
    return stage is not None and stage.kind in ("build", "test")


def _give_reason(journal: Journal, why: str) -> None:
    """Answers each waiting command with the reason, and records it once."""
    state = journal.fold()
    new = [
        NewEvent("runner", Refused(command.kind.removesuffix("_requested"), why), command.release, command.seq)
        for command in state.unanswered
    ]
    if state.runner is None or state.runner.is_running or state.runner.reason != why:
        new.append(NewEvent("runner", RunnerStopped(why)))
    journal.append(new)


def _tell(words: str) -> None:
    print(f"{time.strftime('%F %T')} {words}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
