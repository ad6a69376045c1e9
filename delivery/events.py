"""What the journal holds: facts in the past tense, and the operators' wishes (`…Requested`), each as a small value.

An `Event` is the envelope: its place in the service's total order, who, when, and which command it answers (`cause`).
A payload carries only what happened. A kind that this version does not know is kept as `Unknown` and changes no state,
so that an older console can follow a newer runner.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from pithead.delivery.ports import Artifact, Commit, Instance

StageKind = Literal["build", "test", "canary", "rollout"]
StageEnd = Literal["passed", "failed", "errored", "skipped", "aborted"]
Outcome = Literal["promoted", "fast_promoted", "aborted", "rolled_back", "superseded", "failed", "errored", "cancelled"]
ReleaseKind = Literal["forward", "rollback"]
PauseReason = Literal["operator", "failed", "error", "undecided"]
VerdictWord = Literal["pass", "fail", "inconclusive", "no_data"]
BackendWord = Literal["source", "builder", "target", "metrics"]

# ── commands: what an operator wants ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StartRequested:
    """Release the pending commits up to `commit` (full sha or an abbreviation)."""

    commit: str


@dataclass(frozen=True, slots=True)
class PromoteRequested:
    """One step on, or all of them (`full`). `seen` is the journal's seq that the operator was looking at."""

    seen: int
    full: bool = False


@dataclass(frozen=True, slots=True)
class PauseRequested:
    seen: int = 0


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    seen: int


@dataclass(frozen=True, slots=True)
class AbortRequested:
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RollBackRequested:
    """Make the earlier release `to` live again; None means the one before the live one, or abort while one is in flight."""

    to: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RetryRequested:
    seen: int


@dataclass(frozen=True, slots=True)
class LockRequested:
    reason: str


@dataclass(frozen=True, slots=True)
class UnlockRequested:
    reason: str = ""


# ── answers and facts of the service ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Refused:
    """The command named by the envelope's `cause` does nothing, and why."""

    verb: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunnerStarted:
    holder: str
    epoch: int
    version: str


@dataclass(frozen=True, slots=True)
class RunnerStopped:
    reason: str


@dataclass(frozen=True, slots=True)
class PendingObserved:
    """The commits that are not live, newest first; what the pending list on the screen shows."""

    base: str | None
    head: str
    commits: tuple[Commit, ...]
    total: int
    base_is_ancestor: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class TargetObserved:
    """What the target really runs, recorded when it changed."""

    stable: str | None
    canary: str | None
    weight: int
    instances: tuple[Instance, ...]
    wanted_instances: int
    address: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class BackendLost:
    backend: BackendWord
    message: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class BackendBack:
    backend: BackendWord


@dataclass(frozen=True, slots=True)
class Locked:
    reason: str


@dataclass(frozen=True, slots=True)
class Unlocked:
    reason: str = ""


# ── facts of a release ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StepPlan:
    weight: int
    hold_seconds: float


@dataclass(frozen=True, slots=True)
class StagePlan:
    name: str
    kind: StageKind
    expected_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ReleaseQueued:
    """A start that waits for the release in flight to end."""

    kind: ReleaseKind
    commit: str
    subject: str
    to: int | None = None


@dataclass(frozen=True, slots=True)
class ReleaseStarted:
    """`commits` are the shas that go live with it, newest first; `to` is the release that a roll-back returns to."""

    kind: ReleaseKind
    commit: str
    subject: str
    base: str | None
    commits: tuple[str, ...]
    stages: tuple[StagePlan, ...]
    steps: tuple[StepPlan, ...]
    bake_seconds: float
    is_first: bool = False
    to: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class StageEntered:
    stage: str
    attempt: int
    expected_seconds: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StageEnded:
    stage: str
    attempt: int
    state: StageEnd
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ArtifactBuilt:
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class StepEntered:
    """Rung `step` of the canary's ladder; `step == len(steps)` is the rollout's 100 %. Written before traffic moves."""

    step: int
    weight: int
    hold_seconds: float


@dataclass(frozen=True, slots=True)
class TrafficShifted:
    """The target confirmed the weight; the step's hold time runs from here."""

    step: int
    weight: int


@dataclass(frozen=True, slots=True)
class VerdictReached:
    """A metric's verdict changed. `sentence` is its evidence in words."""

    metric: str
    verdict: VerdictWord
    sentence: str


@dataclass(frozen=True, slots=True)
class Promoted:
    """An operator took the release on: one step, or past all that is left of the canary."""

    from_weight: int
    to_weight: int
    full: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Paused:
    reason: PauseReason
    words: str


@dataclass(frozen=True, slots=True)
class Resumed:
    words: str = ""


@dataclass(frozen=True, slots=True)
class Retried:
    stage: str
    attempt: int


@dataclass(frozen=True, slots=True)
class ReturnBegan:
    """The release ends with `outcome`; traffic goes back to the live artifact first."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class TrafficReturned:
    """No request goes to the canary any more, `seconds` after the return began."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WentLive:
    """The artifact is what the service is: the release's commits are no longer pending."""

    artifact: Artifact


@dataclass(frozen=True, slots=True)
class ReleaseEnded:
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseRolledBack:
    """The earlier release `release` was live and is not any more: it is never offered to go back to."""

    release: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    kind: str
    data: dict[str, Any] = field(default_factory=dict)


Wish = (
    StartRequested
    | PromoteRequested
    | PauseRequested
    | ResumeRequested
    | AbortRequested
    | RollBackRequested
    | RetryRequested
    | LockRequested
    | UnlockRequested
)
Fact = (
    Refused
    | RunnerStarted
    | RunnerStopped
    | PendingObserved
    | TargetObserved
    | BackendLost
    | BackendBack
    | Locked
    | Unlocked
    | ReleaseQueued
    | ReleaseStarted
    | StageEntered
    | StageEnded
    | ArtifactBuilt
    | StepEntered
    | TrafficShifted
    | VerdictReached
    | Promoted
    | Paused
    | Resumed
    | Retried
    | ReturnBegan
    | TrafficReturned
    | WentLive
    | ReleaseEnded
    | ReleaseRolledBack
)
Payload = Wish | Fact | Unknown

WISHES: tuple[type, ...] = Wish.__args__


def _kind_of(cls: type) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


KINDS: dict[str, type] = {_kind_of(cls): cls for cls in (*Wish.__args__, *Fact.__args__)}
_KIND_BY_CLASS = {cls: kind for kind, cls in KINDS.items()}
_HALVES = re.compile("[\ud800-\udfff]")
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(cls: type) -> TypeAdapter[Any]:
    # Built on first use: building all of them costs 20 ms, which `pithead abort` need not pay.
    if cls not in _ADAPTERS:
        _ADAPTERS[cls] = TypeAdapter(cls)
    return _ADAPTERS[cls]


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event before the journal gave it a place. `cause` is the seq of the command that it answers."""

    actor: str
    payload: Payload
    release: int | None = None
    cause: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """`seq` counts from 1 without gaps per service; `at` is Unix time in seconds, as the writer's clock had it."""

    seq: int
    service: str
    release: int | None
    at: float
    actor: str
    cause: int | None
    payload: Payload

    @property
    def kind(self) -> str:
        return kind_of(self.payload)


def kind_of(payload: Payload) -> str:
    return payload.kind if isinstance(payload, Unknown) else _KIND_BY_CLASS[type(payload)]


def encode(payload: Payload) -> str:
    """The payload as JSON text, as the journal keeps it."""
    if isinstance(payload, Unknown):
        return json.dumps(payload.data)
    adapter = _adapter(type(payload))
    try:
        return adapter.dump_json(payload).decode()
    except PydanticSerializationError:
        # Half a surrogate pair, which Python has for a byte of an argument or a file name that is not UTF-8.
        return _HALVES.sub("\N{REPLACEMENT CHARACTER}", json.dumps(adapter.dump_python(payload), ensure_ascii=False))


def decode(kind: str, data: str) -> Payload:
    """The payload of a journal row; `Unknown` when the kind, or the form of its data, is not of this version."""
    cls = KINDS.get(kind)
    if cls is None:
        return Unknown(kind, _loose(data))
    try:
        payload: Payload = _adapter(cls).validate_json(data)
    except ValidationError:
        return Unknown(kind, _loose(data))
    return payload


def as_data(payload: Payload) -> dict[str, Any]:
    """The payload as plain JSON values, for `--json`."""
    return _loose(encode(payload))


def _loose(data: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {"unreadable": data[:200]}
    return value if isinstance(value, dict) else {"value": value}
