"""Log lines and metric samples: the high-volume part of the journal, written in batches into tables of their own.

Lines of one attempt of one stage are numbered from 0. A row is a batch, so that ten million lines are some ten thousand
rows and the last screenful is one look-up. What is stored was masked first and holds no control characters that a
terminal would obey: whoever prints it need not think of that again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select

from pithead.delivery.journal import Journal, persistently
from pithead.delivery.journal_tables import logs, samples

BATCH_LINES = 500
BATCH_SECONDS = 0.1
KEPT_BYTES = 64 * 1024 * 1024
KEPT_TAIL = 2000


@dataclass(frozen=True, slots=True)
class LogLine:
    """`number` counts from 0 within its stage's attempt; `at` is the Unix time of its batch."""

    number: int
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One scrape of one metric as it was judged; `data` has `kind`, `canary`, `baseline`, `verdict`, `sentence` and
    `effect` (see `delivery.canary.judge.Judged.as_data`)."""

    id: int
    at: float
    metric: str
    attempt: int
    data: Mapping[str, Any]


class LogBook:
    """Reads and writes the lines and samples of the journal's service. Blocking: call it in a thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def write(self, release: int, stage: str, attempt: int, first: int, lines: Sequence[str]) -> None:
        with self._journal.writing(is_durable=False) as connection:
            connection.execute(
                insert(logs).values(
                    service=self._journal.service,
                    release=release,
                    stage=stage,
                    attempt=attempt,
                    first=first,
                    lines=len(lines),
                    at=time.time(),
                    body="\n".join(lines),
                )
            )

    def count(self, release: int, stage: str, attempt: int) -> int:
        """How many lines that attempt has written so far."""
        query = (
            select(logs.c.first + logs.c.lines)
            .where(*self._stage(release, stage, attempt))
            .order_by(logs.c.first.desc())
            .limit(1)
        )
        with self._journal.reading() as connection:
            return int(connection.execute(query).scalar() or 0)

    def lines(self, release: int, stage: str, attempt: int, first: int = 0, limit: int = 5000) -> list[LogLine]:
        """Up to `limit` lines from number `first` on, in order."""
        query = (
            select(logs.c.first, logs.c.at, logs.c.body)
            .where(*self._stage(release, stage, attempt), logs.c.first > first - BATCH_LINES)
            .where(logs.c.first + logs.c.lines > first)
            .order_by(logs.c.first)
            .limit(limit)
        )
        found: list[LogLine] = []
        with self._journal.reading() as connection:
            for row in connection.execute(query):
                for number, text in enumerate(row.body.split("\n"), start=row.first):
                    if number >= first:
                        found.append(LogLine(number, row.at, text))
                if len(found) >= limit:
                    break
        return found[:limit]

    def tail(self, release: int, stage: str, attempt: int, count: int) -> list[LogLine]:
        """The last `count` lines, oldest first."""
        first = max(0, self.count(release, stage, attempt) - count)
        return self.lines(release, stage, attempt, first, count)

    def attempts(self, release: int) -> list[tuple[str, int, int]]:
        """(stage, attempt, lines) for each attempt of the release that wrote anything, in the order of writing."""
        query = (
            select(logs.c.stage, logs.c.attempt, func.max(logs.c.first + logs.c.lines), func.min(logs.c.id))
            .where(logs.c.service == self._journal.service, logs.c.release == release)
            .group_by(logs.c.stage, logs.c.attempt)
            .order_by(func.min(logs.c.id))
        )
        with self._journal.reading() as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(query)]

    def _stage(self, release: int, stage: str, attempt: int) -> tuple[Any, ...]:
        return (
            logs.c.service == self._journal.service,
            logs.c.release == release,
            logs.c.stage == stage,
            logs.c.attempt == attempt,
        )

    def write_samples(self, release: int, attempt: int, at: float, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """`rows`: metric name → its data."""
        if not rows:
            return
        with self._journal.writing(is_durable=False) as connection:
            connection.execute(
                insert(samples),
                [
                    {
                        "service": self._journal.service,
                        "release": release,
                        "attempt": attempt,
                        "at": at,
                        "metric": metric,
                        "data": json.dumps(data),
                    }
                    for metric, data in rows.items()
                ],
            )

    def samples(self, release: int, after: int = 0, limit: int = 20_000) -> list[SampleRow]:
        """The release's samples with an id above `after`, in order of writing."""
        query = (
            select(samples)
            .where(samples.c.service == self._journal.service, samples.c.release == release, samples.c.id > after)
            .order_by(samples.c.id)
            .limit(limit)
        )
        with self._journal.reading() as connection:
            return [SampleRow(r.id, r.at, r.metric, r.attempt, json.loads(r.data)) for r in connection.execute(query)]


class StageLog:
    """A stage's log as a `ports.Log`: batches lines, masks secrets, keeps at most `KEPT_BYTES` and then the last lines.

    Awaiting `write` waits for the disk once a batch is full, so that a loud build cannot fill the memory.
    """

    def __init__(
        self, book: LogBook, release: int, stage: str, attempt: int, clean: Callable[[str], str] = str
    ) -> None:
        self._book = book
        self._release, self._stage, self._attempt = release, stage, attempt
        self._clean = clean
        self._next = book.count(release, stage, attempt)
        self._buffer: list[str] = []
        self._bytes = 0
        self._tail: deque[str] = deque(maxlen=KEPT_TAIL)
        self._dropped_lines = 0
        self._timer: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def write(self, lines: Sequence[str]) -> None:
        for line in lines:
            for part in self._clean(line).split("\n"):  # lines are numbered: one that holds two would shift the rest
                self._take(part)
        while len(self._buffer) >= BATCH_LINES:
            await self.flush()
        if self._buffer and (self._timer is None or self._timer.done()):
            self._timer = asyncio.get_running_loop().create_task(self._flush_soon())

    async def close(self) -> None:
        """Writes what is left; says what was not kept."""
        if self._timer is not None and not self._turn.locked():
            self._timer.cancel()  # one that writes just now is waited for below: its lines are out of the buffer
        if self._dropped_lines:
            limit = f"a log keeps {KEPT_BYTES:,} bytes and its last {KEPT_TAIL:,} lines"
            self._buffer.append(f"… {self._dropped_lines:,} lines not kept: {limit} …")
        self._buffer.extend(self._tail)
        self._tail.clear()
        while self._buffer:
            await self.flush()

    async def flush(self) -> None:
        async with self._turn:
            batch, self._buffer = self._buffer[:BATCH_LINES], self._buffer[BATCH_LINES:]
            if batch:
                first, self._next = self._next, self._next + len(batch)
                await persistently(
                    lambda: asyncio.to_thread(self._book.write, self._release, self._stage, self._attempt, first, batch)
                )

    def _take(self, line: str) -> None:
        self._bytes += len(line) + 1
        if self._bytes <= KEPT_BYTES:
            self._buffer.append(line)
            return
        if len(self._tail) == KEPT_TAIL:
            self._dropped_lines += 1
        self._tail.append(line)

    async def _flush_soon(self) -> None:
        await asyncio.sleep(BATCH_SECONDS)
        await self.flush()
