"""One order of the process target, carried out under the long lock: from what is there to what is desired.

The order of the steps is what keeps requests from being dropped. What will get more traffic gets its instances first,
ready and known to Envoy; then the traffic moves; then what it has left is drained and ended.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pithead.backends import detached_processes, process_plan
from pithead.backends.envoy_bootstrap import CLUSTERS
from pithead.backends.envoy_proxy import PortTakenError, running_proxy, start_proxy, stop_proxy
from pithead.backends.ports_found import free_port
from pithead.backends.process_instances import Instances
from pithead.backends.process_options import ProcessOptions
from pithead.backends.process_state import PlaneBook, Slot, StateFolder, Traffic, opposite
from pithead.backends.process_traffic import change_traffic, renew_split
from pithead.delivery.ports import Artifact, BackendError, CheckFailed, Log

_PORT_TRIES: Final = 5


async def ensure_proxy(folder: StateFolder, book: PlaneBook, options: ProcessOptions, instances: Instances) -> None:
    """A running Envoy; started, with the split in force and the instances that serve, when it does not run."""
    proxy = book.plane.proxy
    if proxy is not None and detached_processes.is_alive(proxy.process):
        if options.port in (0, proxy.port):
            return
        await stop_proxy(proxy, options.drain_seconds)
    for slot in CLUSTERS:
        await instances.publish(slot)
    for _ in range(_PORT_TRIES):
        port = options.port or book.plane.port or free_port({record.port for record in book.plane.instances})
        try:
            started = await start_proxy(folder, port, folder.traffic.read().split)
        except PortTakenError:
            if options.port or book.plane.port:
                raise  # users know this port
            continue
        book.write(replace(book.plane, port=port, proxy=started))
        await renew_split(folder)
        return
    raise BackendError("No port was found for users to reach the service.", "Choose a free one with `port`.")


class Convergence:
    """`run` returns when everything is as the order says. Cancelled or failed, the next order goes on from there."""

    def __init__(
        self,
        order: Traffic,
        folder: StateFolder,
        book: PlaneBook,
        options: ProcessOptions,
        instances: Instances,
        log: Log,
    ) -> None:
        self._order = order
        self._desired = order.desired
        self._folder = folder
        self._book = book
        self._options = options
        self._instances = instances
        self._log = log

    async def run(self) -> None:
        await self._instances.sweep()
        if self._desired.stable is None and self._desired.canary is None:
            await self._take_down()
            return
        await ensure_proxy(self._folder, self._book, self._options, self._instances)
        stable_slot = process_plan.stable_slot(self._traffic(), self._desired)
        canary_slot = opposite(stable_slot)
        weight = self._desired.weight if self._desired.canary is not None else 0
        count = process_plan.canary_instances(self._options.instances, weight)
        await self._place(stable_slot, self._desired.stable, self._options.instances)
        if self._traffic().main != stable_slot:
            await self._make_main(stable_slot)
        await self._place(canary_slot, self._desired.canary, count)
        await self._shift(weight)
        await self._trim(stable_slot, self._desired.stable, self._options.instances)
        await self._trim(canary_slot, self._desired.canary, count)
        await self._confirm()

    def _traffic(self) -> Traffic:
        return self._folder.traffic.read()

    async def _place(self, slot: Slot, artifact: Artifact | None, count: int) -> None:
        """The slot holds this artifact with enough instances, ready and known to Envoy."""
        held = self._traffic().slots[slot]
        if not process_plan.is_same(held, artifact):
            await self._vacate(slot)
        if artifact is None:
            return
        await change_traffic(self._folder, self._order, lambda traffic: traffic.with_slot(slot, artifact))
        try:
            await self._instances.ensure(slot, artifact, count)
        except CheckFailed:
            if not self._instances.in_slot(slot):
                await change_traffic(self._folder, self._order, lambda traffic: traffic.with_slot(slot, None))
            raise
        await self._instances.publish(slot)

    async def _vacate(self, slot: Slot) -> None:
        if slot == self._traffic().other:
            await self._shift(0)
        await self._instances.retire(self._instances.in_slot(slot))
        await change_traffic(self._folder, self._order, lambda traffic: traffic.with_slot(slot, None))

    async def _make_main(self, slot: Slot) -> None:
        """A promotion: this slot gets all of the traffic, or all but the new canary's share, in one step."""

        def switch(traffic: Traffic) -> Traffic:
            stays = process_plan.is_same(traffic.slots[opposite(slot)], self._desired.canary)
            return replace(traffic, main=slot, canary_weight=self._desired.weight if stays else 0)

        await change_traffic(self._folder, self._order, switch)
        if self._desired.stable is not None:
            await self._log.write([f"All traffic goes to artifact {self._desired.stable.digest[:12]}."])

    async def _shift(self, weight: int) -> None:
        if self._traffic().canary_weight != weight:
            await change_traffic(self._folder, self._order, lambda traffic: replace(traffic, canary_weight=weight))
            await self._log.write([f"{weight} % of the traffic goes to the canary."])

    async def _trim(self, slot: Slot, artifact: Artifact | None, count: int) -> None:
        if artifact is not None:
            records = self._instances.in_slot(slot)
            surplus = process_plan.surplus(records, artifact.digest, self._instances.recipe, count)
            await self._instances.retire(surplus)

    async def _confirm(self) -> None:
        wanted = (await change_traffic(self._folder, self._order, lambda traffic: traffic)).split
        proxy = running_proxy(self._book.plane)
        if proxy is None:
            raise BackendError("Envoy has ended while it was given its order.", f"See {self._folder.envoy_log}.")
        found = await proxy.split()
        if found != wanted:
            raise BackendError(
                f"Envoy splits the traffic as {found}, and not as {wanted}.", "Something else drives it."
            )

    async def _take_down(self) -> None:
        """Users first: nothing is accepted any more before the first instance ends."""
        plane = self._book.plane
        if plane.proxy is not None:
            await stop_proxy(plane.proxy, self._options.drain_seconds)
            self._book.write(replace(plane, proxy=None))
        await self._instances.retire(self._book.plane.instances)

        def empty(traffic: Traffic) -> Traffic:
            return Traffic(traffic.sequence, traffic.desired)

        await change_traffic(self._folder, self._order, empty)
