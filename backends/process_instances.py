"""The instances of the process target: started and waited for, listed for Envoy, drained and ended.

Only the holder of the long lock uses this. Every step is written down before or right after it is made, so that
whoever comes next, after a cancellation or a SIGKILL at any point, knows what runs; `sweep` ends what is not written.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from pithead.backends import detached_processes, process_plan
from pithead.backends.clean_environment import clean_environment
from pithead.backends.envoy_bootstrap import CLUSTERS, Endpoint
from pithead.backends.envoy_proxy import drained, endpoints_taken_over, has_endpoints, running_proxy, write_endpoints
from pithead.backends.finishing import all_or_none, finish, in_thread
from pithead.backends.log_files import tail
from pithead.backends.ports_found import free_port
from pithead.backends.process_options import ProcessOptions, recipe
from pithead.backends.process_state import InstanceRecord, PlaneBook, Slot, StateFolder
from pithead.backends.readiness import unready
from pithead.delivery.durations import format_duration
from pithead.delivery.plain_text import plain_line
from pithead.delivery.ports import Artifact, BackendError, CheckFailed, Log
from pithead.delivery.secrets import reveal_all

PROBE_SECONDS: Final = 2.0
KEEP_SECONDS: Final = 0.5

_FIRST_PAUSE_SECONDS: Final = 0.02
_PORT_TRIES: Final = 4
_SHOWN_LINES: Final = 50
_TAIL_LINES: Final = 5
_PORT_TAKEN: Final = re.compile(r"address (?:already )?in use|EADDRINUSE|WSAEADDRINUSE", re.IGNORECASE)


def is_running(record: InstanceRecord) -> bool:
    return record.process is not None and detached_processes.is_alive(record.process)


def _tree(artifact: Artifact) -> Path:
    tree = Path(artifact.location)
    if not tree.is_dir():
        raise BackendError(f"Artifact {artifact.digest[:12]} is not at {tree} any more.", "Build its commit again.")
    return tree


class Instances:
    """`may_go_on` is asked at every wait for readiness and raises when a newer order has taken over. `keep_rest`, if it
    is set, is awaited now and then meanwhile, with the names of those that are waited for: what runs must go on running.
    """

    def __init__(
        self,
        options: ProcessOptions,
        config_folder: Path,
        folder: StateFolder,
        book: PlaneBook,
        log: Log,
        may_go_on: Callable[[], None] = lambda: None,
    ) -> None:
        self._options = options
        self._environment = reveal_all(options.environment, config_folder)
        self._folder = folder
        self._book = book
        self._log = log
        self._may_go_on = may_go_on
        self.keep_rest: Callable[[Collection[str]], Awaitable[None]] | None = None
        self.recipe = recipe(options.command, self._environment)

    def in_slot(self, slot: Slot) -> tuple[InstanceRecord, ...]:
        return self._book.plane.in_slot(slot)

    async def sweep(self) -> None:
        """Ends what is ours and not written down, and forgets what is written down and was never ready."""
        plane = self._book.plane
        records = [record for record in plane.instances if is_running(record)]
        marks = {record.mark for record in records}
        if plane.proxy is not None and detached_processes.is_alive(plane.proxy.process):
            marks.add(plane.proxy.mark)
        await in_thread(detached_processes.kill_marked, (self._folder.mark,), marks)
        for record in plane.instances:
            if record.mark not in marks and not record.was_ready:
                self._forget(record)

    async def ensure(self, slot: Slot, artifact: Artifact, count: int) -> None:
        """At least `count` instances that have been ready, started the way that the options say now.

        CheckFailed when one will not run: those that were never ready are ended then, the others left as they are.
        """
        fitting = [
            record
            for record in self.in_slot(slot)
            if (record.digest, record.recipe) == (artifact.digest, self.recipe) and not record.is_stopping
        ]
        awaited = [record.name for record in fitting if not record.was_ready]
        for record in fitting:
            if not is_running(record):
                await self.restart(record, artifact)
                awaited.append(record.name)
        for _ in range(count - len(fitting)):
            awaited.append(await self._start(slot, artifact))
        keeping = asyncio.create_task(self._keep_rest(awaited))
        try:
            await all_or_none(self._until_ready(name, artifact) for name in dict.fromkeys(awaited))
        except CheckFailed:
            for name in awaited:
                await self._log.write([f"{name}: {line}" for line in tail(self._folder.log_of(name), _SHOWN_LINES)])
            await self._end([record for record in map(self._named, awaited) if not record.was_ready])
            raise
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})

    async def restart(self, record: InstanceRecord, artifact: Artifact) -> None:
        """The same instance again, in a new process on a new port."""
        await self.end_leftovers([record])
        self._put(replace(record, restarts=record.restarts + record.was_ready, serves=False))
        await self._spawn(record.name, artifact)

    async def publish(self, slot: Slot, without: Sequence[str] = ()) -> None:
        """Tells Envoy which instances the slot has, and waits until it goes by that, if it runs."""
        listed = self._listed(slot, without)
        write_endpoints(self._folder, slot, listed)
        admin = running_proxy(self._book.plane)
        if admin is not None:
            await endpoints_taken_over(admin, slot, listed)

    def is_published(self, slot: Slot) -> bool:
        return has_endpoints(self._folder, slot, self._listed(slot))

    def _listed(self, slot: Slot, without: Sequence[str] = ()) -> list[Endpoint]:
        records = [record for record in self.in_slot(slot) if record.name not in without]
        leaving = [record for record in records if record.is_stopping and record.process is not None]
        return [
            *(Endpoint(record.port) for record in process_plan.serving(records)),
            *(Endpoint(record.port, is_draining=True) for record in leaving),
        ]

    async def retire(self, records: Sequence[InstanceRecord]) -> None:
        """No new requests, time for those in hand, out of Envoy, ended."""
        if not records:
            return
        for record in records:
            self._put(replace(record, is_stopping=True, serves=False))
        names = [record.name for record in records]
        for slot in CLUSTERS:
            ports = [record.port for record in records if record.slot == slot]
            admin = running_proxy(self._book.plane)
            if ports and admin is not None:
                await self.publish(slot)
                await drained(admin, slot, ports, self._options.drain_seconds)
            await self.publish(slot, names)
        await self._end([self._named(name) for name in names])

    def set_serving(self, record: InstanceRecord, serves: bool, detail: str = "") -> None:
        was_ready, is_up = record.was_ready or serves, record.is_up or serves
        self._put(replace(record, serves=serves, was_ready=was_ready, is_up=is_up, detail=detail))

    def put(self, record: InstanceRecord) -> None:
        self._put(record)

    async def _keep_rest(self, awaited: Collection[str]) -> None:
        while self.keep_rest is not None:
            await asyncio.sleep(KEEP_SECONDS)
            with contextlib.suppress(BackendError):  # told by the next watch; the order at hand is not to blame
                await self.keep_rest(awaited)

    async def _start(self, slot: Slot, artifact: Artifact) -> str:
        name = process_plan.new_name(self._book.plane, artifact.digest)
        self._put(InstanceRecord(name, slot, artifact.digest, self.recipe, port=0, mark=""))
        await self._spawn(name, artifact)
        return name

    async def _spawn(self, name: str, artifact: Artifact) -> None:
        """Written down with its mark before it is there, and with its pid after: not to be cancelled in between."""
        tree = _tree(artifact)
        port = free_port({record.port for record in self._book.plane.instances})
        mark = self._folder.new_mark(name)
        fresh = replace(self._named(name), port=port, mark=mark, recipe=self.recipe, process=None, is_up=False)
        record = replace(fresh, started_at=time.time())
        self._put(record)
        await finish(self._launch(record, artifact, tree))

    async def _launch(self, record: InstanceRecord, artifact: Artifact, tree: Path) -> None:
        added = {
            "PORT": str(record.port),
            "PITHEAD_PORT": str(record.port),
            "PITHEAD_COMMIT": artifact.commit,
            "PITHEAD_ARTIFACT": artifact.digest,
            "PITHEAD_NAME": record.name,
        }
        line = self._options.command.replace("{port}", str(record.port))
        log = self._folder.log_of(record.name)
        if log.exists():
            log.replace(log.with_name(f"{log.name}.1"))
        environment = clean_environment({**self._environment, **added})
        process = await asyncio.to_thread(
            detached_processes.start, ["/bin/sh", "-c", line], tree, environment, log, record.mark
        )
        self._put(replace(record, process=process))

    async def _until_ready(self, name: str, artifact: Artifact) -> None:
        readiness = self._options.readiness
        deadline = time.monotonic() + readiness.timeout_seconds
        pause = min(_FIRST_PAUSE_SECONDS, readiness.interval_seconds)
        tries = 1
        while True:
            record = self._named(name)
            if not is_running(record):
                if tries >= _PORT_TRIES or not self._lost_its_port(record):
                    raise self._has_ended(record)
                tries += 1
                await self.end_leftovers([record])
                await self._spawn(name, artifact)
                continue
            left = max(0.1, deadline - time.monotonic())
            reason = await unready(record.port, readiness.path, min(PROBE_SECONDS, left))
            if not reason and is_running(record):
                self.set_serving(record, True)
                took = format_duration(time.time() - record.started_at)
                return await self._log.write([f"Instance {name} is ready on port {record.port} after {took}."])
            if time.monotonic() >= deadline:
                raise self._is_not_ready(record, reason)
            self._may_go_on()
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, readiness.interval_seconds)

    def _lost_its_port(self, record: InstanceRecord) -> bool:
        """Somebody else was quicker: no fault of the commit."""
        return any(_PORT_TAKEN.search(line) for line in tail(self._folder.log_of(record.name), 40))

    def _has_ended(self, record: InstanceRecord) -> CheckFailed:
        process = record.process
        line = plain_line(self._options.command, 120)
        if process is not None and detached_processes.exit_status(process) == 127:
            return CheckFailed(
                f"The start command `{line}` was not found: {self._last_words(record)}",
                "Check the name, and that the build puts it into the artifact.",
            )
        how = detached_processes.how_it_ended(process) if process is not None else "was never started"
        return CheckFailed(
            f"Instance {record.name} {how} before it was ready: {self._last_words(record)}",
            f"The start command is `{line}`; it must stay in the foreground.",
        )

    def _is_not_ready(self, record: InstanceRecord, reason: str) -> CheckFailed:
        timeout = format_duration(self._options.readiness.timeout_seconds)
        return CheckFailed(
            f"Instance {record.name} was not ready within {timeout}: {reason}. It said: {self._last_words(record)}",
            "It has to listen on 127.0.0.1 at $PORT; more time is given with `readiness.timeout`.",
        )

    def _last_words(self, record: InstanceRecord) -> str:
        return " | ".join(tail(self._folder.log_of(record.name), _TAIL_LINES)) or "(no output)"

    async def _end(self, records: Sequence[InstanceRecord]) -> None:
        """Ends them with all their descendants and forgets them."""
        processes = [record.process for record in records if record.process is not None]
        await detached_processes.end(processes, self._options.stop_grace_seconds)
        await self.end_leftovers(records)
        for record in records:
            self._forget(record)

    async def end_leftovers(self, records: Sequence[InstanceRecord]) -> None:
        """Descendants that left the session, and those of a leader that has ended by itself."""
        processes = [record.process for record in records if record.process is not None]
        await detached_processes.end(processes, 0.0)
        if marks := tuple(record.mark for record in records if record.mark):
            await in_thread(detached_processes.kill_marked, marks)

    def _forget(self, record: InstanceRecord) -> None:
        self._book.write(self._book.plane.without(record.name))
        log = self._folder.log_of(record.name)
        for path in (log, log.with_name(f"{log.name}.1")):
            path.unlink(missing_ok=True)

    def _put(self, record: InstanceRecord) -> None:
        self._book.write(self._book.plane.put(record))

    def _named(self, name: str) -> InstanceRecord:
        record = self._book.plane.named(name)
        assert record is not None, name  # noqa: S101 - only records that were put are asked for
        return record
