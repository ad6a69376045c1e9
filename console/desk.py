"""The operator's desk: what the screen and the command line share. It reads the journal, writes commands into it under
the operator's name, and sees to it that a runner is there to answer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pithead.delivery import lease
from pithead.delivery.events import Event, NewEvent, Wish
from pithead.delivery.journal import Journal
from pithead.delivery.logbook import LogBook
from pithead.delivery.state import ServiceState

FIRST_GRACE_SECONDS, LONGEST_GRACE_SECONDS = 2.0, 60.0
"""How long after starting a runner another one is not tried; doubled each time that one did not stay."""


@dataclass(slots=True)
class Desk:
    """`config_path` is what a runner that is started from here is told to read."""

    journal: Journal
    book: LogBook
    actor: str
    config_path: Path
    state_folder: Path
    environment: str = ""
    target_name: str = ""
    _grace: float = FIRST_GRACE_SECONDS
    _next_start: float = 0.0
    _runner: subprocess.Popen[bytes] | None = None

    @property
    def service(self) -> str:
        return self.journal.service

    def press(self, wish: Wish, release: int | None = None) -> Event:
        """Journals the command and makes sure that somebody answers it. The answer is the first event whose `cause` is
        the returned event's `seq`."""
        (event,) = self.journal.append([NewEvent(self.actor, wish, release)])
        self.ensure_runner()
        return event

    def runner(self) -> lease.Holder | None:
        """The runner that holds the lease and is alive; None when nobody drives this service."""
        holder = lease.holder(self.journal)
        return holder if holder is not None and holder.is_alive(time.time()) else None

    def wants_runner(self, state: ServiceState) -> bool:
        """Whether something waits for a runner: a release in flight or queued, or a command without an answer."""
        return bool(state.in_flight or state.queued or state.unanswered)

    def ensure_runner(self) -> bool:
        """Starts a runner when none is alive; True when it did. The new process outlives this one and its terminal."""
        if self._runner is not None and self._runner.poll() is None:
            return False
        if self.runner() is not None:
            self._grace = FIRST_GRACE_SECONDS
            return False
        now = time.monotonic()
        if now < self._next_start:
            return False
        self._next_start = now + self._grace
        self._grace = min(2 * self._grace, LONGEST_GRACE_SECONDS)
        self.state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = os.open(self.state_folder / "runner.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._runner = subprocess.Popen(
                [sys.executable, "-m", "pithead.console.runner_process", str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                close_fds=True,
                cwd="/",
            )
        finally:
            os.close(log)
        return True
