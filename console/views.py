"""The state as plain data and as text: what `status`, `pending`, `history`, `show` print, in the words of the screen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pithead.delivery.decisions import as_pending, newest_releasable, why_not_release
from pithead.delivery.events import Event, as_data
from pithead.delivery.state import Release, ServiceState
from pithead.delivery.verbs import REASONS, why_not
from pithead.widgets.amounts import age, ago, span
from pithead.widgets.words import STAGE_MARKS, outcome_words

# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def release_data(release: Release, now: float) -> dict[str, Any]:
    data = asdict(release)
    data["phase"] = release.phase
    data["held_seconds"] = round(release.held_seconds(now), 1)
    data["elapsed_seconds"] = round(release.elapsed_seconds(now), 1)
    return data


def status_data(state: ServiceState, runner: str | None, now: float) -> dict[str, Any]:
    release = state.in_flight
    return {
        "service": state.service,
        "seq": state.seq,
        "health": state.health,
        "live": asdict(state.live) if state.live else None,
        "lock": asdict(state.lock) if state.lock else None,
        "runner": runner,
        "in_flight": release_data(release, now) if release else None,
        "queued": release_data(state.queued, now) if state.queued else None,
        "last": release_data(state.ended[0], now) if state.ended else None,
        "pending": state.pending.total if state.pending else None,
        "target": asdict(state.target) if state.target else None,
        "lost": {name: asdict(lost) for name, lost in state.lost.items()},
        "can": {verb: why_not(state, verb) for verb in REASONS},
    }


def pending_data(state: ServiceState) -> dict[str, Any]:
    pending = as_pending(state)
    following = newest_releasable(pending)
    return {
        "base": pending.base,
        "head": pending.head,
        "total": pending.total,
        "note": pending.note,
        "next": following.sha if following else None,
        "commits": [{**asdict(c), "why_not": why_not_release(pending, c)} for c in pending.commits],
    }


def event_data(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "service": event.service,
        "release": event.release,
        "at": event.at,
        "actor": event.actor,
        "cause": event.cause,
        "kind": event.kind,
        "data": as_data(event.payload),
    }


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def status_lines(state: ServiceState, runner: str | None) -> Iterator[str]:
    now = time.time()
    live = state.live
    what = f"{live.artifact.commit[:7]} {live.subject} ({ago(now - live.since)})" if live else "nothing yet"
    yield f"{state.service}: live {what}; {state.health}; {'locked' if state.lock else 'open'}"
    if state.lock:
        yield f"  locked by {state.lock.by} {ago(now - state.lock.since)}: {state.lock.reason}"
    if state.target and state.target.address:
        yield f"  address {state.target.address}"
    for lost in state.lost.values():
        yield f"  {lost.backend} lost {ago(now - lost.since)}: {lost.message} {lost.mend}".rstrip()
    if state.in_flight:
        yield from release_lines(state.in_flight, now)
    elif state.ended:
        last = state.ended[0]
        yield f"  last: release {last.number} {last.commit[:7]} {outcome_words(last)}. {last.reason}".rstrip()
    if state.queued:
        yield f"  queued: release {state.queued.number} {state.queued.commit[:7]} {state.queued.subject}"
    if state.pending:
        what = "1 commit awaits" if state.pending.total == 1 else f"{state.pending.total} commits await"
        yield f"  {what} release. {state.pending.note}".rstrip()
    if runner is None and (state.in_flight or state.unanswered):
        reason = f": {state.runner.reason}" if state.runner and state.runner.reason else ""
        yield f"  no runner is alive{reason}"


def release_lines(release: Release, now: float) -> Iterator[str]:
    yield (
        f"release {release.number} {release.commit[:7]} {release.subject} · {_where(release)}"
        f" · started by {release.started_by} · {span(release.elapsed_seconds(now))}"
    )
    for stage in release.stages:
        took = ""
        if stage.entered_at is not None:
            took = span((stage.ended_at or now) - stage.entered_at)
        again = f" attempt {stage.attempt}" if stage.attempt > 1 else ""
        yield f"  {STAGE_MARKS[stage.state][0]} {stage.name:<14} {stage.state:<8} {took:>7}{again}  {stage.detail}".rstrip()
    if release.step >= 0 and release.outcome is None:
        held, hold = release.held_seconds(now), release.hold_seconds
        of = f"{span(held)} of {span(hold)}"
        yield f"  canary at {release.weight} %, held {of}"
    for verdict in release.verdicts.values():
        yield f"  {verdict.metric}: {verdict.word.replace('_', ' ')} – {verdict.sentence}"
    if release.paused:
        yield f"  paused: {release.paused.words}"
    if release.returning and release.outcome is None:
        yield f"  being brought back: {release.returning.reason}"
    if release.reason:
        yield f"  {release.reason}"


def _where(release: Release) -> str:
    """How it ended, or the stage that it stands in."""
    stage = release.running_stage or next((s for s in release.stages if s.state in ("failed", "errored")), None)
    if release.outcome is not None or release.returning is not None or stage is None:
        return outcome_words(release)
    return f"{stage.name}, paused" if release.paused else stage.name


def pending_lines(state: ServiceState) -> Iterator[str]:
    pending = as_pending(state)
    now = time.time()
    if pending.note:
        yield pending.note
    if not pending.commits:
        yield "no commit awaits release."
    following = newest_releasable(pending)
    for commit in pending.commits:
        mark = "▸" if following and commit.sha == following.sha else " "
        size = f"+{commit.added} -{commit.deleted}"
        why = why_not_release(pending, commit)
        held = f"  held: {why}" if why else ""
        row = f"{mark} {commit.sha[:7]} {commit.subject[:60]:<60} {commit.author[:16]:<16}"
        yield f"{row} {age(now - commit.committed_at):>4} {size}{held}"
    if pending.total > len(pending.commits):
        yield f"  … and {pending.total - len(pending.commits):,} more"


def history_lines(state: ServiceState) -> Iterator[str]:
    now = time.time()
    for release in state.ended:
        took = span(release.elapsed_seconds(now))
        when = ago(now - (release.ended_at or now))
        row = f"{release.number:>5} {release.commit[:7]} {outcome_words(release):<13} {when:>8} {took:>7}"
        yield f"{row}  {release.started_by[:16]:<16} {release.subject[:50]}"
