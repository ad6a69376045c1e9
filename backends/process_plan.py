"""The decisions of the process target, as pure functions: what an order allows at once, what goes where, how many.

Two slots take turns. The stable artifact holds one, the canary the other, and a promotion only changes which of them is
called main: no instance is touched by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pithead.backends.process_state import InstanceRecord, Plane, Slot, Traffic
from pithead.delivery.ports import Artifact, Desired

CRASH_WINDOW_SECONDS: Final = 60.0
LONG_BACKOFF_SECONDS: Final = 30.0

_BACKOFF_SECONDS: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)


def is_same(one: Artifact | None, other: Artifact | None) -> bool:
    """Both are there and of one digest."""
    return one is not None and other is not None and one.digest == other.digest


def retreat(traffic: Traffic, desired: Desired) -> Traffic:
    """The split with all taken away from the canary that the order takes away, and nothing given to it.

    The stable slot always has all of its instances, so this needs no preparation and can be done at once. The exception
    is a canary that becomes the stable artifact, or the only one that serves at all: it keeps what it has for now.
    """
    held = traffic.slots[traffic.other]
    if is_same(held, desired.stable) and not is_same(traffic.slots[traffic.main], desired.stable):
        return traffic
    if traffic.slots[traffic.main] is None and desired.stable is not None:
        return traffic
    wanted = desired.weight if is_same(held, desired.canary) else 0
    return replace(traffic, canary_weight=min(traffic.canary_weight, wanted))


def stable_slot(traffic: Traffic, desired: Desired) -> Slot:
    """Where the stable artifact belongs; the canary belongs into the other slot.

    Where it runs already, else where nothing runs that is in use. Without a stable artifact: where the canary is not.
    """
    main, other = traffic.main, traffic.other
    if desired.stable is None:
        return other if is_same(traffic.slots[main], desired.canary) else main
    if is_same(traffic.slots[main], desired.stable):
        return main
    is_free = traffic.slots[main] is None and not is_same(traffic.slots[other], desired.stable)
    return main if is_free else other


def canary_instances(instances: int, weight: int) -> int:
    """As many that each gets no more of the traffic than each of the live ones does, so that the two can be compared;
    one at least, and never more than are live."""
    if weight >= 100:
        return instances
    return min(instances, max(1, math.ceil(instances * weight / (100 - weight))))


def wanted_instances(desired: Desired, instances: int) -> int:
    stable = instances if desired.stable is not None else 0
    return stable + (canary_instances(instances, desired.weight) if desired.canary is not None else 0)


def new_name(plane: Plane, digest: str) -> str:
    """The artifact's abbreviated digest and the lowest free number: `3f2a91c-1`."""
    stem = digest.rpartition(":")[2][:7]
    number = 1
    while plane.named(f"{stem}-{number}") is not None:
        number += 1
    return f"{stem}-{number}"


def surplus(records: Sequence[InstanceRecord], digest: str, recipe: str, count: int) -> tuple[InstanceRecord, ...]:
    """Those of a slot that have to go, so that `count` instances of this artifact and this recipe are left."""
    fitting = [record for record in records if record.digest == digest and record.recipe == recipe]
    fitting = [record for record in fitting if not record.is_stopping]
    # Those that serve stay, and among them the oldest: they are warm.
    fitting.sort(key=lambda record: (not record.serves, record.started_at))
    kept = {record.name for record in fitting[:count]}
    return tuple(record for record in records if record.name not in kept)


def ended(record: InstanceRecord, how: str, now: float, restart_limit: int) -> InstanceRecord:
    """The record of an instance that has ended by itself, with the time of its next start."""
    ends = (*(at for at in record.ends if now - at < CRASH_WINDOW_SECONDS), now)
    backoff = _BACKOFF_SECONDS[min(len(ends), len(_BACKOFF_SECONDS)) - 1]
    if len(ends) > restart_limit:
        backoff = LONG_BACKOFF_SECONDS
    return replace(record, process=None, serves=False, ends=ends, next_start_at=now + backoff, detail=how)


def keeps_ending(record: InstanceRecord, now: float, restart_limit: int) -> bool:
    """It has ended more often within a minute than it may."""
    return sum(now - at < CRASH_WINDOW_SECONDS for at in record.ends) > restart_limit


def serving(records: Sequence[InstanceRecord]) -> tuple[InstanceRecord, ...]:
    """Which instances of a slot get requests: the ready ones. If none is, those that run: perhaps one of them answers."""
    candidates = [record for record in records if record.process is not None and not record.is_stopping]
    ready = [record for record in candidates if record.serves]
    return tuple(ready or (record for record in candidates if record.was_ready))
