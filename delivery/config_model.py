"""What a configuration holds: one declaration for each option, from which come its check, its schema and its words.

Names in the file are the operator's (`timeout: 10m`); names in the program carry their unit (`timeout_seconds`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, PlainValidator, ValidationInfo, WithJsonSchema, model_validator

from pithead.delivery.config_errors import BadValueError, BadValuesError, shown
from pithead.delivery.config_values import (
    Backend,
    CommandLine,
    Fraction,
    Name,
    PositiveDuration,
    PositiveFraction,
    Section,
    Variables,
    Weight,
    matching,
    option,
    parse_fraction,
)
from pithead.delivery.durations import Duration, format_duration, parse_duration
from pithead.delivery.ports import MetricSpec

STAGES: Final = ("build", "canary", "rollout")
SHORTEST_INTERVAL_SECONDS: Final = 0.1

ServiceName = Annotated[
    str,
    matching(
        r"[a-z0-9][a-z0-9-]{0,62}",
        "cannot be the name of a service.",
        "Use up to 63 small letters, digits and '-', with a letter or digit first.",
    ),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$"}),
]
EnvironmentWord = Annotated[
    str,
    matching(
        r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,30}[A-Za-z0-9])?",
        "is no word for the top line.",
        "Use up to 32 letters, digits, spaces, '.', '_' and '-'.",
    ),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9 ._-]{0,30}[A-Za-z0-9])?$"}),
]


# ── pipeline ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _without_repeats(names: Iterable[str], what: str) -> list[BadValueError]:
    """A problem for each name that was there before, found at `[place].name`."""
    seen: Counter[str] = Counter()
    problems = []
    for place, name in enumerate(names):
        if seen[name.casefold()]:
            message = f"{shown(name)} is already the name of the {what} before it."
            problems.append(BadValueError(message, "Give each a name of its own.", (place, "name")))
        seen[name.casefold()] += 1
    return problems


def _raise_if_any(problems: list[BadValueError]) -> None:
    if problems:
        raise BadValuesError(problems)


class PipelineTest(Section):
    """A command that says whether the artifact is fit to go out: exit status 0 means that it is."""

    name: Name = option("What the stage is called; each test has a name of its own.", example="unit")
    command: CommandLine = option("The command line, run by a shell in the commit's tree.", example="make test")
    timeout_seconds: PositiveDuration = option(
        "After this time the command is ended and the test has failed.",
        key="timeout",
        default=parse_duration("10m"),
        written="10m",
    )
    retries: int = option("How often a failed run is tried again.", default=0, ge=0, le=10, strict=True)
    environment: Variables = option(
        "Variables for the command: text, `{from_env: NAME}` or `{from_file: path}`.", default_factory=dict
    )


def _usable_tests(tests: tuple[PipelineTest, ...]) -> tuple[PipelineTest, ...]:
    problems = _without_repeats((test.name for test in tests), "test")
    for place, test in enumerate(tests):
        if test.name.casefold() in STAGES:
            message = f"{shown(test.name)} is the name of a stage that every pipeline has."
            problems.append(BadValueError(message, f"Choose another than {', '.join(STAGES)}.", (place, "name")))
    _raise_if_any(problems)
    return tests


class CanaryStep(Section):
    """One rung of the ladder."""

    weight_percent: Weight = option("The canary's share of the traffic, in per cent.", key="weight", example=5)
    hold_seconds: PositiveDuration = option("How long it stays there, judged all the time.", key="hold", example="2m")


def _rising(steps: tuple[CanaryStep, ...]) -> tuple[CanaryStep, ...]:
    problems = []
    for place in range(1, len(steps)):
        weight, before = steps[place].weight_percent, steps[place - 1].weight_percent
        if weight <= before:
            relation = "is below" if weight < before else "repeats"
            message = f"{weight} {relation} the step before it ({before})."
            problems.append(BadValueError(message, "Steps go up; 0 is 'abort'.", (place, "weight")))
    _raise_if_any(problems)
    return steps


class Canary(Section):
    """How the new artifact meets its first users. Without steps there is no canary."""

    steps: Annotated[tuple[CanaryStep, ...], AfterValidator(_rising)] = option(
        "The ladder, lowest weight first. Empty: no canary.",
        default=(),
        written=[],
        example=[{"weight": 5, "hold": "2m"}],
        max_length=50,
    )
    interval_seconds: PositiveDuration = option(
        "Time between two looks at the metrics.", key="interval", default=parse_duration("5s"), written="5s"
    )
    on_fail: Literal["rollback", "pause"] = option(
        "What happens when the canary is found worse than the baseline.", default="rollback"
    )
    on_error: Literal["pause", "rollback"] = option(
        "What happens when the canary could not be judged or driven, because a tool or a server is broken.",
        default="pause",
    )
    undecided: Literal["pause", "fail", "continue"] = option(
        "What happens when a step is over and the numbers do not suffice for a decision.", default="pause"
    )

    @model_validator(mode="after")
    def _look_within_each_step(self) -> Canary:
        if self.interval_seconds < SHORTEST_INTERVAL_SECONDS:
            raise BadValueError("The metrics would be read without pause.", "100ms is the shortest.", ("interval",))
        shortest = min((step.hold_seconds for step in self.steps), default=None)
        if shortest is not None and self.interval_seconds > shortest:
            message = f"A step of {format_duration(shortest)} would be over before the first look at the metrics."
            raise BadValueError(message, "Shorten the interval or hold the step longer.", ("interval",))
        return self


class Rollout(Section):
    """All of the traffic on the new artifact."""

    bake_seconds: Duration = option(
        "How long it is still judged with all of the traffic before the release is done. 0: not at all.",
        key="bake",
        default=parse_duration("5m"),
        written="5m",
    )


class Pipeline(Section):
    """What a release goes through, in this order."""

    build: Backend = option("The builder and its options.", example={"archive": {}})
    tests: Annotated[tuple[PipelineTest, ...], AfterValidator(_usable_tests)] = option(
        "Commands that every artifact has to pass, run one after another.",
        default=(),
        written=[],
        example=[{"name": "unit", "command": "make test"}],
        max_length=50,
    )
    canary: Canary = option("The canary. Left out: none.", default_factory=Canary)
    rollout: Rollout = option("The rollout.", default_factory=Rollout)


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _parse_limit(value: object, info: ValidationInfo) -> float | None:
    """A share for a ratio, seconds for a latency. Without a known kind nothing can be said about it."""
    match info.data.get("kind"):
        case "ratio":
            return _limit_above_zero(parse_fraction(value), "1%")
        case "latency":
            return _limit_above_zero(parse_duration(value), "1ms")
    return None


def _limit_above_zero(limit: float, smallest: str) -> float:
    if limit <= 0:
        raise BadValueError("A limit of 0 would fail every release.", f"Write more, such as {smallest}.")
    return limit


class WatchedMetric(Section):
    """One number that is compared between canary and baseline."""

    name: Name = option("What it is called on the screen.", example="errors")
    kind: Literal["ratio", "latency"] = option(
        "`ratio`: the share of requests that went wrong. `latency`: how long requests took.", example="ratio"
    )
    tolerance: PositiveFraction = option(
        "How much worse than the baseline is still accepted; 25% is a quarter more.", default=0.25, written="25%"
    )
    min_samples: int = option(
        "Fewer requests of the canary than this decide nothing.", default=50, ge=1, le=1_000_000_000, strict=True
    )
    critical: bool = option("Whether this metric alone can fail the canary.", default=True)
    quantile: Annotated[Fraction, AfterValidator(lambda share: _inner_share(share))] = option(
        "Of a latency: the share of requests that are faster; 0.99 is the p99.", default=0.99
    )
    limit: Annotated[
        float | None,
        PlainValidator(_parse_limit),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number", "minimum": 0, "maximum": 1}]}),
    ] = option(
        "Fails at once above it, whatever the baseline does: a share for a ratio, a duration for a latency.",
        default=None,
    )
    options: Mapping[str, Any] = option("What the metrics backend has to know about this metric.", default_factory=dict)

    @model_validator(mode="after")
    def _quantile_of_latency_only(self) -> WatchedMetric:
        if self.kind == "ratio" and "quantile" in self.model_fields_set:
            raise BadValueError("A ratio has no quantile.", "Remove it, or write kind: latency.", ("quantile",))
        return self

    def spec(self, alpha: float) -> MetricSpec:
        """The same for the judge, with its part of the false-alarm budget."""
        return MetricSpec(
            name=self.name,
            kind=self.kind,
            tolerance=self.tolerance,
            min_samples=self.min_samples,
            alpha=alpha,
            quantile=self.quantile,
            is_critical=self.critical,
            limit=self.limit,
            options=self.options,
        )


def _inner_share(share: float) -> float:
    if not 0 < share < 1:
        raise BadValueError(f"{shown(share)} is no quantile.", "Write a share between 0 and 1, such as 0.99.")
    return share


def _risk(share: float) -> float:
    if not 0 < share <= 0.5:
        raise BadValueError(f"{shown(share)} is no risk to take.", "Write more than 0 and at most 50%, such as 1%.")
    return share


def _different_names(metrics: tuple[WatchedMetric, ...]) -> tuple[WatchedMetric, ...]:
    _raise_if_any(_without_repeats((metric.name for metric in metrics), "metric"))
    return metrics


class Metrics(Section):
    """What the canary is judged by."""

    source: Backend = option("Where the numbers come from.", example={"envoy": {}})
    watched: Annotated[tuple[WatchedMetric, ...], AfterValidator(_different_names)] = option(
        "The numbers that are compared. Empty: operators judge for themselves.",
        key="watch",
        default=(),
        written=[],
        example=[{"name": "errors", "kind": "ratio"}],
        max_length=50,
    )
    alpha: Annotated[Fraction, AfterValidator(_risk)] = option(
        "How likely one release may be failed by chance alone, over all of its metrics.", default=0.01, written="1%"
    )

    @property
    def watch(self) -> tuple[MetricSpec, ...]:
        """The metrics for the judge, each with an equal part of the false-alarm budget."""
        return tuple(metric.spec(self.alpha / len(self.watched)) for metric in self.watched)
