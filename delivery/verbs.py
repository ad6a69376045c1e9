"""What an operator may do now, and if not, why not. One table, asked by the runner before it acts, and by the console
and the command line before they offer; so that what is dim on a screen is just what the runner would refuse.

Abort and roll-back have no entry for locks: nothing stands between a bad release and the way back.
"""

from __future__ import annotations

from typing import Literal

from pithead.delivery.state import Phase, Release, ServiceState

Verb = Literal["start", "promote", "promote_full", "pause", "resume", "abort", "rollback", "retry", "lock", "unlock"]

BLOCKED_BY_LOCK: frozenset[Verb] = frozenset({"start", "promote", "promote_full", "retry"})

Place = Phase | Literal["none"]

# Where a verb can not apply, and the reason in words; a place that is missing from a row is one where it can.
REASONS: dict[Verb, dict[Place, str]] = {
    "start": {},
    "promote": {
        "none": "nothing is in flight: start a release first.",
        "queued": "release {n} is queued behind release {ahead}.",
        "preparing": "release {n} is still in {stage}: there is no step to promote from yet.",
        "returning": "release {n} is being brought back.",
        "ended": "release {n} has ended ({outcome}).",
    },
    "promote_full": {
        "none": "nothing is in flight: start a release first.",
        "queued": "release {n} is queued behind release {ahead}.",
        "preparing": "release {n} is still in {stage}: it can be promoted fully once its canary runs.",
        "rollout": "release {n} has all of the traffic already; promote ends its bake time.",
        "returning": "release {n} is being brought back.",
        "ended": "release {n} has ended ({outcome}).",
    },
    "pause": {
        "none": "nothing is in flight.",
        "queued": "release {n} is queued and not running.",
        "returning": "release {n} is being brought back, and that is never held.",
        "ended": "release {n} has ended ({outcome}).",
    },
    "resume": {
        "none": "nothing is in flight.",
        "queued": "release {n} is queued and not paused.",
        "returning": "release {n} is being brought back.",
        "ended": "release {n} has ended ({outcome}).",
    },
    "abort": {
        "none": "nothing is in flight: to undo a finished release, roll back.",
        "returning": "release {n} is being brought back already.",
        "ended": "release {n} has ended ({outcome}): to undo it, roll back.",
    },
    "rollback": {
        "returning": "release {n} is being brought back already.",
    },
    "retry": {
        "queued": "release {n} is queued and has not failed.",
        "returning": "release {n} is being brought back.",
    },
    "lock": {},
    "unlock": {},
}


def place(state: ServiceState, number: int | None) -> tuple[Place, Release | None]:
    """Where the release that a command is about stands: the numbered one, else the one in flight, else a queued one."""
    release = state.release(number) if number is not None else state.in_flight or state.queued
    return ("none", None) if release is None else (release.phase, release)


def why_not(state: ServiceState, verb: Verb, number: int | None = None, seen: int | None = None) -> str | None:
    """None when the verb applies now, else the reason in one sentence.

    `number` is the release that the operator meant and `seen` the seq that the operator was looking at: a verb that
    belongs to a step is stale when the release has moved since.
    """
    where, release = place(state, number)
    if number is not None and release is None:
        return f"there is no release {number}."
    words = REASONS[verb].get(where)
    if words is not None:
        return _fill(words, state, release)
    is_way_back = release is not None and release.kind == "rollback" and where != "ended"
    if verb in BLOCKED_BY_LOCK and state.lock is not None and not (is_way_back and verb != "start"):
        return f"locked by {state.lock.by}: {state.lock.reason.rstrip('. ')}. Unlock first."
    if verb in ("promote", "promote_full", "resume", "retry") and release is not None and seen is not None:
        stale = _why_stale(verb, release, seen)
        if stale is not None:
            return stale
    return _why_not_here(state, verb, where, release)


def _why_stale(verb: Verb, release: Release, seen: int) -> str | None:
    moved, paused = release.moved, release.paused
    if paused is not None and seen < paused.seq:
        return f"stale: release {release.number} was paused since that screen, by {paused.by}: {paused.words}"
    if release.phase != "ended" and seen < moved.seq and verb != "promote_full":  # that one is about no single step
        at = f"{release.weight} %" if release.step >= 0 else (release.next_stage.name if release.next_stage else "")
        here = f"; it is at {at}" if at and at not in moved.words else ""
        return (
            f"stale: release {release.number} moved on since that screen ({moved.by} {moved.words}{here}). "
            f"Look again, then {verb} if you still want to."
        )
    return None


def _why_not_here(state: ServiceState, verb: Verb, where: Place, release: Release | None) -> str | None:
    match verb:
        case "start" if state.pending is None:
            return "the source has not been read yet."
        case "start" if not state.pending.commits:  # type: ignore[union-attr]
            return "no commit awaits release."
        case "promote" | "promote_full" if release and release.step < 0:
            return f"release {release.number} is on its way to its first step."
        case "promote" if release and where == "rollout" and release.shifted_at is None:
            return f"release {release.number} is on its way to {release.weight} %: nothing shows yet that it runs."
        case "pause" if release and release.paused and release.paused.reason != "undecided":
            return f"release {release.number} is paused already, by {release.paused.by}: {release.paused.words}"
        case "resume" if release and release.paused is None:
            return f"release {release.number} is not paused."
        case "resume" if release and release.paused and release.paused.reason in ("failed", "error"):
            stage = release.running_stage or release.next_stage
            if where == "preparing":
                return f"{stage.name if stage else 'the stage'} did not pass: retry it, or abort."
            return None
        case "rollback":
            return _why_not_roll_back(state, where)
        case "retry":
            return _why_not_retry(state, where, release)
        case "lock" if state.lock is not None:
            return f"locked already by {state.lock.by}: {state.lock.reason}"
        case "unlock" if state.lock is None:
            return "it is not locked."
    return None


def _why_not_roll_back(state: ServiceState, where: Place) -> str | None:
    if state.in_flight is not None:
        return None
    if state.live is None:
        return "nothing is live, so there is nothing to go back from."
    if not state.roll_back_targets:
        return "no earlier release can be gone back to: each one is live now, was rolled back, or is gone."
    return None


def _why_not_retry(state: ServiceState, where: Place, release: Release | None) -> str | None:
    if where in ("none", "ended"):
        last = release or (state.ended[0] if state.ended else None)
        if last is None:
            return "no release has run yet."
        if state.in_flight is not None:
            return f"release {state.in_flight.number} is in flight."
        if last.went_live:
            return f"release {last.number} went live: there is nothing to try again."
        return None
    if release and release.paused is None:
        return f"release {release.number} is running and has not failed."
    if release and release.paused and release.paused.reason == "operator":
        return f"release {release.number} was paused by {release.paused.by}: resume it."
    return None


def _fill(words: str, state: ServiceState, release: Release | None) -> str:
    stage = release.next_stage if release else None
    return words.format(
        n=release.number if release else "",
        stage=stage.name if stage else "preparation",
        outcome=(release.outcome or "").replace("_", " ") if release else "",
        ahead=state.in_flight.number if state.in_flight else "",
    )
