"""What follows from the state: the answer to each command, the next rung, the end. Pure functions from a state to the
events that record the decision; the runner writes them down and only then acts on them.

Each returns payloads of the release in flight, or `NewEvent`s where the release or the actor is another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pithead.delivery import events as e
from pithead.delivery.blueprint import BUILD, CANARY, ROLLOUT, Blueprint
from pithead.delivery.canary.judge import Judged, overall
from pithead.delivery.events import NewEvent, Payload
from pithead.delivery.fold import expected_seconds
from pithead.delivery.ports import Commit, Pending
from pithead.delivery.reverts import contains_live, held_back, included
from pithead.delivery.state import Release, ServiceState, StageRun, Unanswered
from pithead.delivery.verbs import Verb, why_not

RUNNER = "runner"
STALE_AFTER_SECONDS = 300.0
"""A command that no runner answered for this long was meant for another moment, and is refused when it would ship."""


# ── answers to commands ──────────────────────────────────────────────────────────────────────────────────────────


def answer(state: ServiceState, command: Unanswered, blueprint: Blueprint, now: float) -> tuple[NewEvent, ...]:
    """The events that answer the command: what it does, or `Refused` and why."""
    try:
        return _Answer(state, command, blueprint, now).events()
    except _RefusalError as refusal:
        return (NewEvent(RUNNER, e.Refused(refusal.verb, refusal.reason), command.release, command.seq),)


class _RefusalError(Exception):
    def __init__(self, verb: str, reason: str) -> None:
        super().__init__(reason)
        self.verb, self.reason = verb, reason


@dataclass(frozen=True, slots=True)
class _Answer:
    state: ServiceState
    command: Unanswered
    blueprint: Blueprint
    now: float

    def events(self) -> tuple[NewEvent, ...]:
        match self.command.wish:
            case e.StartRequested(commit):
                self._need("start")
                return self._start(commit)
            case e.PromoteRequested(seen, full):
                self._need("promote_full" if full else "promote", seen)
                return self._promote(full)
            case e.PauseRequested():
                self._need("pause")
                return self._about_release(e.Paused("operator", f"paused by {self.command.actor}."))
            case e.ResumeRequested(seen):
                self._need("resume", seen)
                return self._about_release(e.Resumed())
            case e.AbortRequested(reason):
                self._need("abort")
                return self._abort(reason)
            case e.RollBackRequested(to, reason):
                self._need("rollback")
                return self._roll_back(to, reason)
            case e.RetryRequested(seen):
                self._need("retry", seen)
                return self._retry()
            case e.LockRequested(reason):
                if not reason.strip():
                    raise _RefusalError("lock", "a lock needs a reason, for whoever finds it.")
                self._need("lock")
                return (self._event(e.Locked(reason.strip()), None),)
            case e.UnlockRequested(reason):
                self._need("unlock")
                return (self._event(e.Unlocked(reason), None),)
        raise _RefusalError(self.command.kind, "this runner does not know that command; it may be of another version.")

    def _need(self, verb: Verb, seen: int | None = None) -> None:
        reason = why_not(self.state, verb, self.command.release, seen)
        age = self.now - self.command.at
        if reason is None and verb in ("start", "promote", "promote_full", "retry") and age > STALE_AFTER_SECONDS:
            reason = f"stale: no runner was there to answer for {age / 60:.0f} min. Give it again if you still want it."
        if reason is not None:
            raise _RefusalError(verb, reason)

    def _event(self, payload: Payload, release: int | None) -> NewEvent:
        return NewEvent(self.command.actor, payload, release, self.command.seq)

    def _about_release(self, *payloads: Payload) -> tuple[NewEvent, ...]:
        assert self.state.in_flight is not None  # noqa: S101  (verbs.py let only verbs through that have one)
        return tuple(self._event(payload, self.state.in_flight.number) for payload in payloads)

    def _start(self, name: str) -> tuple[NewEvent, ...]:
        commit = self._pending_commit(name)
        number = self.state.last_release + 1
        ahead = self.state.in_flight
        if ahead is None:
            return (self._event(plan_forward(self.state, self.blueprint, commit), number),)
        if ahead.kind == "forward" and ahead.commit == commit.sha:
            raise _RefusalError("start", f"{commit.sha[:7]} is in flight already, as release {ahead.number}.")
        superseded = self.state.queued
        if superseded is not None and superseded.commit == commit.sha:
            raise _RefusalError("start", f"{commit.sha[:7]} is queued already, as release {superseded.number}.")
        queue = self._event(e.ReleaseQueued("forward", commit.sha, commit.subject), number)
        if superseded is None:
            return (queue,)
        words = f"release {number} took its place in the queue."
        return (self._event(e.ReleaseEnded("superseded", words), superseded.number), queue)

    def _pending_commit(self, name: str) -> Commit:
        pending = as_pending(self.state)
        if not name:
            newest = newest_releasable(pending)
            if newest is None:
                raise _RefusalError("start", "no pending commit can go out on its own now.")
            return newest
        found = [c for c in pending.commits if c.sha.startswith(name.lower())] if len(name) >= 6 else []
        if len(found) != 1:
            what = "more than one pending commit begins" if found else "no pending commit begins"
            raise _RefusalError(
                "start", f"{what} with {name[:40]!r}: name one of the pending ones by 6 digits or more."
            )
        reason = why_not_release(pending, found[0])
        if reason is not None:
            raise _RefusalError("start", reason)
        return found[0]

    def _promote(self, full: bool) -> tuple[NewEvent, ...]:
        release = self._in_flight()
        moves = promote_fully(self.state) if full else advance(self.state)
        to = next((m.weight for m in moves if isinstance(m, e.StepEntered)), 100)
        undecided = [f"{v.metric}: {v.word.replace('_', ' ')}" for v in release.verdicts.values() if v.word != "pass"]
        note = f"without a pass of {', '.join(undecided)}" if undecided else ""
        resumed = (e.Resumed("promoted"),) if release.paused else ()
        return self._about_release(e.Promoted(release.weight, to, full, note), *resumed, *moves)

    def _abort(self, reason: str) -> tuple[NewEvent, ...]:
        words = reason.strip() or f"aborted by {self.command.actor}."
        queued = self.state.queued
        if self.state.in_flight is None or (queued is not None and self.command.release == queued.number):
            assert queued is not None  # noqa: S101
            return (self._event(e.ReleaseEnded("cancelled", words), queued.number),)
        cancelled = self._cancel_queued(f"release {self.state.in_flight.number} was aborted")
        return (*self._about_release(e.ReturnBegan("aborted", words)), *cancelled)

    def _cancel_queued(self, why: str) -> tuple[NewEvent, ...]:
        return tuple(self._event(new.payload, new.release) for new in cancel_queued(self.state, why))

    def _roll_back(self, to: int | None, reason: str) -> tuple[NewEvent, ...]:
        words = reason.strip() or f"rolled back by {self.command.actor}."
        if self.state.in_flight is not None:
            number, back_to = self.state.in_flight.number, self.state.in_flight.to
            if self.state.in_flight.kind == "rollback" and to in (None, back_to):
                raise _RefusalError("rollback", f"release {number} is rolling back to release {back_to} already.")
            if to is not None and (self.state.live is None or to != self.state.live.release):
                raise _RefusalError(
                    "rollback", f"release {number} is in flight: abort it first, then roll back to release {to}."
                )
            return (*self._abort(words), *self._lock(f"release {number} was rolled back: {words}"))
        target = self._roll_back_target(to)
        assert self.state.live is not None  # noqa: S101
        number = self.state.last_release + 1
        why = f"release {self.state.live.release} was rolled back"
        lock = (*self._lock(f"{why}: {words}"), *self._cancel_queued(why))
        return (self._event(plan_roll_back(self.state, target), number), *lock)

    def _roll_back_target(self, to: int | None) -> Release:
        targets = self.state.roll_back_targets
        if to is None:
            last = self.state.ended[0]
            if last.moved.seq > self.command.seq:
                ended = f"release {last.number} {last.moved.words} meanwhile ({last.outcome or ''})".replace("_", " ")
                raise _RefusalError("rollback", f"{ended}. Look again, and name the release to go back to.")
            return targets[0]
        for target in targets:
            if target.number == to:
                return target
        offered = ", ".join(str(target.number) for target in targets)
        release = self.state.release(to)
        if self.state.live and (to == self.state.live.release):
            why = f"release {to} is live now"
        elif release is None:
            why = f"there is no release {to}"
        elif release.outcome == "rolled_back":
            why = f"release {to} was rolled back itself"
        else:
            why = f"release {to} never went live, or is the same as the live one"
        raise _RefusalError("rollback", f"{why}. Offered: {offered}.")

    def _lock(self, reason: str) -> tuple[NewEvent, ...]:
        return () if self.state.lock else (self._event(e.Locked(reason), None),)

    def _retry(self) -> tuple[NewEvent, ...]:
        release = self.state.in_flight
        if release is None:
            number = self.command.release
            last = (self.state.release(number) if number is not None else None) or self.state.ended[0]
            if last.kind == "rollback":
                raise _RefusalError("retry", f"release {last.number} was a roll-back: roll back again.")
            try:
                return self._start(last.commit)
            except _RefusalError as refusal:
                raise _RefusalError("retry", refusal.reason) from None
        stage = release.running_stage or next((s for s in release.stages if s.state in ("failed", "errored")), None)
        if stage is None:
            raise _RefusalError("retry", f"release {release.number} has no stage to try again.")
        again: list[Payload] = [e.Retried(stage.name, stage.attempt + 1)]
        again.append(e.StageEntered(stage.name, stage.attempt + 1, expected_seconds(self.state, stage.name), "retried"))
        if stage.kind in ("canary", "rollout") and release.step >= 0:
            again.append(e.StepEntered(release.step, release.weight, release.hold_seconds))
        return self._about_release(*again)

    def _in_flight(self) -> Release:
        assert self.state.in_flight is not None  # noqa: S101
        return self.state.in_flight


# ── what may go out ──────────────────────────────────────────────────────────────────────────────────────────────


def as_pending(state: ServiceState) -> Pending:
    observed = state.pending
    if observed is None:
        return Pending(None, "", (), 0)
    return Pending(
        observed.base, observed.head, observed.commits, observed.total, observed.base_is_ancestor, observed.note
    )


def live_commit(state: ServiceState) -> str | None:
    return state.live.artifact.commit if state.live else None


def why_not_release(pending: Pending, commit: Commit) -> str | None:
    """None when a release up to the commit may start, else the reason."""
    needed = held_back(pending).get(commit.sha)
    if needed is not None:
        revert = next((c.subject for c in pending.commits if c.sha == needed), "")
        return f"{commit.sha[:7]} does not go out without {needed[:7]} {revert}"
    if not contains_live(pending, commit.sha):
        return f"{commit.sha[:7]} does not contain the live commit: it would take live changes away."
    return None


def newest_releasable(pending: Pending) -> Commit | None:
    """What a start without a commit releases: the newest one of the main line that may go out."""
    held = held_back(pending)
    for commit in pending.commits:
        if commit.is_mainline and commit.sha not in held and contains_live(pending, commit.sha):
            return commit
    return None


# ── plans ────────────────────────────────────────────────────────────────────────────────────────────────────────


def plan_forward(state: ServiceState, blueprint: Blueprint, commit: Commit) -> e.ReleaseStarted:
    pending = as_pending(state)
    is_first = state.live is None
    expected = {CANARY: sum(s.hold_seconds for s in blueprint.steps), ROLLOUT: blueprint.bake_seconds}
    return e.ReleaseStarted(
        kind="forward",
        commit=commit.sha,
        subject=commit.subject,
        base=pending.base,
        commits=tuple(c.sha for c in included(pending, commit.sha)),
        stages=tuple(
            e.StagePlan(name, kind, expected.get(name, expected_seconds(state, name)))
            for name, kind in blueprint.stages
        ),
        steps=() if is_first else blueprint.steps,
        bake_seconds=blueprint.bake_seconds,
        is_first=is_first,
        note=_note_on_first(blueprint) if is_first else "",
    )


def _note_on_first(blueprint: Blueprint) -> str:
    skipped = ", so its canary steps are skipped" if blueprint.steps else ""
    return f"the first release: nothing is live to compare it with{skipped}."


def plan_roll_back(state: ServiceState, target: Release) -> e.ReleaseStarted:
    """A roll-back builds only if the artifact is gone, and skips every canary step and the bake."""
    return e.ReleaseStarted(
        kind="rollback",
        commit=target.commit,
        subject=target.subject,
        base=live_commit(state),
        commits=(),
        stages=(e.StagePlan(BUILD, "build", expected_seconds(state, BUILD)), e.StagePlan(ROLLOUT, "rollout")),
        steps=(),
        bake_seconds=0.0,
        to=target.number,
        note=f"back to release {target.number}.",
    )


def start_queued(state: ServiceState, blueprint: Blueprint) -> tuple[NewEvent, ...]:
    """Starts what waits in the queue, if nothing is in flight and nothing locks the service."""
    queued = state.queued
    if queued is None or state.in_flight is not None or state.lock is not None:
        return ()
    if state.pending is None or state.pending.base != live_commit(state):
        return ()  # the list is of before the last release: it is read anew just now
    pending = as_pending(state)
    commit = next((c for c in pending.commits if c.sha == queued.commit), None)
    if commit is None:
        gone = e.ReleaseEnded("cancelled", f"{queued.commit[:7]} is not pending any more.")
        return (NewEvent(RUNNER, gone, queued.number),)
    reason = why_not_release(pending, commit)
    if reason is not None:
        return (NewEvent(RUNNER, e.ReleaseEnded("cancelled", reason), queued.number),)
    return (NewEvent(queued.started_by, plan_forward(state, blueprint, commit), queued.number),)


def cancel_queued(state: ServiceState, why: str) -> tuple[NewEvent, ...]:
    """What waits in the queue has the bad commit in it too: it must not go out by itself once the lock is gone."""
    if state.queued is None:
        return ()
    words = f"{why}: start again if it is to go out all the same."
    return (NewEvent(RUNNER, e.ReleaseEnded("cancelled", words), state.queued.number),)


# ── moves ────────────────────────────────────────────────────────────────────────────────────────────────────────


def enter_next_stage(state: ServiceState) -> tuple[Payload, ...]:
    """Enters the next stage that is to run; a canary with nothing to compare is skipped, in words."""
    release = state.in_flight
    if release is None or release.returning or release.paused or release.running_stage:
        return ()
    if any(stage.state in ("failed", "errored") for stage in release.stages):
        return ()
    stage = next((s for s in release.stages if s.state == "pending"), None)
    if stage is None:
        return ()
    entered = e.StageEntered(stage.name, stage.attempt + 1, stage.expected_seconds)
    match stage.kind:
        case "canary":
            why = _why_no_canary(state, release)
            if why is not None:
                return (e.StageEnded(stage.name, 0, "skipped", why),)
            first = release.steps[0]
            return (entered, e.StepEntered(0, first.weight, first.hold_seconds))
        case "rollout":
            return (entered, e.StepEntered(len(release.steps), 100, release.bake_seconds))
    return (entered,)


def _why_no_canary(state: ServiceState, release: Release) -> str | None:
    if release.is_first:
        return "first release: nothing is live to compare it with."
    if not release.steps:
        return "no steps are configured."
    if state.live and release.artifact and state.live.artifact.digest == release.artifact.digest:
        return "the artifact is the live one: there is nothing to compare."
    return None


def advance(state: ServiceState) -> tuple[Payload, ...]:
    """Exactly one step on: the next rung, the rollout's 100 %, or the end of the bake."""
    release = state.in_flight
    if release is None:
        return ()
    following = release.step + 1
    if following < len(release.steps):
        step = release.steps[following]
        return (e.StepEntered(following, step.weight, step.hold_seconds),)
    if following == len(release.steps):
        return _enter_rollout(release, "passed", "")
    return finish(state)


def promote_fully(state: ServiceState) -> tuple[Payload, ...]:
    release = state.in_flight
    return () if release is None else _enter_rollout(release, "skipped", "promoted fully.")


def _enter_rollout(release: Release, canary_state: e.StageEnd, detail: str) -> tuple[Payload, ...]:
    canary, rollout = _stage(release, "canary"), _stage(release, "rollout")
    return (
        e.StageEnded(canary.name, canary.attempt, canary_state, detail),
        e.StageEntered(rollout.name, rollout.attempt + 1, rollout.expected_seconds),
        e.StepEntered(len(release.steps), 100, release.bake_seconds),
    )


def finish(state: ServiceState) -> tuple[Payload, ...]:
    """The release is what the service is."""
    release = state.in_flight
    if release is None or release.artifact is None:
        return ()
    rollout = _stage(release, "rollout")
    done: list[Payload] = [e.StageEnded(rollout.name, rollout.attempt, "passed"), e.WentLive(release.artifact)]
    if release.kind == "rollback" and state.live is not None:
        done.append(e.ReleaseRolledBack(state.live.release, f"rolled back by release {release.number}"))
    done.append(e.ReleaseEnded("fast_promoted" if release.is_fast else "promoted"))
    return tuple(done)


def fail_stage(state: ServiceState, stage: StageRun, detail: str) -> tuple[Payload, ...]:
    """A build or a test said no: no traffic has moved, so the release just ends."""
    return (
        e.StageEnded(stage.name, stage.attempt, "failed", detail),
        e.ReturnBegan("failed", f"{stage.name}: {detail}"),
    )


def error_stage(stage: StageRun, blueprint: Blueprint, detail: str) -> tuple[Payload, ...]:
    """A tool broke: nothing is known about the commit, so ask, unless the config says otherwise."""
    if blueprint.on_error == "rollback":
        return (
            e.StageEnded(stage.name, stage.attempt, "errored", detail),
            e.ReturnBegan("errored", f"{stage.name}: {detail}"),
        )
    words = f"{stage.name} could not run: {detail} Retry, or abort."
    return (e.StageEnded(stage.name, stage.attempt, "errored", detail), e.Paused("error", words))


def fail_canary(state: ServiceState, blueprint: Blueprint, reason: str) -> tuple[NewEvent, ...]:
    """The new artifact did harm or will not run: back to the live one and lock, or pause, as the config says."""
    release = state.in_flight
    if release is None or release.returning or (release.paused and release.paused.reason == "failed"):
        return ()
    if blueprint.on_fail == "pause" and release.kind == "forward" and not release.is_first:
        if release.accepted >= release.step and release.accepted >= 0:
            return ()
        words = f"{reason} Promote to accept it, or abort."
        return (NewEvent(RUNNER, e.Paused("failed", words), release.number),)
    is_return = release.kind == "forward" and not release.is_first
    stage = release.running_stage
    ended = (e.StageEnded(stage.name, stage.attempt, "failed", reason),) if stage else ()
    began = e.ReturnBegan("rolled_back" if is_return else "failed", reason)
    moves = [NewEvent(RUNNER, payload, release.number) for payload in (*ended, began)]
    if is_return and state.lock is None:
        moves.append(NewEvent(RUNNER, e.Locked(f"release {release.number} was rolled back: {reason}")))
    if is_return:
        moves.extend(cancel_queued(state, f"release {release.number} was rolled back"))
    return tuple(moves)


def error_canary(state: ServiceState, blueprint: Blueprint, reason: str) -> tuple[NewEvent, ...]:
    """The target or the metrics could not be reached while traffic is split: pause and ask, or return."""
    release = state.in_flight
    if release is None or release.returning or release.paused:
        return ()
    if release.kind == "rollback":
        return ()  # the way back is tried until it is done
    if blueprint.on_error == "rollback":
        return (NewEvent(RUNNER, e.ReturnBegan("errored", reason), release.number),)
    return (
        NewEvent(RUNNER, e.Paused("error", f"{reason} Resume or retry once it is mended, or abort."), release.number),
    )


def judge_step(state: ServiceState, blueprint: Blueprint, judged: Sequence[Judged], now: float) -> tuple[NewEvent, ...]:
    """What follows from the verdicts so far: back, on, or hold."""
    release = state.in_flight
    if release is None or release.returning or release.step < 0:
        return ()
    critical = {spec.name for spec in blueprint.metrics if spec.is_critical}
    failed = [j for j in judged if j.word == "fail" and j.metric in critical]
    if failed:
        return fail_canary(state, blueprint, "; ".join(f"{j.metric}: {j.sentence}" for j in failed))
    waits_for_evidence = release.paused is not None and release.paused.reason == "undecided"
    if release.paused is not None and not waits_for_evidence:
        return ()
    if release.shifted_at is None or (state.lock is not None and release.kind == "forward"):
        return ()
    if not waits_for_evidence and release.held_seconds(now) < release.hold_seconds:
        return ()
    number = release.number
    # Who promoted it fully took the decision: the bake looks for harm then, and does not ask for proof.
    is_decided = release.is_fast or not has_comparison(state)
    if is_decided or overall(blueprint.metrics, judged) == "pass":
        resumed = (e.Resumed("the evidence has arrived."),) if waits_for_evidence else ()
        return tuple(NewEvent(RUNNER, payload, number) for payload in (*resumed, *advance(state)))
    if waits_for_evidence:
        return ()
    return _undecided(state, blueprint, judged, number)


def _undecided(
    state: ServiceState, blueprint: Blueprint, judged: Sequence[Judged], number: int
) -> tuple[NewEvent, ...]:
    critical = {spec.name for spec in blueprint.metrics if spec.is_critical}
    words = "; ".join(f"{j.metric}: {j.sentence}" for j in judged if j.metric in critical and j.word != "pass")
    match blueprint.undecided:
        case "continue":
            return tuple(NewEvent(RUNNER, payload, number) for payload in advance(state))
        case "fail":
            return fail_canary(state, blueprint, f"no decision at the end of the step: {words}")
    paused = e.Paused("undecided", f"{words} It goes on by itself when the evidence is there; promote goes on now.")
    return (NewEvent(RUNNER, paused, number),)


def has_comparison(state: ServiceState) -> bool:
    """Whether the release in flight runs beside, or has run beside, another artifact."""
    release = state.in_flight
    return (
        release is not None
        and release.kind == "forward"
        and not release.is_first
        and release.artifact is not None
        and state.live is not None
        and state.live.artifact.digest != release.artifact.digest
    )


def _stage(release: Release, kind: e.StageKind) -> StageRun:
    return next(stage for stage in release.stages if stage.kind == kind)
