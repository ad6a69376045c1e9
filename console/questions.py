"""What is asked before something dangerous is done: the target named, and what will happen to the traffic. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pithead.delivery.state import Release
from pithead.widgets.amounts import ago
from pithead.widgets.glance import Glance
from pithead.widgets.line import Ink, Line, line
from pithead.widgets.words import short


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several to choose from: the release to go back to."""

    release: int
    words: Line


@dataclass(frozen=True, slots=True)
class Question:
    """`letter` confirms, and is shown. `release` and `seq` are frozen when it is asked: what is confirmed later is about
    them. With `needs_reason` a text is asked for, and an empty one not taken."""

    title: str
    target: Line
    words: tuple[str, ...]
    act: str
    letter: str = "y"
    release: int | None = None
    moved: int = 0
    seq: int = 0
    choices: tuple[Choice, ...] = ()
    needs_reason: bool = False
    is_abort: bool = False


def target(glance: Glance) -> Line:
    """Which service, where: never to be mistaken."""
    named = line((glance.state.service, "strong"))
    if glance.environment:
        ink: Ink = "production" if glance.is_production else "staging"
        named += line(" in ", (f" {glance.environment.upper() if glance.is_production else glance.environment} ", ink))
    return named + line(f" on {glance.target_name}") if glance.target_name else named


def _frozen(glance: Glance) -> tuple[int | None, int, int]:
    release = glance.release
    return (release.number, release.moved.seq, glance.state.seq) if release else (None, 0, glance.state.seq)


def _named(release: Release | None) -> str:
    return f"release {release.number} ({short(release.commit)} {release.subject})" if release else "the release"


def ask_promote_fully(glance: Glance) -> Question:
    release = glance.state.in_flight
    number, moved, seq = _frozen(glance)
    weight = release.weight if release else 0
    return Question(
        "Promote fully?",
        target(glance),
        (
            f"{_named(release)} has {weight} % of the traffic.",
            f"All of the traffic goes to it now; the canary's steps above {weight} % are skipped, "
            "with what is left of the comparison.",
        ),
        "promote fully",
        release=number,
        moved=moved,
        seq=seq,
    )


def ask_abort(glance: Glance) -> Question:
    release = glance.release
    number, moved, seq = _frozen(glance)
    live = glance.state.live
    back = f"the live artifact ({short(live.artifact.commit)})" if live else "nothing: no release was live before"
    traffic = (
        "It is queued and has no traffic yet: it will not start."
        if release is not None and release.phase == "queued"
        else f"It ends here. Its {release.weight} % of the traffic goes back to {back} at once."
        if release is not None and release.weight
        else f"It ends here. It has no traffic; all of it stays with {back}."
    )
    return Question(
        f"Abort release {number}?", target(glance), (_named(release) + ".", traffic), "abort",
        release=number, moved=moved, seq=seq, is_abort=True,
    )  # fmt: skip


def ask_roll_back(glance: Glance) -> Question:
    """Which earlier release to go back to; while one is in flight it means abort, and says so."""
    if glance.release is not None:
        asked = ask_abort(glance)
        words = (f"Release {asked.release} is in flight, so rolling back means aborting it.", *asked.words)
        return Question(
            f"Roll back: abort release {asked.release}?", asked.target, words, "abort",
            release=asked.release, moved=asked.moved, seq=asked.seq, is_abort=True,
        )  # fmt: skip
    live = glance.state.live
    is_live = f"Release {live.release} ({short(live.artifact.commit)} {live.subject}) is live." if live else ""
    return Question(
        "Roll back to which release?",
        target(glance),
        (
            is_live,
            "All of the traffic goes to the chosen one at once, and the service is locked, "
            "so that nothing ships the bad commit again.",
        ),
        "roll back",
        seq=glance.state.seq,
        choices=tuple(_choice(release, glance.now) for release in glance.state.roll_back_targets),
    )


def _choice(release: Release, now: float) -> Choice:
    when = ago(now - (release.ended_at or now))
    words = line(
        (f"{release.number:>4} ", "strong"),
        (short(release.commit), "accent"),
        f" {when:>9} ",
        (release.subject, "plain"),
    )
    return Choice(release.number, words)


def ask_lock(glance: Glance) -> Question:
    return Question(
        "Lock: why?",
        target(glance),
        ("Nobody may start or promote a release until it is unlocked. Abort and roll-back stay possible.",),
        "lock",
        seq=glance.state.seq,
        needs_reason=True,
    )


def ask_unlock(glance: Glance) -> Question:
    lock = glance.state.lock
    said = f"Locked by {lock.by} {ago(glance.now - lock.since)}: {lock.reason}" if lock else "It is not locked."
    return Question(
        "Unlock?", target(glance), (said, "Releases can be started and promoted again."), "unlock", seq=glance.state.seq
    )
