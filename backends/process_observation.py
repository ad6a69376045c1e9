"""What is really out there, made of what runs, what answers and what Envoy says: the target's `Observed`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from pithead.backends import detached_processes, process_plan
from pithead.backends.envoy_proxy import running_proxy
from pithead.backends.ports_found import LOOPBACK
from pithead.backends.process_instances import is_running
from pithead.backends.process_options import ProcessOptions
from pithead.backends.process_state import InstanceRecord, Plane, Slot, StateFolder, Traffic
from pithead.backends.readiness import unready
from pithead.delivery.durations import format_duration
from pithead.delivery.ports import Arm, ArmAddress, BackendError, Instance, InstanceState, Observed

_PROBE_SECONDS: Final = 0.1
"""An instance that answers later counts as what the last supervision found: looking must not take longer than acting."""


async def observe(folder: StateFolder, options: ProcessOptions, note: str = "") -> Observed:
    """Takes 0.1 s at most, unless Envoy hangs."""
    traffic, plane = folder.traffic.read(), folder.plane.read()
    if not plane.instances and plane.proxy is None:
        return Observed(wanted_instances=process_plan.wanted_instances(traffic.desired, options.instances), note=note)
    (weight, trouble), instances = await asyncio.gather(
        _weight(plane, traffic),
        asyncio.gather(*(_instance(record, traffic, options) for record in plane.instances)),
    )
    return Observed(
        stable=_digest(plane, traffic.main),
        canary=_digest(plane, traffic.other),
        weight=weight,
        instances=tuple(instances),
        wanted_instances=process_plan.wanted_instances(traffic.desired, options.instances),
        arms=_arms(plane, traffic),
        address=f"http://{LOOPBACK}:{plane.port}" if plane.port else "",
        note=" ".join(part for part in (note, trouble) if part),
    )


async def _weight(plane: Plane, traffic: Traffic) -> tuple[int, str]:
    """The canary's share in per cent as the proxy has it, and what is wrong with the proxy."""
    proxy = running_proxy(plane)
    if proxy is None:
        return 0, "Envoy is not running: nothing is served."
    try:
        split = await proxy.split()
    except BackendError as error:
        return traffic.canary_weight, error.message
    whole = sum(split.values())
    return round(100 * split[traffic.other] / whole) if whole else 0, ""


async def _instance(record: InstanceRecord, traffic: Traffic, options: ProcessOptions) -> Instance:
    state, detail = await _state(record, options)
    arm: Arm = "baseline" if record.slot == traffic.main else "canary"
    return Instance(record.name, arm, record.digest, state, record.restarts, record.started_at, detail)


async def _state(record: InstanceRecord, options: ProcessOptions) -> tuple[InstanceState, str]:
    now = time.time()
    if record.is_stopping:
        return "stopping", ""
    if not is_running(record):
        return "failing", _how_it_ended(record, now)
    if process_plan.keeps_ending(record, now, options.restart_limit):
        return "failing", f"keeps ending: {len(record.ends)} times within a minute; it {record.detail}"
    if not record.is_up:
        return "starting", record.detail
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            reason = await unready(record.port, options.readiness.path, 2 * _PROBE_SECONDS)
    except TimeoutError:
        reason = "" if record.serves else record.detail or "does not answer"
    return ("failing", reason) if reason else ("ready", "")


def _how_it_ended(record: InstanceRecord, now: float) -> str:
    if record.process is not None:
        return detached_processes.how_it_ended(record.process)
    wait = record.next_start_at - now
    return f"{record.detail}; started again in {format_duration(wait)}" if wait > 0 else record.detail


def _digest(plane: Plane, slot: Slot) -> str | None:
    return next((record.digest for record in plane.in_slot(slot) if not record.is_stopping), None)


def _arms(plane: Plane, traffic: Traffic) -> Mapping[Arm, ArmAddress]:
    """The metrics backend reads one Envoy for both arms, so both are of the same moment."""
    if plane.proxy is None:
        return {}
    sides: tuple[tuple[Arm, Slot], ...] = (("baseline", traffic.main), ("canary", traffic.other))
    arms: dict[Arm, ArmAddress] = {}
    for arm, slot in sides:
        if digest := _digest(plane, slot):
            arms[arm] = ArmAddress(digest, {"envoy_admin": plane.proxy.admin_url, "cluster": slot})
    return arms
