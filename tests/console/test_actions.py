"""The table of actions: complete, without collisions, and of one mind with the table of verbs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import get_args

import pytest
from scenes import STATES, Scene

from pithead.console.actions import ACTIONS, BY_ID, for_key, offered, why_not
from pithead.console.cli import cli
from pithead.delivery import verbs
from pithead.delivery.state import ServiceState
from pithead.delivery.verbs import Verb
from pithead.widgets.glance import Glance


def glance_of(tmp_path: Path, state: str) -> Glance:
    scene = Scene(tmp_path)
    getattr(scene, state)()
    return Glance(scene.state, time.time(), "production", "us-east", "ana", "alive")


def test_every_verb_has_its_action_and_its_twin_on_the_command_line() -> None:
    assert {action.verb for action in ACTIONS} - {None} == set(get_args(Verb))
    for action in ACTIONS:
        if action.verb is not None:
            assert action.cli.split()[0] in cli.commands, action.id


@pytest.mark.parametrize("state", STATES)
def test_a_key_means_one_thing_at_a_time(tmp_path: Path, state: str) -> None:
    folded = glance_of(tmp_path, state).state
    keys = [key for action in offered(folded) for key in action.keys]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("state", STATES)
def test_what_is_offered_is_what_the_runner_would_not_refuse(tmp_path: Path, state: str) -> None:
    glance = glance_of(tmp_path, state)
    for action in offered(glance.state):
        if action.verb not in (None, "start"):
            asked = verbs.why_not(glance.state, action.verb, seen=glance.state.seq)
            assert (why_not(action, glance, None) is None) == (asked is None), action.id


def test_space_pauses_or_resumes_and_l_locks_or_unlocks(tmp_path: Path) -> None:
    states = {}
    for name in ("in_canary", "undecided", "locked"):
        (tmp_path / name).mkdir()
        states[name] = glance_of(tmp_path / name, name).state
    assert [for_key("space", states[n]).id for n in ("in_canary", "undecided")] == ["pause", "resume"]  # type: ignore[union-attr]
    assert [for_key("l", states[n]).id for n in ("in_canary", "locked")] == ["lock", "unlock"]  # type: ignore[union-attr]


def test_what_shifts_traffic_for_good_asks_first() -> None:
    for name in ("promote-fully", "abort", "roll-back"):
        assert BY_ID[name].is_dangerous
        assert BY_ID[name].ask is not None


def test_a_read_only_console_can_look_and_leave_only(tmp_path: Path) -> None:
    glance = Glance(glance_of(tmp_path, "in_canary").state, time.time(), is_read_only=True)
    for action in offered(glance.state):
        assert (why_not(action, glance, None) == "this console is read-only.") == (action.verb is not None)


def test_nothing_is_asked_of_a_journal_that_is_still_being_read() -> None:
    glance = Glance(ServiceState("shop"), 0.0, reading=0.4)
    assert why_not(BY_ID["start"], glance, "a" * 40) == "the journal is still being read."


def test_a_commit_that_is_under_way_is_not_started_again(tmp_path: Path) -> None:
    glance = glance_of(tmp_path, "in_canary")
    release = glance.state.in_flight
    assert release is not None
    assert "goes with release 142 already" in str(why_not(BY_ID["start"], glance, release.commits[2]))


def test_every_action_says_what_it_does() -> None:
    for action in ACTIONS:
        assert action.help.endswith("."), action.id
        assert len(action.word) < 16, action.id
