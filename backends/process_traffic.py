"""The order in force and the split of the traffic, changed under a short lock and in one way only.

An order takes force the moment it is given, also while another process is busy with an older one: what it takes away
from a canary is taken away at once, and the older one can change nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pithead.backends import artifact_pins, process_plan
from pithead.backends.envoy_proxy import running_proxy
from pithead.backends.process_state import StateFolder, Traffic
from pithead.backends.state_files import locked
from pithead.delivery.ports import BackendError, Desired

_POLL_SECONDS: Final = 0.002


class SupersededError(BackendError):
    """A newer order has taken over; what this one has done so far is the newer one's to go on from."""

    def __init__(self) -> None:
        super().__init__("A newer order for this target has taken over.", "Nothing is to be done.")


async def give_order(folder: StateFolder, desired: Desired) -> Traffic:
    """Puts the order in force and takes traffic away as far as it says so; the same order again keeps its number."""
    async with locked(folder.order_lock, poll_seconds=_POLL_SECONDS):
        before = folder.traffic.read()
        number = before.sequence if before.desired == desired else before.sequence + 1
        retreated = process_plan.retreat(before, desired)
        order = Traffic(number, desired, retreated.slots, retreated.main, retreated.canary_weight)
        await _put(folder, order)
        return order


async def change_traffic(folder: StateFolder, order: Traffic, change: Callable[[Traffic], Traffic]) -> Traffic:
    """One step of an order. SupersededError, and nothing done, when it is no longer in force."""
    async with locked(folder.order_lock, poll_seconds=_POLL_SECONDS):
        before = folder.traffic.read()
        if before.sequence != order.sequence:
            raise SupersededError
        after = change(before)
        if after != before:
            await _put(folder, after)
            for artifact in after.slots.values():
                if artifact is not None:
                    artifact_pins.pin(artifact.location, folder.traffic.path)
        return after


async def renew_split(folder: StateFolder) -> None:
    """Tells an Envoy that was just started what has been ordered since its configuration was written."""
    async with locked(folder.order_lock, poll_seconds=_POLL_SECONDS):
        await _put(folder, folder.traffic.read())


def must_be_in_force(folder: StateFolder, order: Traffic) -> None:
    if folder.traffic.read().sequence != order.sequence:
        raise SupersededError


async def _put(folder: StateFolder, traffic: Traffic) -> None:
    """The proxy first: traffic has to leave a bad canary also when the disk is full."""
    proxy = running_proxy(folder.plane.read())
    try:
        if proxy is not None:
            await proxy.set_split(traffic.split)
    finally:
        folder.traffic.write(traffic)
