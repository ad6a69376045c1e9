"""The runner's process: `python -m pithead.console.runner_process CONFIG`. It has no terminal, ends in order on SIGTERM,
ignores SIGHUP, and goes at once when another runner holds the lease."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from importlib.metadata import version
from pathlib import Path

from pithead.console.registry import Registry, open_backends
from pithead.console.station import blueprint_of, cleaner
from pithead.delivery import lease
from pithead.delivery.config import Config, ConfigErrors, load_config
from pithead.delivery.events import NewEvent, Refused, RunnerStopped
from pithead.delivery.journal import Journal, JournalError
from pithead.delivery.ports import PortError
from pithead.delivery.runner import Backends, Runner


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
        return _hold(config, journal)
    finally:
        journal.close()


def _hold(config: Config, journal: Journal) -> int:
    mine = lease.take(journal, f"{socket.gethostname()}:{os.getpid()}")
    if mine is None:
        return 0
    try:
        return asyncio.run(_run(config, journal, mine))
    except (PortError, ConfigErrors) as error:
        _tell(str(error))
        _give_reason(journal, f"the runner cannot start: {error}")
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
    state = await asyncio.to_thread(journal.fold)
    runner = Runner(journal, mine, state, blueprint_of(config), backends, cleaner(config))
    work = asyncio.ensure_future(runner.run(version("pithead")))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        await runner.say_goodbye("ended by a signal; the release goes on with the next runner")
    return 0


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
