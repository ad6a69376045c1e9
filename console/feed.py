"""What feeds the screen: the journal, and nothing else.

Plain asyncio tasks, not workers: they fold the journal, follow it, tail the log of the stage that runs, read new
samples, and see that a runner is there. What they know is handed out as one immutable `Glance`; whoever paints takes
the latest and skips the ones between. While nothing happens they do next to nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from sqlite3 import Error as SqliteError

from sqlalchemy.exc import SQLAlchemyError

from pithead.console.desk import Desk
from pithead.console.sampling import Samples
from pithead.console.tailing import LogBatch, LogTail
from pithead.delivery import fold
from pithead.delivery.events import Event
from pithead.delivery.journal import JournalError
from pithead.delivery.state import ServiceState
from pithead.widgets.glance import Glance, RunnerWord

KEPT_EVENTS = 200
AT_ONCE, APART, LOG_APART = 0.0, 0.1, 0.25
"""Seconds between paintings: none for an answer; a log that races by is not read faster than four times a second."""
FOLLOW_SECONDS = 0.08  # answers to this console's commands are looked for every 5 ms
WATCH_SECONDS = 2.0
RETRY_SECONDS = 2.0
HURRY_SECONDS = 0.005
HURRY_FOR_SECONDS = 2.0
AGES_SECONDS = 20.0
UNREADABLE = (JournalError, SqliteError, SQLAlchemyError, OSError)


@dataclass(frozen=True, slots=True)
class Answer:
    """The first event that a command of this console caused, and how long it took."""

    command: Event
    event: Event


class _LeftError(Exception):
    """The console is leaving: a long fold is not worth finishing."""


class Feed:
    """`changed(apart)` is called in the event loop whenever a new glance is worth painting: now if `apart` seconds have
    passed since the last painting, else when they have."""

    def __init__(
        self,
        desk: Desk,
        changed: Callable[[float], None],
        is_read_only: bool = False,
        starts_runners: bool = True,
    ) -> None:
        self._desk = desk
        self._tell = changed
        self.is_stale = True
        self._is_read_only = is_read_only
        self._starts_runners = starts_runners
        self.state = ServiceState(desk.service)
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._is_folded = False
        self._reading: float | None = 0.0
        self._troubles: dict[str, str] = {}
        self._runner: RunnerWord = "unknown"
        self._note = ""
        self._awaited: dict[int, Event] = {}
        self._answers: list[Answer] = []
        self._moved = asyncio.Event()
        self._hurry = asyncio.Event()
        self._hurry_until = 0.0
        self._has_left = False
        self._tail = LogTail(desk.book)
        self._samples = Samples(desk.book)

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for job in (self._follow, self._hasten, self._read_logs, self._read_samples, self._watch, self._age):
                    tasks.create_task(job(), name=f"feed{job.__name__}")
        finally:
            self._has_left = True

    def _changed(self, apart: float) -> None:
        self.is_stale = True
        self._tell(apart)

    def glance(self) -> Glance:
        """What is known now. `is_stale` is False until something but the log changes."""
        self.is_stale = False
        desk = self._desk
        return Glance(
            state=self.state,
            now=time.time(),
            environment=desk.environment,
            target_name=desk.target_name,
            operator=desk.actor,
            runner=self._runner,
            events=tuple(self._events),
            samples=self._samples.by_metric,
            reading=self._reading if not self._is_folded else None,
            trouble=next(iter(self._troubles.values()), ""),
            note=self._note,
            is_read_only=self._is_read_only,
        )

    async def is_settled(self) -> None:
        """Returns when the journal, the log and the samples were read up to where they are now."""
        while not self._is_folded or self._runner == "unknown":
            await self._moved.wait()
        head = await asyncio.to_thread(self._desk.journal.head)
        while self.state.seq < head:
            await self._moved.wait()
        await self._tail.read(self.state)
        await self._samples.read(self.state)

    def take_log(self) -> list[LogBatch]:
        return self._tail.take()

    def take_answers(self) -> list[Answer]:
        answers, self._answers = self._answers, []
        return answers

    def hasten(self) -> None:
        """Looks for events every 5 ms for a while: a command is on its way into the journal, or in it."""
        self._hurry_until = time.monotonic() + HURRY_FOR_SECONDS
        self._hurry.set()

    def expect(self, command: Event) -> None:
        """Has the answer to the command told, be it there already: the runner may be quicker than this call."""
        for event in self._events:
            if event.cause == command.seq:
                self._answers.append(Answer(command, event))
                self._changed(AT_ONCE)
                return
        self._awaited[command.seq] = command
        self.hasten()

    # ── following ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _follow(self) -> None:
        async def follow() -> None:
            if not self._is_folded:
                await self._fold()
            await asyncio.to_thread(self._desk.journal.head)
            self._clear("follow")
            async with aclosing(self._desk.journal.follow(self.state.seq, FOLLOW_SECONDS)) as batches:
                async for batch in batches:
                    self._take(batch)

        while True:
            await self._told("follow", follow)
            await asyncio.sleep(RETRY_SECONDS)

    async def _told(self, what: str, job: Callable[[], Awaitable[None]]) -> None:
        """Runs it; trouble with the journal is shown until the same job works again."""
        try:
            await job()
            self._clear(what)
        except UNREADABLE as error:
            if self._troubles.get(what) != str(error):
                self._troubles[what] = str(error)
                self._changed(AT_ONCE)

    def _clear(self, what: str) -> None:
        if self._troubles.pop(what, None):
            self._changed(AT_ONCE)

    def _ring(self) -> None:
        """Wakes all who wait for an event."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def _fold(self) -> None:
        loop = asyncio.get_running_loop()

        def tell(done: int, of: int) -> None:
            if self._has_left:
                raise _LeftError
            loop.call_soon_threadsafe(self._read_so_far, done / of if of else 1.0)

        state, events = await asyncio.to_thread(
            lambda: (self._desk.journal.fold(tell), self._desk.journal.tail(KEPT_EVENTS))
        )
        self.state = state
        self._events.extend(event for event in events if event.seq <= state.seq)
        self._is_folded = True
        self._ring()
        self._changed(AT_ONCE)

    def _read_so_far(self, share: float) -> None:
        self._reading = share
        self._changed(APART)

    def _take(self, batch: Sequence[Event]) -> None:
        is_urgent = False
        for event in batch:
            if event.seq <= self.state.seq:
                continue
            self.state = fold.apply(self.state, event)
            self._events.append(event)
            if event.cause is not None and (command := self._awaited.pop(event.cause, None)):
                self._answers.append(Answer(command, event))
                is_urgent = True
                self._hurry_until = 0.0
        self._note = self._note if self.state.in_flight else ""
        self._ring()
        self._changed(AT_ONCE if is_urgent else APART)

    async def _hasten(self) -> None:
        async def look() -> None:
            while time.monotonic() < self._hurry_until:
                if batch := await asyncio.to_thread(self._desk.journal.read, self.state.seq):
                    self._take(batch)
                await asyncio.sleep(HURRY_SECONDS)

        while True:
            await self._hurry.wait()
            self._hurry.clear()
            await self._told("hasten", look)

    # ── logs and samples ─────────────────────────────────────────────────────────────────────────────────────────

    async def _read_logs(self) -> None:
        async def read() -> None:
            if await self._tail.read(self.state):
                self._tell(LOG_APART)

        while True:
            await self._told("logs", read)
            await self._wait(self._tail.pause_seconds(self.state))

    async def _read_samples(self) -> None:
        async def read() -> None:
            if await self._samples.read(self.state):
                self._changed(APART)

        while True:
            await self._told("samples", read)
            await self._wait(self._samples.pause_seconds(self.state))

    async def _wait(self, seconds: float | None) -> None:
        """That long, or (None) until an event comes."""
        if seconds is None:
            await self._moved.wait()
        else:
            await asyncio.sleep(seconds)

    # ── the runner, and time ─────────────────────────────────────────────────────────────────────────────────────

    async def _watch(self) -> None:
        while True:
            await self._told("watch", self._look_for_runner)
            await asyncio.sleep(WATCH_SECONDS)

    async def _look_for_runner(self) -> None:
        is_wanted = self._is_folded and self._starts_runners
        holder, has_started = await asyncio.to_thread(self._runner_now, is_wanted)
        word: RunnerWord = "alive" if holder else "none"
        before, self._runner = self._runner, word
        if has_started and before == "alive":
            self._note = "the runner was gone: started another, which goes on from the journal"
        elif has_started and before == "none":
            self._note = "started a runner"
        if before != word or has_started:
            self._ring()
            self._changed(APART)

    def _runner_now(self, is_wanted: bool) -> tuple[bool, bool]:
        holder = self._desk.runner()
        return holder is not None, is_wanted and holder is None and self._desk.ensure_runner()

    async def _age(self) -> None:
        """Elapsed times count while a release is in flight; ages, which are coarse, otherwise."""
        while True:
            is_counting = self.state.in_flight or self.state.queued or self.state.unanswered
            if is_counting:
                await asyncio.sleep(1.0)
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._moved.wait(), AGES_SECONDS)
            self._changed(APART)
