"""The ports: all that Pithead asks of the outside world, as small asynchronous protocols and the values they exchange.

A backend is a class with an `Options` model, built as `Backend(options, context)` and found by name through an
entry-point group (`SOURCES`, `BUILDERS`, `TARGETS`, `METRICS`, `NOTIFIERS`). Every method may be called again at any
time, from any process: calls converge, they do not accumulate. A method that was cancelled leaves nothing half done
that the next call would not put right.

Two ways to fail, kept apart everywhere: `CheckFailed` means that it was asked and said no (a build that does not
compile, an instance that never gets ready); `BackendError` means that it could not be asked (a tool is missing, a
server does not answer). The first brings a release back, the second pauses it and asks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

SOURCES = "pithead.sources"
BUILDERS = "pithead.builders"
TARGETS = "pithead.targets"
METRICS = "pithead.metrics"
NOTIFIERS = "pithead.notifiers"

Arm = Literal["canary", "baseline"]
InstanceState = Literal["starting", "ready", "failing", "stopping"]
MetricKind = Literal["ratio", "latency"]


class PortError(Exception):
    """Something that an operator has to be told: what was wrong, and in `mend` what to do about it."""

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        stop = "" if not self.mend or self.message.rstrip().endswith((".", "!", "?", ":", ";")) else "."
        return f"{self.message.rstrip()}{stop} {self.mend}".strip()


class CheckFailed(PortError):
    """It was asked and said no: the commit under release is to blame until shown otherwise."""


class BackendError(PortError):
    """It could not be asked: a tool, a server or a disk is to blame, nothing is known about the commit."""


@dataclass(frozen=True, slots=True)
class Context:
    """Where a backend stands: the service's name, a private folder (0700) of its own, the folder of the config file."""

    service: str
    state_folder: Path
    config_folder: Path


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `pithead doctor`: what was looked at, whether it is well, and the mend if it is not."""

    subject: str
    is_well: bool
    detail: str
    mend: str = ""


# ── source ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Commit:
    """One change. `subject` and `body` are text from outside, never markup; `committed_at` is Unix time in seconds."""

    sha: str
    parents: tuple[str, ...]
    author: str
    committed_at: float
    subject: str
    body: str = ""
    added: int = 0
    deleted: int = 0
    files: int = 0
    is_mainline: bool = True
    """Reached from the branch head by first parents only; the others came in with a merge."""


@dataclass(frozen=True, slots=True)
class Pending:
    """What is on the branch and not live: newest first, children before parents, at most the source's limit of them.

    `note` says in words what is odd (the live commit is gone from the branch, the clone is shallow); empty if nothing.
    """

    base: str | None
    head: str
    commits: tuple[Commit, ...]
    total: int
    base_is_ancestor: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class FileChange:
    path: str
    added: int
    deleted: int


class Source(Protocol):
    async def head(self) -> str:
        """The full sha at the head of the release branch, after a fetch where there is a remote."""

    async def commits(self, base: str | None, head: str) -> Pending:
        """The commits that `head` has and `base` lacks. `base=None`: nothing is live, so all of the history."""

    async def changes(self, sha: str) -> Sequence[FileChange]:
        """The files that the commit touches against its first parent."""

    async def resolve(self, name: str) -> str:
        """The full sha for an abbreviated one (six digits or more) or a ref. CheckFailed when unknown or ambiguous."""

    def checkout(self, sha: str) -> AbstractAsyncContextManager[Path]:
        """A folder holding the commit's tree, apart from any folder of the user's; gone when the context ends."""

    def watch(self) -> AsyncIterator[str]:
        """Yields the head's sha at once and at every change of it."""

    async def check(self) -> Sequence[Finding]: ...


# ── builder and commands ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a build produced. `digest` is its identity, `location` is where the builder's target finds it."""

    digest: str
    commit: str
    location: str
    size_bytes: int = 0


class Log(Protocol):
    """Where a stage's output goes. Awaiting `write` is the back-pressure: a build that prints 1 GB waits for the disk."""

    async def write(self, lines: Sequence[str]) -> None:
        """Takes whole lines without their line ends, in order."""


class Builder(Protocol):
    async def build(self, commit: str, folder: Path, log: Log) -> Artifact:
        """The artifact of this tree. The same commit twice gives the artifact that exists. CheckFailed if it won't build."""

    async def find(self, digest: str) -> Artifact | None:
        """The artifact of that digest if it still exists, for a roll-back; None when it is gone."""

    async def check(self) -> Sequence[Finding]: ...


@dataclass(frozen=True, slots=True)
class Command:
    """One command line of the operator's, run by a shell in `folder`, with `environment` added to a clean one."""

    line: str
    folder: Path
    timeout_seconds: float
    environment: Mapping[str, str] = field(default_factory=dict)


class CommandRunner(Protocol):
    async def run(self, command: Command, log: Log) -> int:
        """The exit status. The whole process group ends on time-out (CheckFailed), on cancellation, and with the caller."""


# ── target ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Desired:
    """The whole order that a target gets. Rolling back is `Desired(stable=live)`; nothing at all is `Desired()`.

    `weight` is the canary's share of the traffic in per cent, 0 to 100.
    """

    stable: Artifact | None = None
    canary: Artifact | None = None
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Instance:
    """One running copy. `arm` is the role that it plays now; `detail` says in words what is wrong with it, if anything."""

    name: str
    arm: Arm
    digest: str
    state: InstanceState
    restarts: int = 0
    started_at: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ArmAddress:
    """How a metrics backend finds one arm: labels that target and metrics agree on (for example Envoy's admin URL and
    the cluster's name, or a pod selector)."""

    digest: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Observed:
    """What is really out there. `weight` is what the proxy does, not what it was told. `address` is where users go.

    `wanted_instances` counts both arms; an instance that is wanted and does not run is in `instances` all the same.
    """

    stable: str | None = None
    canary: str | None = None
    weight: int = 0
    instances: tuple[Instance, ...] = ()
    wanted_instances: int = 0
    arms: Mapping[Arm, ArmAddress] = field(default_factory=dict)
    address: str = ""
    note: str = ""


class Target(Protocol):
    async def apply(self, desired: Desired, log: Log) -> None:
        """Converges on `desired` and returns when it is so: new instances ready before they get traffic, traffic away
        before instances stop, no request dropped. Taking traffic away from a canary happens first and at once.

        CheckFailed when the artifact will not run, BackendError when the target cannot be driven.
        """

    async def observe(self) -> Observed: ...

    def watch(self) -> AsyncIterator[Observed]:
        """Yields what is there at once and at every change of it."""

    async def check(self) -> Sequence[Finding]: ...


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Counts:
    """Cumulative counters of one arm: `bad` of `total` requests since its instances started."""

    bad: float
    total: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cumulative counts per upper bound, in seconds; the last bound is infinity. Cumulative over buckets and over time."""

    le: tuple[float, ...]
    count: tuple[float, ...]


Reading = Counts | Histogram


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What is compared. `quantile` belongs to latency; `limit` fails at once whatever the baseline does."""

    name: str
    kind: MetricKind
    tolerance: float = 0.25
    """How much worse than the baseline is still accepted: 0.25 is a quarter more errors, or a quarter more slow ones."""
    min_samples: int = 50
    alpha: float = 0.01
    quantile: float = 0.99
    is_critical: bool = True
    limit: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """One scrape of one metric, both arms at the same time. None: that arm gave no reading. `at` is Unix time, seconds."""

    at: float
    metric: str
    kind: MetricKind
    canary: Reading | None
    baseline: Reading | None


class Metrics(Protocol):
    async def scrape(self, arms: Mapping[Arm, ArmAddress], metrics: Sequence[MetricSpec]) -> Sequence[Sample]:
        """One sample per metric, all of the same moment. An arm that cannot be read is None, never zero."""

    async def check(self) -> Sequence[Finding]: ...


# ── what the registry expects of a class behind an entry point ───────────────────────────────────────────────────


class BackendClass(Protocol):
    """`Options` is a pydantic model with `extra="forbid"`; its fields' descriptions become schema and documentation."""

    Options: ClassVar[type[Any]]

    def __call__(self, options: Any, context: Context) -> Any: ...
