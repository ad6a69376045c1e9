"""`state = reduce(apply, events)`: the one place that says what each event does to the state. Pure, and total: an event
that makes no sense where it stands changes nothing but the seq, so that no journal can stop a console from opening."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import replace
from functools import reduce

from pithead.delivery import events as e
from pithead.delivery.events import Event
from pithead.delivery.state import (
    Live,
    Lock,
    LostBackend,
    Move,
    Pause,
    Release,
    Return,
    RunnerSeen,
    ServiceState,
    StageRun,
    Unanswered,
    Verdict,
)

VERSION = 2
"""Raised with every change to what the fold makes of an event: checkpoints of another version are not read."""

KEPT_RELEASES = 200
KEPT_DURATIONS = 20


def fold(events: Iterable[Event], start: ServiceState) -> ServiceState:
    return reduce(apply, events, start)


def apply(state: ServiceState, event: Event) -> ServiceState:
    """The state after the event."""
    state = _account(state, event)
    if event.release is None:
        return _apply_to_service(state, event)
    return _apply_to_release(state, event)


def expected_seconds(state: ServiceState, stage: str) -> float | None:
    """The median of how long the stage's last passes took; None before the first."""
    durations = state.durations.get(stage)
    return statistics.median(durations) if durations else None


def _account(state: ServiceState, event: Event) -> ServiceState:
    """Moves the seq on and keeps the list of commands that still want an answer."""
    unanswered = state.unanswered
    if event.cause is not None and unanswered:
        unanswered = tuple(command for command in unanswered if command.seq != event.cause)
    if isinstance(event.payload, e.WISHES):
        command = Unanswered(event.seq, event.release, event.at, event.actor, event.kind, e.encode(event.payload))
        unanswered = (*unanswered, command)
    return replace(state, seq=event.seq, unanswered=unanswered)


def _apply_to_service(state: ServiceState, event: Event) -> ServiceState:
    match event.payload:
        case e.RunnerStarted(holder, epoch):
            return replace(state, runner=RunnerSeen(holder, epoch, event.at, is_running=True))
        case e.RunnerStopped(reason):
            before = state.runner or RunnerSeen("", 0, event.at, is_running=False)
            return replace(state, runner=replace(before, since=event.at, is_running=False, reason=reason))
        case e.PendingObserved() as pending:
            return replace(state, pending=pending, pending_at=event.at)
        case e.TargetObserved() as observed:
            return replace(state, target=observed, target_at=event.at)
        case e.BackendLost(backend, message, mend):
            return replace(state, lost={**state.lost, backend: LostBackend(backend, message, mend, event.at)})
        case e.BackendBack(backend):
            return replace(state, lost={k: v for k, v in state.lost.items() if k != backend})
        case e.Locked(reason):
            return replace(state, lock=Lock(reason, event.actor, event.at))
        case e.Unlocked():
            return replace(state, lock=None)
    return state


def _apply_to_release(state: ServiceState, event: Event) -> ServiceState:
    number = event.release or 0
    match event.payload:
        case e.ReleaseQueued(kind, commit, subject, to):
            release = Release(number, kind, commit, subject, event.actor, event.at, to=to, moved=_move(event, "queued"))
            return replace(state, queued=release, last_release=max(state.last_release, number))
        case e.ReleaseStarted() as started:
            return _start(state, event, started)
        case e.ReleaseEnded(outcome, reason):
            return _end(state, event, outcome, reason)
        case e.ReleaseRolledBack(rolled_back):
            return replace(
                state,
                ended=tuple(
                    replace(r, rolled_back_by=number, outcome="rolled_back") if r.number == rolled_back else r
                    for r in state.ended
                ),
            )
        case e.WentLive(artifact):
            subject = state.in_flight.subject if state.in_flight else ""
            state = replace(state, live=Live(artifact, number, subject, event.at))
        case e.StageEnded(stage, _, "passed"):
            state = _remember_duration(state, event, stage)
    if state.in_flight is None or state.in_flight.number != number:
        return state
    return replace(state, in_flight=_apply_in_flight(state.in_flight, event))


def _start(state: ServiceState, event: Event, started: e.ReleaseStarted) -> ServiceState:
    number = event.release or 0
    queued = state.queued if state.queued and state.queued.number == number else None
    release = Release(
        number=number,
        kind=started.kind,
        commit=started.commit,
        subject=started.subject,
        started_by=queued.started_by if queued else event.actor,
        requested_at=queued.requested_at if queued else event.at,
        to=started.to,
        base=started.base,
        commits=started.commits,
        stages=tuple(StageRun(p.name, p.kind, expected_seconds=p.expected_seconds) for p in started.stages),
        steps=started.steps,
        bake_seconds=started.bake_seconds,
        is_first=started.is_first,
        note=started.note,
        started_at=event.at,
        moved=_move(event, "started"),
    )
    return replace(
        state,
        in_flight=release,
        queued=None if queued else state.queued,
        last_release=max(state.last_release, number),
    )


def _end(state: ServiceState, event: Event, outcome: e.Outcome, reason: str) -> ServiceState:
    number = event.release or 0
    for release in (state.in_flight, state.queued):
        if release is not None and release.number == number:
            stages = tuple(
                replace(s, state="aborted", ended_at=event.at) if s.state == "running" else s for s in release.stages
            )
            done = replace(
                release,
                outcome=outcome,
                reason=reason,
                ended_at=event.at,
                paused=None,
                stages=stages,
                moved=_move(event, "ended"),
            )
            return replace(
                state,
                in_flight=None if release is state.in_flight else state.in_flight,
                queued=None if release is state.queued else state.queued,
                ended=(done, *state.ended)[:KEPT_RELEASES],
            )
    return state


def _remember_duration(state: ServiceState, event: Event, stage: str) -> ServiceState:
    release = state.in_flight
    run = next((s for s in release.stages if s.name == stage), None) if release else None
    if run is None or run.entered_at is None:
        return state
    kept = (*state.durations.get(stage, ()), max(0.0, event.at - run.entered_at))[-KEPT_DURATIONS:]
    return replace(state, durations={**state.durations, stage: kept})


def _apply_in_flight(release: Release, event: Event) -> Release:
    match event.payload:
        case e.StageEntered(stage, attempt, expected):
            return replace(
                release,
                stages=_with_stage(
                    release, stage, state="running", attempt=attempt, entered_at=event.at, ended_at=None,
                    expected_seconds=expected, detail="",
                ),
                moved=_move(event, f"entered {stage}"),
            )  # fmt: skip
        case e.StageEnded(stage, _, state, detail):
            return replace(
                release,
                stages=_with_stage(release, stage, state=state, ended_at=event.at, detail=detail),
                moved=_move(event, f"{stage} {state}"),
            )
        case e.ArtifactBuilt(artifact):
            return replace(release, artifact=artifact)
        case e.StepEntered(step, weight):
            return replace(
                release, step=step, weight=weight, step_entered_at=event.at, shifted_at=None, paused_seconds=0.0,
                moved=_move(event, f"entered {weight} %"),
            )  # fmt: skip
        case e.TrafficShifted(step) if step == release.step and release.shifted_at is None:
            return replace(release, shifted_at=event.at)
        case e.VerdictReached(metric, word, sentence):
            return replace(release, verdicts={**release.verdicts, metric: Verdict(metric, word, sentence, event.at)})
        case e.Promoted(full=full):
            return replace(
                release, is_fast=release.is_fast or full, accepted=release.step, moved=_move(event, "promoted")
            )
        case e.Paused(reason, words):
            # A pause may take the place of another one; the time under the first was not held either.
            return replace(_resume(release, event), paused=Pause(reason, words, event.actor, event.at, event.seq))
        case e.Resumed():
            return _resume(release, event)
        case e.Retried():
            return replace(_resume(release, event), verdicts={}, moved=_move(event, "retried"))
        case e.ReturnBegan(outcome, reason):
            return replace(
                release,
                returning=Return(outcome, reason, event.actor, event.at),
                paused=None,
                weight=0,
                moved=_move(event, "began to return"),
            )
        case e.WentLive(artifact):
            return replace(release, went_live=True, artifact=artifact)
    return release


def _resume(release: Release, event: Event) -> Release:
    if release.paused is None:
        return release
    lost = 0.0
    if release.shifted_at is not None:
        lost = max(0.0, event.at - max(release.paused.since, release.shifted_at))
    return replace(release, paused=None, paused_seconds=release.paused_seconds + lost)


def _with_stage(release: Release, name: str, **changes: object) -> tuple[StageRun, ...]:
    return tuple(
        replace(stage, **changes) if stage.name == name else stage  # type: ignore[arg-type]
        for stage in release.stages
    )


def _move(event: Event, words: str) -> Move:
    return Move(event.seq, event.at, event.actor, words)
