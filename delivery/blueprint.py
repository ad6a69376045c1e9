"""What a release goes through, as the config has it: a value, so that the decisions need no config file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pithead.delivery.events import StageKind, StepPlan
from pithead.delivery.ports import MetricSpec

BUILD, CANARY, ROLLOUT = "build", "canary", "rollout"


@dataclass(frozen=True, slots=True)
class TestPlan:
    """One test stage: `line` is run by a shell in a checkout of the commit."""

    __test__ = False  # not a test class, whatever pytest makes of the name

    name: str
    line: str
    timeout_seconds: float = 600.0
    retries: int = 0
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Blueprint:
    """`on_…` say what happens when a canary failed, when a tool broke, when a step ends without a decision."""

    tests: tuple[TestPlan, ...] = ()
    steps: tuple[StepPlan, ...] = ()
    bake_seconds: float = 0.0
    interval_seconds: float = 5.0
    on_fail: Literal["rollback", "pause"] = "rollback"
    on_error: Literal["pause", "rollback"] = "pause"
    undecided: Literal["pause", "fail", "continue"] = "pause"
    metrics: tuple[MetricSpec, ...] = ()

    @property
    def stages(self) -> tuple[tuple[str, StageKind], ...]:
        """(name, kind) in order."""
        tests: tuple[tuple[str, StageKind], ...] = tuple((test.name, "test") for test in self.tests)
        return ((BUILD, "build"), *tests, (CANARY, "canary"), (ROLLOUT, "rollout"))

    def test(self, name: str) -> TestPlan | None:
        return next((test for test in self.tests if test.name == name), None)
