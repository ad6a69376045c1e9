"""Watches the canary: scrapes both arms, has them judged, records what was seen, and decides at each look.

The samples of the attempt so far are read back from the journal at the start, so that a new runner goes on with all of
the evidence that the one before it had gathered.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pithead.delivery import events as e
from pithead.delivery.blueprint import Blueprint
from pithead.delivery.canary.judge import Judged, judge
from pithead.delivery.decisions import RUNNER, error_canary, has_comparison, judge_step
from pithead.delivery.events import NewEvent
from pithead.delivery.journal import persistently
from pithead.delivery.ledger import Ledger
from pithead.delivery.logbook import LogBook, SampleRow
from pithead.delivery.ports import (
    Arm,
    ArmAddress,
    Counts,
    Histogram,
    Metrics,
    PortError,
    Reading,
    Sample,
    Target,
)
from pithead.delivery.state import Release, ServiceState

LOST_SCRAPES = 3
"""So many scrapes in a row without an answer are more than a hiccup."""


class Watchman:
    def __init__(
        self,
        ledger: Ledger,
        book: LogBook,
        blueprint: Blueprint,
        target: Target,
        metrics: Metrics,
        clean: Callable[[str], str] = str,
    ) -> None:
        self._clean = clean
        self._ledger, self._book, self._blueprint = ledger, book, blueprint
        self._target, self._metrics = target, metrics
        self._samples: list[Sample] = []
        self._lost = 0

    async def watch(self, release: Release, attempt: int) -> None:
        """For one release and one attempt of its canary, until it is cancelled or the release has ended."""
        self._lost = 0
        rows = await asyncio.to_thread(self._book.samples, release.number)
        self._samples = [sample for row in rows if row.attempt == attempt and (sample := as_sample(row))]
        while True:
            looked_at = time.time()
            judged = await self._look(release, attempt)
            decided_at = time.time()
            await self._ledger.decide(partial(self._decision, release.number, judged))
            await self._rest(looked_at, decided_at)

    def _decision(self, number: int, judged: Sequence[Judged], state: ServiceState) -> Sequence[NewEvent]:
        release = state.in_flight
        if release is None or release.number != number:
            return ()
        if self._lost and all(j.word != "fail" for j in judged):
            return ()  # what was seen before says nothing about now
        return judge_step(state, self._blueprint, judged, time.time())

    async def _look(self, release: Release, attempt: int) -> Sequence[Judged]:
        state = self._ledger.state
        if not has_comparison(state) or state.in_flight is None or state.in_flight.shifted_at is None:
            return ()
        try:
            await self._scrape(release, attempt)
        except Exception as error:  # whatever a backend raises: it could not be asked
            await self._could_not_scrape(error)
        # In a thread: after hours of samples it takes a moment, and an abort must not wait for it.
        judged = await asyncio.to_thread(judge, self._blueprint.metrics, tuple(self._samples))
        await self._record(release, attempt, judged)
        return judged

    async def _scrape(self, release: Release, attempt: int) -> None:
        observed = await self._target.observe()
        arms: Mapping[Arm, ArmAddress] = observed.arms
        new = await self._metrics.scrape(arms, self._blueprint.metrics)
        self._samples.extend(new)
        if self._lost:
            self._lost = 0
            await self._ledger.decide(
                lambda s: [NewEvent(RUNNER, e.BackendBack("metrics"))] if "metrics" in s.lost else ()
            )

    async def _could_not_scrape(self, error: Exception) -> None:
        self._lost += 1
        if self._lost % LOST_SCRAPES:  # also after an operator let it go on without them
            return
        message = self._clean(str(error)) or type(error).__name__
        mend = error.mend if isinstance(error, PortError) else ""

        def lost(state: ServiceState) -> Sequence[NewEvent]:
            known = state.lost.get("metrics")
            told = (
                []
                if known and known.message == message
                else [NewEvent(RUNNER, e.BackendLost("metrics", message, mend))]
            )
            return (*told, *error_canary(state, self._blueprint, f"no metrics: {message}"))

        await self._ledger.decide(lost)

    async def _record(self, release: Release, attempt: int, judged: Sequence[Judged]) -> None:
        latest = {sample.metric: sample for sample in self._samples[-len(self._blueprint.metrics) :]}
        rows = {j.metric: as_data(latest[j.metric], j) for j in judged if j.metric in latest}
        at = time.time()
        if not self._lost:
            await persistently(lambda: asyncio.to_thread(self._book.write_samples, release.number, attempt, at, rows))

        def changed(state: ServiceState) -> Sequence[NewEvent]:
            if state.in_flight is None or state.in_flight.number != release.number:
                return ()
            known = state.in_flight.verdicts
            return [
                NewEvent(RUNNER, e.VerdictReached(j.metric, j.word, j.sentence), release.number)
                for j in judged
                if j.metric not in known or known[j.metric].word != j.word
            ]

        await self._ledger.decide(changed)

    async def _rest(self, looked_at: float, decided_at: float) -> None:
        """Until the next scrape is due, the step's hold time is over, or an operator did something to the step."""
        before = _standing(self._ledger.state)
        while True:
            now = time.time()
            release = self._ledger.state.in_flight
            wait = looked_at + self._blueprint.interval_seconds - now
            if release is not None and release.shifted_at is not None and release.paused is None:
                left = release.hold_seconds - release.held_seconds(now)
                if now + left > decided_at:  # it ends, or ended, after what was decided last
                    wait = min(wait, left)
            if wait <= 0:
                return
            await self._ledger.changed(self._ledger.state.seq, wait)
            if _standing(self._ledger.state) != before:
                return


def _standing(state: ServiceState) -> tuple[Any, ...]:
    release = state.in_flight
    if release is None:
        return (None,)
    return (release.step, release.shifted_at, release.paused, release.returning, state.lock)


def as_data(sample: Sample, judged: Judged) -> dict[str, Any]:
    """A sample and the judgement made on it, as the journal stores them."""
    return {
        "kind": sample.kind,
        "canary": _reading_data(sample.canary),
        "baseline": _reading_data(sample.baseline),
        "t": sample.at,
        **judged.as_data(),
    }


def as_sample(row: SampleRow) -> Sample | None:
    """The sample of a stored row; None when the row is not of this version's form."""
    try:
        data = row.data
        return Sample(data["t"], row.metric, data["kind"], _reading(data.get("canary")), _reading(data.get("baseline")))
    except (KeyError, TypeError, ValueError):
        return None


def _reading_data(reading: Reading | None) -> dict[str, Any] | None:
    match reading:
        case Counts(bad, total):
            return {"bad": bad, "total": total}
        case Histogram(le, count):
            return {"le": [b if math.isfinite(b) else "+Inf" for b in le], "count": list(count)}
    return None


def _reading(data: Mapping[str, Any] | None) -> Reading | None:
    if data is None:
        return None
    if "le" in data:
        return Histogram(tuple(float(b) for b in data["le"]), tuple(float(c) for c in data["count"]))
    return Counts(float(data["bad"]), float(data["total"]))
