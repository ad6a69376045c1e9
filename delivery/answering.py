"""Answers each command of an operator, in the journal's order; but none waits for another one's look at the source.

A start is decided on a list of pending commits that is of now, and reading it may take as long as a fetch over a slow
network. An abort that comes meanwhile is answered at once.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from pithead.delivery import decisions
from pithead.delivery import events as e
from pithead.delivery.blueprint import Blueprint
from pithead.delivery.decisions import RUNNER, live_commit
from pithead.delivery.ending import end
from pithead.delivery.events import NewEvent
from pithead.delivery.ledger import Ledger
from pithead.delivery.state import ServiceState, Unanswered


class Answering:
    """`read_pending` reads the list of pending commits anew and records it; it does not raise."""

    def __init__(
        self,
        ledger: Ledger,
        blueprint: Blueprint,
        read_pending: Callable[[], Awaitable[None]],
        clean: Callable[[str], str],
    ) -> None:
        self._ledger, self._blueprint, self._clean = ledger, blueprint, clean
        self._read_pending = read_pending
        self._read_for: set[int] = set()
        """The commands for which the list was read; each is read for once, whatever it holds then."""

    async def run(self) -> None:
        reading: asyncio.Future[None] | None = None
        try:
            while True:
                seen = self._ledger.state.seq
                if reading is not None and reading.done():
                    reading = None
                waiting = [command for command in self._ledger.state.unanswered if self._wants_list(command)]
                if waiting and reading is None:
                    reading = asyncio.ensure_future(self._read_list([command.seq for command in waiting]))
                for command in self._ledger.state.unanswered:
                    if command not in waiting:
                        await self._ledger.decide(partial(self._answer, command.seq))
                await self._ledger.changed_or_done(seen, reading)
        finally:
            await end(reading)

    def _wants_list(self, command: Unanswered) -> bool:
        wish = command.wish
        if not isinstance(wish, e.StartRequested | e.RetryRequested) or command.seq in self._read_for:
            return False
        pending = self._ledger.state.pending
        if pending is None or pending.base != live_commit(self._ledger.state):
            return True
        return isinstance(wish, e.StartRequested) and not (
            wish.commit and any(commit.sha.startswith(wish.commit) for commit in pending.commits)
        )

    async def _read_list(self, commands: Sequence[int]) -> None:
        try:
            await self._read_pending()
        finally:
            self._read_for.update(commands)

    def _answer(self, seq: int, state: ServiceState) -> Sequence[NewEvent]:
        command = next((command for command in state.unanswered if command.seq == seq), None)
        if command is None:
            return ()
        try:
            return decisions.answer(state, command, self._blueprint, time.time())
        except Exception as error:
            # Unanswered, it would be asked again for ever.
            traceback.print_exc()
            why = f"the runner failed at it ({type(error).__name__}: {error}); its log has more."
            refused = e.Refused(command.kind.removesuffix("_requested"), self._clean(why))
            return (NewEvent(RUNNER, refused, command.release, command.seq),)
