"""Reads the samples of the release in flight as they come: the last few hundred of each metric, of this attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from pithead.delivery.logbook import LogBook, SampleRow
from pithead.delivery.state import ServiceState

KEPT_SAMPLES = 240
EVERY_SECONDS = 1.0


class Samples:
    def __init__(self, book: LogBook) -> None:
        self._book = book
        self._release: int | None = None
        self._after = 0
        self._turn = asyncio.Lock()
        self.by_metric: Mapping[str, tuple[SampleRow, ...]] = {}

    def pause_seconds(self, state: ServiceState) -> float | None:
        return EVERY_SECONDS if _is_compared(state) else None

    async def read(self, state: ServiceState) -> bool:
        """Whether any came."""
        async with self._turn:
            return await self._read(state)

    async def _read(self, state: ServiceState) -> bool:
        release = state.in_flight
        if release is None:
            return False
        if release.number != self._release:
            self._release, self._after, self.by_metric = release.number, 0, {}
        rows = await asyncio.to_thread(self._book.samples, release.number, self._after)
        if rows:
            self._after = rows[-1].id
            self.by_metric = gathered(self.by_metric, rows)
        return bool(rows)


def _is_compared(state: ServiceState) -> bool:
    return state.in_flight is not None and state.in_flight.phase in ("canary", "rollout")


def gathered(
    known: Mapping[str, tuple[SampleRow, ...]], rows: Sequence[SampleRow]
) -> Mapping[str, tuple[SampleRow, ...]]:
    """The known rows and the new ones by metric; a new attempt drops those of the one before."""
    made = dict(known)
    for row in rows:
        before = made.get(row.metric, ())
        if before and before[-1].attempt != row.attempt:
            before = ()
        made[row.metric] = (*before[-(KEPT_SAMPLES - 1) :], row)
    return made
