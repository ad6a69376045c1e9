"""What the process target remembers between two calls, in any process: two small files and the values in them.

`traffic.json` is the order and where the traffic goes; it is written under a lock that nobody holds for longer than a
message to Envoy takes, so that an urgent order never waits. `plane.json` is what runs; it is written by whoever holds
the long lock, under which instances are started and ended.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from pithead.backends.detached_processes import Detached
from pithead.backends.envoy_bootstrap import CLUSTERS
from pithead.backends.state_files import read_json, write_text
from pithead.delivery.ports import Artifact, BackendError, Desired
from pithead.delivery.private_files import make_private_folder

Slot = str
"""`slot_a` or `slot_b`: an Envoy cluster, and the instances of one artifact in it."""

SLOT_A, SLOT_B = CLUSTERS


def opposite(slot: Slot) -> Slot:
    return SLOT_B if slot == SLOT_A else SLOT_A


@dataclass(frozen=True, slots=True)
class Traffic:
    """The order in force and where the traffic goes. `sequence` grows with every new order.

    `main` is the slot of the stable artifact; the other one gets `canary_weight` per cent.
    """

    sequence: int = 0
    desired: Desired = field(default_factory=Desired)
    slots: Mapping[Slot, Artifact | None] = field(default_factory=lambda: dict.fromkeys(CLUSTERS))
    main: Slot = SLOT_A
    canary_weight: int = 0

    @property
    def other(self) -> Slot:
        return opposite(self.main)

    @property
    def split(self) -> dict[Slot, int]:
        return {self.main: 100 - self.canary_weight, self.other: self.canary_weight}

    def with_slot(self, slot: Slot, artifact: Artifact | None) -> Traffic:
        return replace(self, slots={**self.slots, slot: artifact})


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """One instance that should run, or that is on its way out (`is_stopping`).

    `mark` is in the environment of the process and all its descendants. `was_ready`: it has been ready once, so it is
    started again when it ends; `is_up`: also in its present process. `serves`: Envoy may send it requests. `ends`: when
    it ended by itself lately, Unix time in seconds.
    """

    name: str
    slot: Slot
    digest: str
    recipe: str
    port: int
    mark: str
    process: Detached | None = None
    started_at: float = 0.0
    was_ready: bool = False
    is_up: bool = False
    serves: bool = False
    is_stopping: bool = False
    restarts: int = 0
    ends: tuple[float, ...] = ()
    next_start_at: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ProxyRecord:
    process: Detached
    admin_url: str
    port: int
    mark: str


@dataclass(frozen=True, slots=True)
class Plane:
    """What runs. `port` is where users reach the service, kept once it was found."""

    port: int = 0
    proxy: ProxyRecord | None = None
    instances: tuple[InstanceRecord, ...] = ()

    def put(self, record: InstanceRecord) -> Plane:
        """With this record in the place of the one of the same name, or added."""
        if any(known.name == record.name for known in self.instances):
            records = tuple(record if known.name == record.name else known for known in self.instances)
            return replace(self, instances=records)
        return replace(self, instances=(*self.instances, record))

    def without(self, name: str) -> Plane:
        return replace(self, instances=tuple(record for record in self.instances if record.name != name))

    def named(self, name: str) -> InstanceRecord | None:
        return next((record for record in self.instances if record.name == name), None)

    def in_slot(self, slot: Slot) -> tuple[InstanceRecord, ...]:
        return tuple(record for record in self.instances if record.slot == slot)


T = TypeVar("T")


class StateFile(Generic[T]):
    """One value in one file. `read` gives the empty value where there is no file; errors are BackendErrors."""

    def __init__(self, path: Path, empty: T) -> None:
        self.path = path
        self._empty = empty
        self._adapter: TypeAdapter[Any] = TypeAdapter(type(empty))

    def read(self) -> T:
        data = read_json(self.path)
        if data is None:
            return self._empty
        try:
            value: T = self._adapter.validate_python(data)
        except ValidationError as error:
            raise BackendError(
                f"{self.path} is damaged: {error.errors()[0]['msg']}.",
                "Move it away; what it names is then ended and started anew.",
            ) from error
        return value

    def write(self, value: T) -> None:
        write_text(self.path, self._adapter.dump_json(value, indent=1).decode())


class PlaneBook:
    """The plane in the hands of whoever holds the long lock: every change is on the disk before the next act."""

    def __init__(self, file: StateFile[Plane]) -> None:
        self._file = file
        self._plane = file.read()

    @property
    def plane(self) -> Plane:
        return self._plane

    def write(self, plane: Plane) -> None:
        self._file.write(plane)
        self._plane = plane


class StateFolder:
    """Where everything lies that belongs to one data plane."""

    LOG_SUFFIX: Final = ".log"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.endpoints = root / "endpoints"
        self.logs = root / "instances"
        self.order_lock = root / "order.lock"
        self.apply_lock = root / "apply.lock"
        self.bootstrap = root / "envoy.json"
        self.envoy_log = root / "envoy.log"
        self.admin_address = root / "admin.txt"
        self.traffic = StateFile(root / "traffic.json", Traffic())
        self.plane = StateFile(root / "plane.json", Plane())

    @property
    def mark(self) -> str:
        """What the marks of all processes of this data plane begin with."""
        return hashlib.sha256(bytes(self.root.resolve())).hexdigest()[:16] + "/"

    def new_mark(self, name: str) -> str:
        """A mark that no process of this data plane has had."""
        return f"{self.mark}{name}-{secrets.token_hex(4)}"

    def make(self) -> None:
        for folder in (self.root, self.endpoints, self.logs):
            make_private_folder(folder)

    def log_of(self, name: str) -> Path:
        return self.logs / f"{name}{self.LOG_SUFFIX}"
