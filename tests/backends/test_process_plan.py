"""The decisions of the process target, alone."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pithead.backends.detached_processes import Detached
from pithead.backends.process_plan import (
    CRASH_WINDOW_SECONDS,
    LONG_BACKOFF_SECONDS,
    canary_instances,
    ended,
    is_same,
    keeps_ending,
    new_name,
    retreat,
    serving,
    stable_slot,
    surplus,
    wanted_instances,
)
from pithead.backends.process_state import SLOT_A, SLOT_B, InstanceRecord, Plane, Traffic, opposite
from pithead.delivery.ports import Artifact, Desired

ARTIFACTS = [Artifact(f"{name}-digest", name, f"/{name}") for name in ("one", "two", "three")]
artifacts = st.none() | st.sampled_from(ARTIFACTS)
weights = st.integers(0, 100)
orders = st.builds(Desired, artifacts, artifacts, weights)
traffics = st.builds(
    lambda main, held, other, weight: Traffic(1, Desired(), {main: held, opposite(main): other}, main, weight),
    st.sampled_from([SLOT_A, SLOT_B]),
    artifacts,
    artifacts,
    weights,
)


def record(name: str, **given: object) -> InstanceRecord:
    return replace(InstanceRecord(name, SLOT_A, "one-digest", "recipe", 1, f"mark-{name}"), **given)  # type: ignore[arg-type]


@given(traffics, orders)
def test_a_retreat_never_gives_a_canary_more(traffic: Traffic, desired: Desired) -> None:
    after = retreat(traffic, desired)
    assert after.canary_weight <= traffic.canary_weight
    assert (after.main, after.slots) == (traffic.main, traffic.slots)


@given(traffics, orders)
def test_a_canary_that_is_not_wanted_any_more_loses_all_traffic_at_once(traffic: Traffic, desired: Desired) -> None:
    held = traffic.slots[traffic.other]
    is_promoted = is_same(held, desired.stable) and not is_same(traffic.slots[traffic.main], desired.stable)
    if traffic.slots[traffic.main] is not None and not is_promoted:
        wanted = desired.weight if is_same(held, desired.canary) else 0
        assert retreat(traffic, desired).canary_weight <= wanted


@given(traffics, st.builds(Desired, st.sampled_from(ARTIFACTS), artifacts, weights))
def test_traffic_is_never_sent_to_where_nothing_runs(traffic: Traffic, desired: Desired) -> None:
    """Unless the order has no stable artifact: then what the canary loses is nobody's."""
    alone = traffic.with_slot(traffic.main, None)
    assert retreat(alone, desired).canary_weight == traffic.canary_weight


@given(traffics, orders)
def test_what_is_placed_anew_never_takes_the_slot_of_the_main_artifact(traffic: Traffic, desired: Desired) -> None:
    slot = stable_slot(traffic, desired)
    if desired.stable is not None and not is_same(traffic.slots[slot], desired.stable):
        assert slot == traffic.other or traffic.slots[traffic.main] is None


@given(traffics, orders)
def test_a_stable_artifact_that_runs_stays_where_it_is(traffic: Traffic, desired: Desired) -> None:
    if any(is_same(held, desired.stable) for held in traffic.slots.values()):
        assert is_same(traffic.slots[stable_slot(traffic, desired)], desired.stable)


@given(traffics)
def test_the_shares_add_up(traffic: Traffic) -> None:
    assert sum(traffic.split.values()) == 100
    assert set(traffic.split) == {SLOT_A, SLOT_B}


@given(st.integers(1, 50), weights)
def test_a_canary_has_between_one_and_all_instances(instances: int, weight: int) -> None:
    count = canary_instances(instances, weight)
    assert 1 <= count <= instances
    assert count >= instances * weight / 100
    assert wanted_instances(Desired(None, ARTIFACTS[0], weight), instances) == count
    assert wanted_instances(Desired(ARTIFACTS[0]), instances) == instances
    assert wanted_instances(Desired(), instances) == 0


def test_names_are_short_and_never_given_twice() -> None:
    plane = Plane()
    for _ in range(3):
        plane = plane.put(record(new_name(plane, "sha256:0123456789")))
    assert [one.name for one in plane.instances] == ["0123456-1", "0123456-2", "0123456-3"]
    assert new_name(plane.without("0123456-2"), "sha256:0123456789") == "0123456-2"


def test_the_surplus_is_what_does_not_fit_and_then_what_is_youngest() -> None:
    old, young = record("old", started_at=1.0, serves=True), record("young", started_at=2.0, serves=True)
    cold = record("cold", started_at=0.5)
    other = record("other", recipe="another", serves=True)
    leaving = record("leaving", is_stopping=True)
    everyone = [young, other, cold, leaving, old]
    assert {one.name for one in surplus(everyone, "one-digest", "recipe", 1)} == {"young", "other", "cold", "leaving"}
    assert {one.name for one in surplus(everyone, "one-digest", "recipe", 9)} == {"other", "leaving"}


def test_ready_instances_serve_and_doubtful_ones_only_if_there_is_no_other() -> None:
    process = Detached(1, "born")
    ready = record("ready", process=process, serves=True, was_ready=True)
    doubtful = record("doubtful", process=process, was_ready=True)
    starting, dead = record("starting", process=process), record("dead", was_ready=True)
    leaving = replace(ready, name="leaving", is_stopping=True)
    assert serving([ready, doubtful, starting, dead, leaving]) == (ready,)
    assert serving([doubtful, starting, dead, leaving]) == (doubtful,)
    assert serving([starting, dead]) == ()


def test_who_keeps_ending_is_started_ever_later() -> None:
    one, now, waits = record("one", process=Detached(1, "born"), serves=True), 1000.0, []
    for _ in range(5):
        one = ended(one, "ended with exit status 1", now, restart_limit=3)
        assert (one.process, one.serves) == (None, False)
        waits.append(round(one.next_start_at - now, 3))
        now = one.next_start_at + 0.1
    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[3:] == [LONG_BACKOFF_SECONDS] * 2
    assert keeps_ending(one, one.ends[-1], restart_limit=3)
    assert not keeps_ending(one, one.ends[-1] + CRASH_WINDOW_SECONDS, restart_limit=3)
    assert ended(one, "again", now + 1000, restart_limit=3).next_start_at == now + 1000, "long ago is forgotten"
