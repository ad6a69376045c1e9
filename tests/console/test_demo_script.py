"""The tour's script: it leads as long as it is followed, and never gets in an operator's way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from pithead.console.demo.history import SCENARIOS
from pithead.console.demo.repository import Repository
from pithead.console.demo.script import ACTOR, FIRST, READING_SECONDS, Chapter, Script, hint, next_start
from pithead.console.demo.tour import write_script
from pithead.delivery.events import Outcome, PendingObserved, StagePlan, StepPlan
from pithead.delivery.ports import Artifact, Commit
from pithead.delivery.state import Live, Lock, Move, Pause, Phase, Release, Return, ServiceState, StageRun

FIRST_SHA, GOOD, BAD, LATER = (digit * 40 for digit in "1234")
SCRIPT = Script((Chapter(FIRST, FIRST_SHA), Chapter("good", GOOD), Chapter("errors", BAD)))
WIDEST = 77
"""What fits beside the mark at 80 columns."""


def test_the_script_begins_with_what_the_others_are_compared_with() -> None:
    commits = tuple(digit * 40 for digit in "0123456789")
    released = dict(zip(SCENARIOS, (commits[n] for n in (3, 4, 6, 8, 9)), strict=True))
    repository = Repository(Path("repository"), commits, released)
    tour = write_script(repository, None)
    assert [(c.kind, c.commit[0]) for c in tour.chapters] == [(FIRST, "2"), ("good", "3"), ("errors", "4")]
    alone = write_script(repository, "crash")
    assert [(c.kind, c.commit[0]) for c in alone.chapters] == [(FIRST, "7"), ("crash", "8")]


def commit(sha: str) -> Commit:
    return Commit(sha, (), "Ana", 0.0, "Something")


EMPTY = ServiceState(
    "checkout", pending=PendingObserved(None, LATER, tuple(map(commit, (LATER, BAD, GOOD, FIRST_SHA))), 4)
)


def release(number: int, sha: str, by: str = ACTOR) -> Release:
    stages = tuple(StageRun(p.name, p.kind) for p in map(StagePlan, *zip(*STAGES, strict=True)))
    return Release(
        number, "forward", sha, "Something", by, 0.0, stages=stages, steps=(StepPlan(10, 6.0),), started_at=1.0
    )


STAGES = (("build", "build"), ("unit", "test"), ("canary", "canary"), ("rollout", "rollout"))


def at(phase: Phase, made: Release) -> Release:
    passed = {"preparing": 0, "canary": 2, "rollout": 3}[phase]
    stages = tuple(
        replace(stage, state="passed" if i < passed else "running" if i == passed else "pending")
        for i, stage in enumerate(made.stages)
    )
    return replace(made, stages=stages, step=passed - 2, weight=10)


def went(made: Release, outcome: Outcome = "promoted", by: str = "runner", ended_at: float = 100.0) -> Release:
    is_live = outcome in ("promoted", "fast_promoted")
    return replace(made, outcome=outcome, went_live=is_live, ended_at=ended_at, moved=Move(1, ended_at, by, "ended"))


def after(*ended: Release) -> ServiceState:
    """The state when these have ended, oldest first."""
    live = next((r for r in reversed(ended) if r.went_live), None)
    state = replace(EMPTY, ended=tuple(reversed(ended)))
    return replace(state, live=Live(Artifact("d", live.commit, ""), live.number, "", 0.0)) if live else state


BEGUN = after(went(release(1, FIRST_SHA)))
GOOD_LIVE = after(went(release(1, FIRST_SHA)), went(release(2, GOOD)))
LATE = 100.0 + READING_SECONDS


def test_it_starts_its_chapters_one_after_the_other() -> None:
    assert next_start(SCRIPT, EMPTY, 0.0) == FIRST_SHA
    assert next_start(SCRIPT, BEGUN, LATE) == GOOD
    assert next_start(SCRIPT, GOOD_LIVE, LATE) == BAD
    fast = after(went(release(1, FIRST_SHA)), went(release(2, GOOD), "fast_promoted"))
    assert next_start(SCRIPT, fast, LATE) == BAD, "a full promote is no reason to stop"


def test_it_leaves_time_to_read() -> None:
    assert next_start(SCRIPT, BEGUN, LATE - 0.1) is None


def test_it_waits_for_the_list_of_commits() -> None:
    assert next_start(SCRIPT, replace(EMPTY, pending=None), 0.0) is None


@pytest.mark.parametrize("phase", ["preparing", "canary", "rollout"])
def test_it_starts_nothing_while_something_runs(phase: Phase) -> None:
    assert next_start(SCRIPT, replace(BEGUN, in_flight=at(phase, release(2, GOOD))), LATE) is None


def test_it_starts_nothing_while_it_is_locked_and_goes_on_when_it_is_not() -> None:
    assert next_start(SCRIPT, replace(BEGUN, lock=Lock("lunch", "ana", 0.0)), LATE) is None
    assert next_start(SCRIPT, BEGUN, LATE) == GOOD


@pytest.mark.parametrize(
    "state",
    [
        after(went(release(1, FIRST_SHA)), went(release(2, GOOD), "aborted", by="ana")),
        after(went(release(1, FIRST_SHA)), went(release(2, LATER, by="ana"))),
        after(went(release(1, FIRST_SHA)), went(release(2, GOOD, by="ana"))),
        after(replace(went(release(1, FIRST_SHA)), rolled_back_by=2), went(release(2, GOOD))),
        after(went(release(1, FIRST_SHA), "failed")),
        after(went(release(1, FIRST_SHA)), went(release(2, GOOD)), went(release(3, BAD), "rolled_back")),
    ],
    ids=["aborted", "another one started", "started by hand", "rolled back", "failed", "at its end"],
)
def test_what_an_operator_decides_otherwise_is_the_end_of_its_part(state: ServiceState) -> None:
    assert next_start(SCRIPT, state, 10 * LATE) is None
    assert "tour" not in hint(SCRIPT, state)
    assert "Your turn" in hint(SCRIPT, state) or "locked" in hint(SCRIPT, state)


def test_it_names_the_keys_that_do_something_now() -> None:
    in_canary = at("canary", release(2, GOOD))
    assert "space holds" in hint(SCRIPT, replace(BEGUN, in_flight=in_canary))
    held = replace(in_canary, paused=Pause("operator", "paused by ana.", "ana", 0.0, 9))
    assert "space goes on" in hint(SCRIPT, replace(BEGUN, in_flight=held))
    caught = after(went(release(1, FIRST_SHA)), went(release(2, GOOD)), went(release(3, BAD), "rolled_back"))
    assert "l unlocks" in hint(SCRIPT, replace(caught, lock=Lock("it was bad", "runner", 0.0)))
    assert "s releases" in hint(SCRIPT, caught), "unlocked: what was true of the lock is not said any more"


def test_it_tells_its_own_doing_from_the_operators() -> None:
    for by, words in (("runner", "by itself"), ("ana", "You brought it back")):
        back = replace(at("canary", release(3, BAD)), returning=Return("rolled_back", "", by, 0.0))
        assert words in hint(SCRIPT, replace(GOOD_LIVE, in_flight=back))


def all_states(script: Script) -> list[ServiceState]:
    states = [EMPTY, replace(EMPTY, pending=None), replace(BEGUN, pending=PendingObserved("d", "d", (), 0))]
    own = [release(number, chapter.commit) for number, chapter in enumerate(script.chapters, 1)]
    for made in (*own, release(7, LATER, by="ana")):
        before = after(*map(went, own[: made.number - 1]))
        states += [before, replace(before, lock=Lock("no", "ana", 0.0))]
        for phase in ("preparing", "canary", "rollout"):
            there = at(phase, made)
            states += [replace(before, in_flight=there)]
            for reason in ("operator", "failed", "error", "undecided"):
                pause = Pause(reason, "words", "ana", 0.0, 1)
                states += [replace(before, in_flight=replace(there, paused=pause))]
            for by in ("runner", "ana"):
                back = Return("aborted", "words", by, 0.0)
                states += [replace(before, in_flight=replace(there, returning=back))]
        for outcome in get_args(Outcome):
            ended = after(*map(went, own[: made.number - 1]), went(made, outcome))
            states += [ended, replace(ended, lock=Lock("no", "runner", 0.0))]
    return states


@pytest.mark.parametrize("kind", ["good", *SCENARIOS])
def test_every_line_fits_eighty_columns(kind: str) -> None:
    script = Script((Chapter(FIRST, FIRST_SHA), Chapter("good", GOOD), Chapter(kind, BAD)))
    for state in all_states(script):
        words = hint(script, state)
        assert 10 < len(words) <= WIDEST, (len(words), words)
