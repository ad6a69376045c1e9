"""Tails the log of the stage that runs, or of the last one that did: from its end, and never further behind than what
the log pane keeps."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pithead.delivery.logbook import LogBook
from pithead.delivery.state import Release, ServiceState
from pithead.widgets.log_ring import KEPT_LINES, kept

READ_LINES = 5_000
BUSY_SECONDS = 0.1
QUIET_SECONDS = 0.5
QUIET_AFTER_READS = 20
LINGER_READS = 6
"""Reads after a stage's end, since its last lines may be written after the event that ends it."""


@dataclass(frozen=True, slots=True)
class LogKey:
    release: int
    stage: str
    attempt: int
    is_running: bool

    def is_same_log(self, other: LogKey | None) -> bool:
        return other is not None and (self.release, self.stage, self.attempt) == (
            other.release,
            other.stage,
            other.attempt,
        )

    @property
    def words(self) -> str:
        again = f" ×{self.attempt}" if self.attempt > 1 else ""
        return f"{self.stage}{again} of release {self.release}"


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Lines to append, the first of which has the number `first`; `begins` names the log when it is another one, or
    when lines between were skipped."""

    lines: tuple[str, ...]
    first: int
    begins: str | None = None


def current_log(state: ServiceState) -> LogKey | None:
    """The stage that runs; else the last one that ran, of the release in flight or of the one before."""
    for release in (state.in_flight, *state.ended[:1]):
        if release is not None and (key := _last_log(release)) is not None:
            return key
    return None


def _last_log(release: Release) -> LogKey | None:
    entered = [stage for stage in release.stages if stage.attempt > 0]
    if not entered:
        return None
    stage = release.running_stage or max(entered, key=lambda s: s.entered_at or 0.0)
    return LogKey(release.number, stage.name, stage.attempt, release.outcome is None)


class LogTail:
    def __init__(self, book: LogBook) -> None:
        self._book = book
        self._key: LogKey | None = None
        self._next = 0
        self._quiet_reads = 0
        self._batches: list[LogBatch] = []
        self._turn = asyncio.Lock()

    def take(self) -> list[LogBatch]:
        batches, self._batches = self._batches, []
        return batches

    def pause_seconds(self, state: ServiceState) -> float | None:
        """Until the next read; None: not before an event."""
        key = current_log(state)
        if key is None or (not key.is_running and self._quiet_reads > LINGER_READS):
            return None
        return BUSY_SECONDS if self._quiet_reads < QUIET_AFTER_READS else QUIET_SECONDS

    async def read(self, state: ServiceState) -> bool:
        """Whether there is anything new to take."""
        async with self._turn:
            return await self._read(state)

    async def _read(self, state: ServiceState) -> bool:
        key = current_log(state)
        if key is None:
            return False
        if not key.is_same_log(self._key):
            batch = await asyncio.to_thread(self._begin, key)
            self._quiet_reads = 0
        else:
            batch = await asyncio.to_thread(self._go_on, key)
            self._quiet_reads = 0 if batch.lines else self._quiet_reads + 1
        self._key = key
        if batch.lines or batch.begins is not None:
            self._batches.append(batch)
            return True
        return False

    def _begin(self, key: LogKey) -> LogBatch:
        lines = self._book.tail(key.release, key.stage, key.attempt, KEPT_LINES)
        first = lines[0].number if lines else 0
        self._next = lines[-1].number + 1 if lines else 0
        return LogBatch(tuple(kept(item.text) for item in lines), first, key.words)

    def _go_on(self, key: LogKey) -> LogBatch:
        lines = self._book.lines(key.release, key.stage, key.attempt, self._next, READ_LINES)
        if len(lines) == READ_LINES:
            written = self._book.count(key.release, key.stage, key.attempt)
            if written - self._next > KEPT_LINES:
                return self._begin(key)
        first = self._next
        if lines:
            self._next = lines[-1].number + 1
        return LogBatch(tuple(kept(item.text) for item in lines), first)
