"""One look at what should run, and the mend of what does not: done twice a second while somebody watches the target or
waits for new instances.

An instance that ended is started again, sooner at first and later when it keeps ending. One that is not ready gets no
requests for as long as another one of its slot is. An Envoy that ended is started with the split that was in force.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Final

from pithead.backends import detached_processes, process_plan
from pithead.backends.envoy_bootstrap import CLUSTERS
from pithead.backends.log_files import bound
from pithead.backends.process_convergence import ensure_proxy
from pithead.backends.process_instances import PROBE_SECONDS, Instances, is_running
from pithead.backends.process_options import ProcessOptions
from pithead.backends.process_state import InstanceRecord, PlaneBook, StateFolder, Traffic
from pithead.backends.readiness import unready
from pithead.delivery.durations import format_duration

FAILURES_BEFORE_OUT: Final = 2
"""How many looks in a row an instance may miss before its requests go elsewhere: a single one may be our own doing."""


class Supervision:
    """Holds the long lock while it works, and only what it learned of readiness between two rounds."""

    def __init__(self, options: ProcessOptions, folder: StateFolder) -> None:
        self._options = options
        self._folder = folder
        self._failures: dict[str, int] = {}

    async def round(self, book: PlaneBook, instances: Instances, busy: Collection[str] = ()) -> None:
        """`busy` are those that somebody else is starting."""
        traffic = self._folder.traffic.read()
        if not book.plane.instances:
            return
        for record in [record for record in book.plane.instances if record.name not in busy]:
            await self._mend(record, traffic, instances)
        await self._look(book, instances, busy)
        await ensure_proxy(self._folder, book, self._options, instances)
        for slot in CLUSTERS:
            if not instances.is_published(slot):
                await instances.publish(slot)
        for path in (self._folder.envoy_log, *(self._folder.log_of(record.name) for record in book.plane.instances)):
            bound(path)

    async def _mend(self, record: InstanceRecord, traffic: Traffic, instances: Instances) -> None:
        artifact = traffic.slots[record.slot]
        if record.is_stopping or not record.was_ready or artifact is None or artifact.digest != record.digest:
            return  # the next order's to go on with
        now = time.time()
        if record.process is not None and not is_running(record):
            how = detached_processes.how_it_ended(record.process)
            await instances.end_leftovers([record])
            record = process_plan.ended(record, how, now, self._options.restart_limit)
            instances.put(record)
        if record.process is None and now >= record.next_start_at:
            await instances.restart(record, artifact)

    async def _look(self, book: PlaneBook, instances: Instances, busy: Collection[str]) -> None:
        records = [record for record in book.plane.instances if is_running(record) and not record.is_stopping]
        records = [record for record in records if record.was_ready and record.name not in busy]
        answers = await asyncio.gather(
            *(unready(record.port, self._options.readiness.path, PROBE_SECONDS) for record in records)
        )
        for record, reason in zip(records, answers, strict=True):
            self._failures[record.mark] = self._failures.get(record.mark, 0) + 1 if reason else 0
            if not reason and not record.serves:
                instances.set_serving(record, True)
            elif reason and record.serves and self._failures[record.mark] >= FAILURES_BEFORE_OUT:
                instances.set_serving(record, False, reason)
            elif reason and not record.serves and self._is_overdue(record):
                await self._give_up(record, reason, instances)
        marks = {record.mark for record in records}
        self._failures = {mark: count for mark, count in self._failures.items() if mark in marks}

    def _is_overdue(self, record: InstanceRecord) -> bool:
        """Started again and not ready in time. One that has been ready is left alone: it may be busy."""
        return not record.is_up and time.time() - record.started_at > self._options.readiness.timeout_seconds

    async def _give_up(self, record: InstanceRecord, reason: str, instances: Instances) -> None:
        limit = format_duration(self._options.readiness.timeout_seconds)
        how = f"was not ready within {limit}: {reason}"
        assert record.process is not None  # noqa: S101 - only running ones are asked
        await detached_processes.end([record.process], self._options.stop_grace_seconds)
        instances.put(process_plan.ended(record, how, time.time(), self._options.restart_limit))
