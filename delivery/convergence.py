"""Keeps the target at what the state desires. Level-triggered: whatever happened before, in this process or in one that
died, the next apply is of the whole order, and a newer order cuts an older one short."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Sequence

from pithead.delivery import events as e
from pithead.delivery.blueprint import Blueprint
from pithead.delivery.decisions import RUNNER, error_canary, fail_canary
from pithead.delivery.ending import end
from pithead.delivery.events import NewEvent
from pithead.delivery.journal import JournalError
from pithead.delivery.ledger import Ledger
from pithead.delivery.logbook import LogBook, StageLog
from pithead.delivery.ports import CheckFailed, Desired, Log, Observed, PortError, Target
from pithead.delivery.state import Release, ServiceState

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 15.0
OBSERVE_SECONDS = 0.03
DRIFT_SECONDS = 2.0
RETURN_TOLD_SECONDS = 2.0
"""How long the end of a release waits for the word that its traffic has returned."""


class NoLog:
    """For what the target says while no release is in flight."""

    async def write(self, lines: Sequence[str]) -> None: ...


class Convergence:
    def __init__(
        self, ledger: Ledger, book: LogBook, blueprint: Blueprint, target: Target, clean: Callable[[str], str]
    ) -> None:
        self._ledger, self._book, self._blueprint, self._target = ledger, book, blueprint, target
        self._clean = clean
        self._applied: Desired | None = None
        self._kicked = asyncio.Event()
        self._recheck: asyncio.Future[None] | None = None

    def saw(self, observed: Observed) -> None:
        """Looks again a little later when that is not what was applied, and if it still is not, applies again: somebody
        changed it by hand, or a machine came back without it."""
        applied = self._applied
        if applied is not None and _has_drifted(observed, applied) and (self._recheck is None or self._recheck.done()):
            self._recheck = asyncio.ensure_future(self._look_again(applied))

    async def _look_again(self, applied: Desired) -> None:
        await asyncio.sleep(DRIFT_SECONDS)
        try:
            observed = await self._target.observe()
        except Exception:
            return  # the watch beside it tells what is wrong
        if self._applied is applied and _has_drifted(observed, applied):
            self._applied = None
            self._kicked.set()

    async def run(self) -> None:
        backoff = FIRST_RETRY_SECONDS
        while True:
            state = self._ledger.state
            if not self._has_work(state):
                await self._something(state.seq)
                continue
            try:
                if await self._apply(state):
                    backoff = FIRST_RETRY_SECONDS
                    await self._found("target")
            except CheckFailed as error:
                if not await self._decide(lambda now, why: fail_canary(now, self._blueprint, why), error):
                    backoff = await self._wait(error, backoff)
            except JournalError:
                raise  # not the target's fault; the runner begins this task again
            except Exception as error:
                # Whatever a backend raises, the users' traffic is not left to itself: it counts as a broken tool.
                if not isinstance(error, PortError | OSError):
                    traceback.print_exc()
                await self._decide(lambda now, why: error_canary(now, self._blueprint, why), error)
                backoff = await self._wait(error, backoff)

    def _has_work(self, state: ServiceState) -> bool:
        release = state.in_flight
        if release is not None and release.returning and (release.step < 0 or state.desired == self._applied):
            return True
        if state.live is None and (release is None or release.step < 0):
            return False  # a journal without a past gives no right to take down what already runs there
        if release is not None and release.step >= 0 and release.shifted_at is None and not release.returning:
            return release.paused is None or state.desired != self._applied
        return state.desired != self._applied

    async def _something(self, seen: int) -> None:
        """A change of the state, or a kick."""
        self._kicked.clear()
        waits = [asyncio.ensure_future(self._ledger.changed(seen)), asyncio.ensure_future(self._kicked.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _apply(self, state: ServiceState) -> bool:
        """True when the target is at what was desired when it began; False when a newer order cut it short."""
        release, desired = state.in_flight, state.desired
        if release is not None and release.returning and release.step < 0:
            await self._ended(release)
            return True
        if desired != self._applied:
            self._applied = None
            log = self._log(release)
            try:
                if not await self._uninterrupted(desired, release, log):
                    return False
            finally:
                if isinstance(log, StageLog):
                    await log.close()
            self._applied = desired
        if release is None:
            return True
        if release.returning:
            await self._ended(release)
        else:
            await self._ledger.about_release(release.number, lambda now: _shifted(now, release))
        return True

    def _log(self, release: Release | None) -> Log:
        stage = release.running_stage if release else None
        if release is None or stage is None:
            return NoLog()
        return StageLog(self._book, release.number, stage.name, stage.attempt, self._clean)

    async def _uninterrupted(self, desired: Desired, release: Release | None, log: Log) -> bool:
        work = asyncio.ensure_future(self._target.apply(desired, log))
        watch = None
        if release is not None and release.returning:
            watch = asyncio.ensure_future(self._tell_when_returned(release))
        try:
            while not work.done():
                if self._ledger.state.desired != desired:
                    return False
                await self._ledger.changed_or_done(self._ledger.state.seq, work)
            await work
            if watch is not None:  # an order that was quickly done must not end the look that tells of it
                await asyncio.wait({watch}, timeout=RETURN_TOLD_SECONDS)
            return True
        finally:
            await end(work)
            await end(watch)

    async def _tell_when_returned(self, release: Release) -> None:
        """Records the moment at which the proxy sends the canary nothing more; stopping its instances takes longer."""
        assert release.returning is not None  # noqa: S101
        while True:
            try:
                if (await self._target.observe()).weight == 0:
                    break
            except Exception:  # noqa: S110
                pass  # the apply beside it tells what is wrong
            await asyncio.sleep(OBSERVE_SECONDS)
        seconds = max(0.0, time.time() - release.returning.since)
        await self._ledger.about_release(release.number, lambda _: (e.TrafficReturned(seconds),))

    async def _ended(self, release: Release) -> None:
        assert release.returning is not None  # noqa: S101
        returning = release.returning
        await self._ledger.about_release(
            release.number, lambda _: (e.ReleaseEnded(returning.outcome, returning.reason),)
        )

    async def _decide(self, decision: Callable[[ServiceState, str], Sequence[NewEvent]], error: Exception) -> bool:
        why = self._clean(str(error))[:2000]

        def about_new(state: ServiceState) -> Sequence[NewEvent]:
            release = state.in_flight
            return decision(state, why) if release is not None and release.step >= 0 else ()

        return await self._ledger.decide(about_new)

    async def _wait(self, error: Exception, backoff: float) -> float:
        """Records that the target cannot be driven and waits before the next try, or for a change; the next back-off."""
        message = self._clean(error.message if isinstance(error, PortError) else str(error))[:2000]
        mend = error.mend if isinstance(error, PortError) else ""

        def lost(state: ServiceState) -> Sequence[NewEvent]:
            known = state.lost.get("target")
            if known is not None and known.message == message:
                return ()
            return [NewEvent(RUNNER, e.BackendLost("target", message, mend))]

        await self._ledger.decide(lost)
        desired = self._ledger.state.desired
        deadline = time.monotonic() + backoff
        while self._ledger.state.desired == desired and time.monotonic() < deadline:
            await self._ledger.changed(self._ledger.state.seq, max(0.01, deadline - time.monotonic()))
        return min(backoff * 2, LONGEST_RETRY_SECONDS)

    async def _found(self, backend: e.BackendWord) -> None:
        await self._ledger.decide(lambda s: [NewEvent(RUNNER, e.BackendBack(backend))] if backend in s.lost else ())


def _has_drifted(observed: Observed, applied: Desired) -> bool:
    stable = applied.stable.digest if applied.stable else None
    canary = applied.canary.digest if applied.canary else None
    return (observed.stable, observed.canary, observed.weight) != (stable, canary, applied.weight)


def _shifted(state: ServiceState, applied: Release) -> Sequence[e.Payload]:
    release = state.in_flight
    if release is None or release.returning or release.shifted_at is not None or release.step != applied.step:
        return ()
    if state.desired.weight != applied.weight and state.desired.canary is not None:
        return ()
    return (e.TrafficShifted(release.step, release.weight),)
