"""The tour's script, as pure functions of the state: what it would start next, and what the bottom line says.

The tour never insists. It starts something only while everything that was started was its own and went the way it was
meant to go; from the first thing that the operator decides otherwise it only comments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pithead.console.actions import BY_ID
from pithead.console.demo.history import Scenario
from pithead.delivery.decisions import as_pending
from pithead.delivery.state import Release, ServiceState

ACTOR: Final = "tour"
READING_SECONDS: Final = 6.0
"""Between two chapters: the time to read what the first one came to."""

FIRST: Final = "first"
Kind = Scenario | str


@dataclass(frozen=True, slots=True)
class Chapter:
    """One release of the tour: the commit, and what kind it is (`FIRST`, or a scenario's name)."""

    kind: Kind
    commit: str


@dataclass(frozen=True, slots=True)
class Script:
    chapters: tuple[Chapter, ...]

    def chapter_of(self, release: Release) -> Chapter | None:
        """None for a release that an operator started."""
        if release.started_by != ACTOR:
            return None
        return next((chapter for chapter in self.chapters if chapter.commit == release.commit), None)


def next_start(script: Script, state: ServiceState, now: float) -> str | None:
    """The commit to start now; None while something runs, while it is the operator's turn, and at the end."""
    if state.in_flight or state.queued or state.unanswered or state.lock:
        return None
    done = len(state.ended)
    if not is_on_track(script, state) or done >= len(script.chapters):
        return None
    if done and now < (state.ended[0].ended_at or now) + READING_SECONDS:
        return None
    commit = script.chapters[done].commit
    return commit if any(pending.sha == commit for pending in as_pending(state).commits) else None


def is_on_track(script: Script, state: ServiceState) -> bool:
    """Whether every release so far was the tour's, in its order, and went live: else the stage is the operator's."""
    releases = [*reversed(state.ended), *filter(None, (state.in_flight, state.queued))]
    if len(releases) > len(script.chapters):
        return False
    pairs = zip(releases, script.chapters, strict=False)
    is_own = all(release.started_by == ACTOR and release.commit == chapter.commit for release, chapter in pairs)
    return is_own and all(release.went_live and release.rolled_back_by is None for release in state.ended)


def hint(script: Script, state: ServiceState) -> str:
    """What happens and which key to try, in a line that fits 80 columns."""
    release = state.in_flight
    if release is not None:
        chapter = script.chapter_of(release)
        return _about(script, chapter, release) if chapter else _about_other(release)
    if is_on_track(script, state) and len(state.ended) < len(script.chapters) and not state.lock:
        chapter = script.chapters[len(state.ended)]
        return f"{_number(script, chapter)}{_BEFORE[chapter.kind]}"
    return _between_releases(script, state)


def _number(script: Script, chapter: Chapter) -> str:
    return f"{script.chapters.index(chapter) + 1}/{len(script.chapters)} "


def _about(script: Script, chapter: Chapter, release: Release) -> str:
    number = _number(script, chapter)
    if release.returning:
        is_own_doing = release.returning.by == "runner"
        return (
            f"{number}{_FOUND[chapter.kind] if is_own_doing else 'You brought it back: the users have the live one.'}"
        )
    if release.paused:
        return f"{number}{_paused(release)}"
    match release.phase:
        case "canary":
            return f"{number}{_CANARY[chapter.kind]}"
        case "rollout" if chapter.kind != FIRST:
            return f"{number}All users have it. It is judged a moment longer, then it is live."
        case "rollout":
            return f"{number}Nothing is live to compare it with, so it goes straight to all."
    return f"{number}{_PREPARING[chapter.kind]}"


def _paused(release: Release) -> str:
    if release.paused and release.paused.reason == "undecided":
        return f"It waits for more requests to judge by. {_key('promote')} goes on without them."
    return f"It is held. {_key('resume')} goes on, {_key('promote')} takes a step, {_key('abort')} brings it back."


def _about_other(release: Release) -> str:
    if release.returning:
        return "On its way back: the canary gets nothing more, the users notice nothing."
    if release.paused:
        return _paused(release)
    match release.phase:
        case "canary":
            keys = f"{_key('pause')} holds, {_key('promote')} goes on, {_key('abort')} brings it back."
            return f"Your release has {release.weight} % of the users. {keys}"
        case "rollout":
            return "All users have your release. It is judged a moment longer, then it is live."
    return f"Your release is being built and tested. {_key('pause')} holds it, {_key('abort')} ends it."


def _between_releases(script: Script, state: ServiceState) -> str:
    last = state.ended[0] if state.ended else None
    chapter = script.chapter_of(last) if last else None
    if state.lock and last and chapter and last.outcome == "rolled_back" and last.moved.by == "runner":
        return _AFTER.get(chapter.kind, _AFTER["errors"])
    if state.lock:
        return f"Locked: nothing can start. {_key('unlock')} unlocks, {_key('leave')} leaves and cleans up."
    if not as_pending(state).commits:
        return f"Everything is live. {_key('roll-back')} goes back to an earlier release, {_key('leave')} leaves."
    choose = f"{_key('down')} choose a commit, {_key('start')} releases up to it"
    return f"Your turn: {choose}. {_key('leave')} leaves, and cleans up."


def _key(action: str) -> str:
    return BY_ID[action].label


_BEFORE: Final[Mapping[Kind, str]] = {
    FIRST: "A shop's commits wait on the left. The oldest ones go live first.",
    "good": "Live. Users ask it, 150 a second. Next: a good commit, step by step.",
    "errors": "Next: a commit with a fault that its tests do not find. Just watch.",
    "slow": "Live. Next: a commit that keeps some users waiting. Just watch.",
    "crash": "Live. Next: a commit that does not even start. Just watch.",
    "failing-test": "Live. Next: a commit that its own tests refuse. Just watch.",
}
_PREPARING: Final[Mapping[Kind, str]] = {
    FIRST: f"It is built and tested: the log is below. {_key('help')} lists the keys.",
    "good": f"Built and tested from its commit alone. {_key('open')} opens what is chosen.",
    "errors": "All of its tests pass: they have no customers abroad.",
    "slow": "All of its tests pass: none of them is in a hurry.",
    "crash": "All of its tests pass: they have a key that the server will not have.",
    "failing-test": "One of its tests will say no, before any user has met it.",
}
_CANARY: Final[Mapping[Kind, str]] = {
    FIRST: "Nothing is live to compare it with, so it goes straight to all.",
    "good": f"Some users have it, compared with the rest. {_key('pause')} holds, {_key('promote')} goes on.",
    "errors": "Some carts fail with it. Hands off: see how soon that is found.",
    "slow": "Some users wait for nothing with it. See how soon that is found.",
    "crash": "Its instances are started, and no user is sent there before one is ready.",
    "failing-test": "Some users have it, compared with the rest.",
}
_FOUND: Final[Mapping[Kind, str]] = {
    FIRST: "It did not run, and there is nothing to go back to.",
    "good": "Found worse than the live one, and brought back by itself.",
    "errors": "Found. The traffic goes back to the live release by itself.",
    "slow": "Found. The traffic goes back to the live release by itself.",
    "crash": "It does not stay up: back, and no user has met it.",
    "failing-test": "A test said no: it ends here, and no user has met it.",
}
_AFTER: Final[Mapping[Kind, str]] = {
    "errors": f"Brought back, and locked to keep it so. {_key('unlock')} unlocks: then it is your turn.",
    "slow": f"Brought back, and locked to keep it so. {_key('unlock')} unlocks: then it is your turn.",
    "crash": f"No user met it. Locked, so that it stays so. {_key('unlock')} unlocks: then it is your turn.",
}
