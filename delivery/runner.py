"""The runner: drives the releases of one service, without a terminal.

It folds the journal, asks the target what is really there, and goes on from that. Its tasks share one thing, the
ledger: commands become decisions (`decisions.py`), decisions become a desired state, and `Convergence` brings the target to it;
stages and the watchman report back as decisions. Killing it at any point loses nothing but the work of a moment.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pithead.delivery import decisions, lease
from pithead.delivery import events as e
from pithead.delivery.answering import Answering
from pithead.delivery.blueprint import Blueprint
from pithead.delivery.convergence import Convergence
from pithead.delivery.decisions import RUNNER, live_commit
from pithead.delivery.ending import end
from pithead.delivery.events import NewEvent
from pithead.delivery.journal import Journal, JournalError, LeaseLostError
from pithead.delivery.ledger import Ledger
from pithead.delivery.logbook import LogBook
from pithead.delivery.ports import (
    Builder,
    CommandRunner,
    Instance,
    Metrics,
    Observed,
    PortError,
    Source,
    Target,
)
from pithead.delivery.stages import StageRunner
from pithead.delivery.state import ServiceState, StageRun
from pithead.delivery.watchman import Watchman

FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class Backends:
    source: Source
    builder: Builder
    commands: CommandRunner
    target: Target
    metrics: Metrics


class Runner:
    """Drives the service of `journal` as the holder of `mine`, until it is cancelled or the lease is lost."""

    def __init__(
        self,
        journal: Journal,
        mine: lease.Holder,
        state: ServiceState,
        blueprint: Blueprint,
        backends: Backends,
        clean: Callable[[str], str] = str,
    ) -> None:
        self._journal, self._mine = journal, mine
        self._blueprint, self._backends, self._clean = blueprint, backends, clean
        book = LogBook(journal)
        self.ledger = Ledger(journal, mine.epoch, state)
        self._convergence = Convergence(self.ledger, book, blueprint, backends.target, clean)
        self._stages = StageRunner(
            self.ledger, book, blueprint, backends.source, backends.builder, backends.commands, clean
        )
        self._watchman = Watchman(self.ledger, book, blueprint, backends.target, backends.metrics, clean)
        self._answering = Answering(self.ledger, blueprint, self._refresh_pending, clean)
        self._pending_turn = asyncio.Lock()

    async def run(self, version: str) -> None:
        """Returns when the lease is lost; a cancellation ends the work in order first."""
        await self.ledger.note(e.RunnerStarted(self._mine.name, self._mine.epoch, version))
        await self._take_over()
        try:
            async with asyncio.TaskGroup() as group:
                for work in (
                    self.ledger.follow,
                    self._heartbeat,
                    self._answering.run,
                    self._convergence.run,
                    self._drive,
                    self._watch_source,
                    self._watch_target,
                ):
                    group.create_task(self._lasting(work), name=work.__qualname__)
        except* LeaseLostError:
            _tell("another runner took the lease: this one ends.")

    async def say_goodbye(self, reason: str) -> None:
        """The last event, written when everything else has ended."""
        try:
            await asyncio.to_thread(self._journal.append, [NewEvent(RUNNER, e.RunnerStopped(reason))], self._mine.epoch)
        except JournalError as error:
            _tell(str(error))

    async def _lasting(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A fault in one task must not leave the service to itself: it is told, and the task begins again."""
        while True:
            try:
                await work()
                return
            except (LeaseLostError, asyncio.CancelledError):
                raise
            except Exception:
                traceback.print_exc()
                await asyncio.sleep(FIRST_BACKOFF_SECONDS)

    async def _take_over(self) -> None:
        """A build or test that was running when the runner before this one ended is begun again, as a new attempt."""

        def again(state: ServiceState) -> Sequence[e.Payload]:
            release = state.in_flight
            stage = release.running_stage if release else None
            if release is None or release.returning or stage is None or stage.kind not in ("build", "test"):
                return ()
            reason = "the runner before this one ended in it"
            return (e.StageEntered(stage.name, stage.attempt + 1, stage.expected_seconds, reason),)

        if self.ledger.state.in_flight is not None:
            await self.ledger.about_release(self.ledger.state.in_flight.number, again)

    async def _heartbeat(self) -> None:
        while True:
            try:
                if not await asyncio.to_thread(lease.renew, self._journal, self._mine):
                    raise LeaseLostError("the lease has another holder.")
            except LeaseLostError:
                raise
            except JournalError as error:
                _tell(str(error))
            await asyncio.sleep(lease.HEARTBEAT_SECONDS)

    # ── the release in flight ────────────────────────────────────────────────────────────────────────────────────

    async def _drive(self) -> None:
        """Enters stages and runs the work of the present one; cancels it the moment the release is elsewhere."""
        key: tuple[object, ...] | None = None
        work: asyncio.Task[None] | None = None
        try:
            while True:
                seen = self.ledger.state.seq
                await self._enter()
                wanted, begin = self._work()
                if wanted != key:
                    await end(work)
                    key, work = wanted, None
                    if begin is not None:
                        work = asyncio.ensure_future(begin())
                await self.ledger.changed_or_done(seen, work)
                if work is not None and work.done():
                    if not work.cancelled() and work.exception() is not None:
                        traceback.print_exception(work.exception())
                        await asyncio.sleep(FIRST_BACKOFF_SECONDS)
                    key, work = None, None
        finally:
            await end(work)

    async def _enter(self) -> None:
        state = self.ledger.state
        if state.in_flight is None:
            await self.ledger.decide(lambda now: decisions.start_queued(now, self._blueprint))
        else:
            await self.ledger.about_release(state.in_flight.number, decisions.enter_next_stage)

    def _work(self) -> tuple[tuple[object, ...] | None, Callable[[], Awaitable[None]] | None]:
        """What is to be done now: its identity, and how to begin it."""
        release = self.ledger.state.in_flight
        stage = release.running_stage if release else None
        if release is None or stage is None or release.returning:
            return None, None
        if stage.kind in ("build", "test"):
            run = self._stage_work(stage)
            return (release.number, stage.name, stage.attempt), run
        attempt = _analysis_attempt(release.stages)
        return (release.number, "watch", attempt), lambda: self._watchman.watch(release, attempt)

    def _stage_work(self, stage: StageRun) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            release = self.ledger.state.in_flight
            if release is not None:
                await self._stages.run(release, stage)

        return run

    # ── the outside ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _watch_source(self) -> None:
        keeper = asyncio.ensure_future(self._keep_pending())
        backoff = FIRST_BACKOFF_SECONDS
        try:
            while True:
                try:
                    async for head in self._backends.source.watch():
                        await self._refresh_pending(head)
                        await self._back("source")
                        backoff = FIRST_BACKOFF_SECONDS
                except (PortError, OSError) as error:
                    await self._lost("source", error)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)
        finally:
            await end(keeper)

    async def _keep_pending(self) -> None:
        """The list is another one when something else went live."""
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            seen = self.ledger.state.seq
            if self._is_list_of_before():
                await self._refresh_pending()
                if self._is_list_of_before():  # it could not be read: a queued release waits for it
                    await asyncio.sleep(backoff)
                    backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)
                    continue
                backoff = FIRST_BACKOFF_SECONDS
            await self.ledger.changed(seen)

    def _is_list_of_before(self) -> bool:
        pending = self.ledger.state.pending
        return pending is not None and pending.base != live_commit(self.ledger.state)

    async def _refresh_pending(self, head: str | None = None) -> None:
        """Reads what is pending and records it if it changed. A source that cannot be read is recorded as lost."""
        async with self._pending_turn:
            try:
                at = head or await self._backends.source.head()
                pending = await self._backends.source.commits(live_commit(self.ledger.state), at)
            except (PortError, OSError) as error:
                await self._lost("source", error)
                return
            new = e.PendingObserved(
                pending.base, pending.head, pending.commits, pending.total, pending.base_is_ancestor, pending.note
            )
            await self.ledger.decide(lambda s: [NewEvent(RUNNER, new)] if s.pending != new else ())

    async def _watch_target(self) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        was_unseen = True
        while True:
            try:
                async for observed in self._backends.target.watch():
                    await self._record_target(observed)
                    self._convergence.saw(observed)
                    if was_unseen:  # not each time: whether it can be driven is for the convergence to say
                        await self._back("target")
                    was_unseen, backoff = False, FIRST_BACKOFF_SECONDS
            except (PortError, OSError) as error:
                was_unseen = True
                await self._lost("target", error)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)

    async def _record_target(self, observed: Observed) -> None:
        instances = tuple(replace(instance, detail=self._clean(instance.detail)) for instance in observed.instances)
        new = e.TargetObserved(
            observed.stable,
            observed.canary,
            observed.weight,
            instances,
            observed.wanted_instances,
            observed.address,
            self._clean(observed.note),
        )
        await self.ledger.decide(lambda s: [NewEvent(RUNNER, new)] if _is_news(s.target, new) else ())
        failing = [i for i in instances if i.state == "failing" and _is_new(self.ledger.state, i)]
        if failing:
            why = f"{failing[0].name} does not stay up: {failing[0].detail or 'it keeps ending'}."
            await self.ledger.decide(
                lambda s: decisions.fail_canary(s, self._blueprint, why) if _is_canary_out(s) else ()
            )

    async def _lost(self, backend: e.BackendWord, error: Exception) -> None:
        message = self._clean(error.message if isinstance(error, PortError) else str(error))
        mend = error.mend if isinstance(error, PortError) else ""

        def lost(state: ServiceState) -> Sequence[NewEvent]:
            known = state.lost.get(backend)
            if known is not None and known.message == message:
                return ()
            return [NewEvent(RUNNER, e.BackendLost(backend, message, mend))]

        await self.ledger.decide(lost)

    async def _back(self, backend: e.BackendWord) -> None:
        await self.ledger.decide(lambda s: [NewEvent(RUNNER, e.BackendBack(backend))] if backend in s.lost else ())


def _analysis_attempt(stages: Sequence[StageRun]) -> int:
    """Canary and rollout share their evidence; a retry of either begins afresh."""
    return sum(max(stage.attempt, 1) - 1 for stage in stages if stage.kind in ("canary", "rollout")) + 1


def _is_news(known: e.TargetObserved | None, new: e.TargetObserved) -> bool:
    """Whether it differs in more than the moment at which an instance is said to have started."""
    if known is None:
        return True
    before, after = (
        replace(seen, instances=tuple(replace(instance, started_at=0.0) for instance in seen.instances))
        for seen in (known, new)
    )
    return before != after


def _is_new(state: ServiceState, instance: Instance) -> bool:
    """Whether the instance is of the release in flight: its canary, or a first release, which has no canary."""
    release = state.in_flight
    is_first = release is not None and release.is_first and release.artifact is not None
    return instance.arm == "canary" or (is_first and release.artifact.digest == instance.digest)  # type: ignore[union-attr]


def _is_canary_out(state: ServiceState) -> bool:
    release = state.in_flight
    return release is not None and release.step >= 0 and release.shifted_at is not None


def _tell(words: str) -> None:
    print(f"{time.strftime('%F %T')} {words}", file=sys.stderr, flush=True)  # noqa: T201
