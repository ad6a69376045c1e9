"""The runner's hold on the journal: the state as folded so far, and the one way to decide.

A decision is a function from the state to events. `decide` computes and records it with nothing in between, so that two
tasks of the runner cannot decide on the same state. When the journal cannot be written (a full disk), it waits and tries
again: nothing may be done that is not recorded first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from pithead.delivery import fold
from pithead.delivery.decisions import RUNNER
from pithead.delivery.events import Event, NewEvent, Payload
from pithead.delivery.journal import RETRY_SECONDS, Journal, JournalError, LeaseLostError, persistently
from pithead.delivery.state import ServiceState

FOLLOW_SECONDS = 0.02


class Ledger:
    def __init__(self, journal: Journal, epoch: int, state: ServiceState) -> None:
        self.journal = journal
        self.epoch = epoch
        self.state = state
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    async def decide(self, decision: Callable[[ServiceState], Sequence[NewEvent]]) -> bool:
        """Records what the decision makes of the present state; False when that is nothing."""
        async with self._turn:
            new = decision(self.state)
            if not new:
                return False
            await persistently(lambda: self._record(new))
            return True

    async def _record(self, new: Sequence[NewEvent]) -> None:
        """Also to its end when cancelled: the thread writes on, and the next decision has to know what it wrote."""
        writing = asyncio.ensure_future(asyncio.to_thread(self.journal.append, new, self.epoch))
        try:
            placed = await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})
            if not writing.cancelled() and writing.exception() is None:
                await self._take(writing.result())
            raise
        await self._take(placed)

    async def about_release(self, number: int, decision: Callable[[ServiceState], Sequence[Payload]]) -> bool:
        """The same for facts about release `number`, as long as it is the one in flight."""

        def facts(state: ServiceState) -> Sequence[NewEvent]:
            if state.in_flight is None or state.in_flight.number != number:
                return ()
            return [NewEvent(RUNNER, payload, number) for payload in decision(state)]

        return await self.decide(facts)

    async def note(self, payload: Payload) -> None:
        """Records a fact about the service."""
        await self.decide(lambda _: [NewEvent(RUNNER, payload)])

    async def follow(self) -> None:
        """Takes in what others write, for ever."""
        while True:
            try:
                async for batch in self.journal.follow(self.state.seq, FOLLOW_SECONDS):
                    async with self._turn:
                        await self._take(batch)
            except LeaseLostError:
                raise
            except JournalError:
                await asyncio.sleep(RETRY_SECONDS)

    async def changed(self, seen: int, timeout: float | None = None) -> None:
        """Returns once the state is past seq `seen`, or after the time-out in seconds."""
        if self.state.seq != seen:
            return
        # Not wait_for: up to Python 3.11 it swallows a cancellation that comes together with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._changed.wait()

    async def changed_or_done(self, seen: int, work: asyncio.Future[Any] | None) -> None:
        """Returns once the state is past seq `seen`, or the work has ended; the work goes on when the wait is cancelled."""
        change = asyncio.ensure_future(self.changed(seen))
        waits: set[asyncio.Future[Any]] = {change} if work is None else {change, work}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            change.cancel()

    async def until(self, condition: Callable[[ServiceState], bool]) -> None:
        while not condition(self.state):
            await self.changed(self.state.seq)

    async def _take(self, batch: Sequence[Event]) -> None:
        if not batch or batch[-1].seq <= self.state.seq:
            return
        fresh = [event for event in batch if event.seq > self.state.seq]
        if fresh[0].seq != self.state.seq + 1:
            fresh = await persistently(lambda: asyncio.to_thread(self._missing, fresh[-1].seq))
        self.state = fold.fold(fresh, self.state)
        done, self._changed = self._changed, asyncio.Event()
        done.set()

    def _missing(self, last: int) -> list[Event]:
        found: list[Event] = []
        at = self.state.seq
        while at < last:
            batch = self.journal.read(at)
            if not batch:
                break
            found.extend(batch)
            at = batch[-1].seq
        return found
