"""The state of a service: values only, each the fold of its journal. `fold.py` makes them, `verbs.py` asks them.

Release outcome and service health are two things here and stay two: an aborted release says nothing about whether the
users are well, and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pithead.delivery.events import (
    BackendWord,
    Outcome,
    PauseReason,
    Payload,
    PendingObserved,
    ReleaseKind,
    StageEnd,
    StageKind,
    StepPlan,
    TargetObserved,
    VerdictWord,
    decode,
)
from pithead.delivery.ports import Artifact, Desired

StageState = Literal["pending", "running"] | StageEnd
Phase = Literal["queued", "preparing", "canary", "rollout", "returning", "ended"]
Health = Literal["unknown", "healthy", "progressing", "degraded"]


@dataclass(frozen=True, slots=True)
class StageRun:
    """One stage of one release. Times are Unix seconds; `expected_seconds` is the median of its earlier passes."""

    name: str
    kind: StageKind
    state: StageState = "pending"
    attempt: int = 0
    entered_at: float | None = None
    ended_at: float | None = None
    expected_seconds: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    metric: str
    word: VerdictWord
    sentence: str
    at: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Why it holds, who made it so, since when; `seq` is the event that did it."""

    reason: PauseReason
    words: str
    by: str
    since: float
    seq: int


@dataclass(frozen=True, slots=True)
class Return:
    """Traffic is on its way back to the live artifact, and the outcome that the release will end with."""

    outcome: Outcome
    reason: str
    by: str
    since: float


@dataclass(frozen=True, slots=True)
class Lock:
    reason: str
    by: str
    since: float


@dataclass(frozen=True, slots=True)
class Live:
    """What the users get: the artifact, the release that brought it, since when."""

    artifact: Artifact
    release: int
    subject: str
    since: float


@dataclass(frozen=True, slots=True)
class Move:
    """The last event that took the release from one place to another: what a stale command is measured against."""

    seq: int
    at: float
    by: str
    words: str


@dataclass(frozen=True, slots=True)
class Release:
    number: int
    kind: ReleaseKind
    commit: str
    subject: str
    started_by: str
    requested_at: float
    to: int | None = None
    base: str | None = None
    commits: tuple[str, ...] = ()
    stages: tuple[StageRun, ...] = ()
    steps: tuple[StepPlan, ...] = ()
    bake_seconds: float = 0.0
    is_first: bool = False
    note: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    artifact: Artifact | None = None
    step: int = -1
    """The rung of the ladder: -1 before the first, `len(steps)` at 100 %."""
    weight: int = 0
    step_entered_at: float | None = None
    shifted_at: float | None = None
    """When the target confirmed the weight of this step: its hold time runs from here, less `paused_seconds`."""
    paused_seconds: float = 0.0
    paused: Pause | None = None
    returning: Return | None = None
    is_fast: bool = False
    went_live: bool = False
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    accepted: int = -1
    """The step whose missing decision an operator accepted by promoting."""
    moved: Move = Move(0, 0.0, "", "")
    outcome: Outcome | None = None
    reason: str = ""
    rolled_back_by: int | None = None

    @property
    def running_stage(self) -> StageRun | None:
        return next((stage for stage in self.stages if stage.state == "running"), None)

    @property
    def next_stage(self) -> StageRun | None:
        return next((stage for stage in self.stages if stage.state in ("pending", "running")), None)

    @property
    def phase(self) -> Phase:
        if self.outcome is not None:
            return "ended"
        if self.started_at is None:
            return "queued"
        if self.returning is not None:
            return "returning"
        open_states = ("pending", "running", "failed", "errored")
        stage = next((s for s in self.stages if s.state in open_states), self.stages[-1] if self.stages else None)
        if stage is None or stage.kind in ("build", "test"):
            return "preparing"
        return "canary" if stage.kind == "canary" else "rollout"

    @property
    def hold_seconds(self) -> float:
        """How long the present step, or the bake at 100 %, is to be held."""
        return self.steps[self.step].hold_seconds if 0 <= self.step < len(self.steps) else self.bake_seconds

    def held_seconds(self, now: float) -> float:
        """How long the present step has been held so far, without the time that it was paused."""
        if self.shifted_at is None:
            return 0.0
        paused_since = max(self.paused.since, self.shifted_at) if self.paused else now
        return max(0.0, paused_since - self.shifted_at - self.paused_seconds)

    def elapsed_seconds(self, now: float) -> float:
        start = self.started_at if self.started_at is not None else self.requested_at
        return max(0.0, (self.ended_at or now) - start)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A command that no event has answered yet, as the journal has it."""

    seq: int
    release: int | None
    at: float
    actor: str
    kind: str
    data: str

    @property
    def wish(self) -> Payload:
        return decode(self.kind, self.data)


@dataclass(frozen=True, slots=True)
class LostBackend:
    backend: BackendWord
    message: str
    mend: str
    since: float


@dataclass(frozen=True, slots=True)
class RunnerSeen:
    """The runner that last said it had started or stopped. Whether it still lives is the lease's to say."""

    holder: str
    epoch: int
    since: float
    is_running: bool
    reason: str = ""
    """Why it stopped, or why it could not start."""


@dataclass(frozen=True, slots=True)
class ServiceState:
    service: str
    seq: int = 0
    last_release: int = 0
    live: Live | None = None
    lock: Lock | None = None
    in_flight: Release | None = None
    queued: Release | None = None
    ended: tuple[Release, ...] = ()
    """The releases that ended, newest first, at most `fold.KEPT_RELEASES` of them."""
    pending: PendingObserved | None = None
    pending_at: float | None = None
    target: TargetObserved | None = None
    target_at: float | None = None
    lost: Mapping[BackendWord, LostBackend] = field(default_factory=dict)
    runner: RunnerSeen | None = None
    unanswered: tuple[Unanswered, ...] = ()
    durations: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Per stage, how long its last passes took, in seconds, newest last."""

    def release(self, number: int) -> Release | None:
        for release in (self.in_flight, self.queued, *self.ended):
            if release is not None and release.number == number:
                return release
        return None

    @property
    def desired(self) -> Desired:
        """What the target is to be brought to, whatever happened before: the whole of what a new runner needs."""
        stable = self.live.artifact if self.live else None
        release = self.in_flight
        if release is None or release.returning or release.artifact is None or release.step < 0 or release.went_live:
            return Desired(stable=stable)
        if stable is None or release.kind == "rollback":
            return Desired(stable=release.artifact)
        if stable.digest == release.artifact.digest:
            return Desired(stable=stable)
        return Desired(stable=stable, canary=release.artifact, weight=release.weight)

    @property
    def health(self) -> Health:
        """Of the service as its users have it: the live instances only, whatever becomes of the release in flight."""
        if self.target is None or "target" in self.lost:
            return "unknown"
        serving = [instance for instance in self.target.instances if instance.arm == "baseline"]
        ready = sum(instance.state == "ready" for instance in serving)
        if self.live is None and not serving:
            return "unknown"
        others = len(self.target.instances) - len(serving)
        if ready >= self.target.wanted_instances - others > 0:
            return "healthy"
        if any(instance.state == "failing" for instance in serving) or not serving:
            return "degraded"
        return "progressing" if any(i.state == "starting" for i in serving) else "degraded"

    @property
    def roll_back_targets(self) -> tuple[Release, ...]:
        """Releases that were live, were never rolled back and are not live now: newest first, one per artifact."""
        bad = {
            release.artifact.digest
            for release in self.ended
            if release.artifact is not None and release.outcome == "rolled_back"
        }
        seen = bad | ({self.live.artifact.digest} if self.live else set())
        targets = []
        for release in self.ended:
            if release.went_live and release.artifact is not None and release.artifact.digest not in seen:
                seen.add(release.artifact.digest)
                targets.append(release)
        return tuple(targets)
