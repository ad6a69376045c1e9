"""The canary beside its baseline: how much of the traffic it has, how its instances fare, and per metric both values,
how they went, and the verdict with the sentence that says what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pithead.delivery.events import VerdictWord
from pithead.delivery.logbook import SampleRow
from pithead.delivery.ports import Instance
from pithead.delivery.state import Release
from pithead.widgets.amounts import against, measured, sparkline
from pithead.widgets.glance import Glance
from pithead.widgets.line import EMPTY, Ink, Line, cell, line, wrap
from pithead.widgets.palette import Palette
from pithead.widgets.pane import Pane
from pithead.widgets.words import VERDICTS

INSTANCE_MARKS: dict[str, tuple[str, Ink]] = {
    "ready": ("●", "good"),
    "starting": ("◔", "wait"),
    "failing": ("✘", "harm"),
    "stopping": ("◌", "dim"),
}
SEVERITY: dict[VerdictWord, int] = {"fail": 0, "no_data": 1, "inconclusive": 2, "pass": 3}
SAID = max(len(said) for _, said, _ in VERDICTS.values())
DETAILED = 68
"""Columns from which on a metric gets both of its curves and a sentence of its own."""


def heading(glance: Glance) -> tuple[Line, Line]:
    title = line(("Canary", "canary"), (" against ", "dim"), ("baseline", "baseline"))
    return title, _weight(glance)


def _weight(glance: Glance) -> Line:
    release, target = glance.state.in_flight, glance.state.target
    if release is None or release.step < 0:
        return EMPTY
    seen = target.weight if target is not None else None
    if seen is None or seen == release.weight or (release.weight == 100 and target is not None and not target.canary):
        return line((f"{release.weight} % of the traffic", "plain"))
    return line(f"{release.weight} % wanted, ", (f"{seen} % observed", "wait"))


def panel(glance: Glance, width: int, height: int) -> list[Line]:
    """In at most `height` lines: every metric, then the sentences of what does not pass, then the instances."""
    release = glance.state.in_flight
    if release is None:
        return []
    names = list(dict.fromkeys((*release.verdicts, *glance.samples)))
    if not names:
        lines = [line((_without_metrics(release), "dim"))]
        return [item.cut(width) for item in (*lines, *instances(glance, width, max(1, height - 1)))][:height]
    metrics = [_metric(name, release, glance.samples.get(name, ()), width) for name in names]
    head = [_table_head(width)] if height > len(names) + 1 else []
    room = height - len(head) - len(metrics) - 1
    spoken: set[int] = set()
    for i in sorted(range(len(names)), key=lambda i: SEVERITY[_word(release, names[i])]):
        if len(metrics[i]) - 1 <= room:
            spoken.add(i)
            room -= len(metrics[i]) - 1
    table = [item for i, metric in enumerate(metrics) for item in (metric if i in spoken else metric[:1])]
    return [item.cut(width) for item in (*head, *table, *instances(glance, width, room + 1))][:height]


def _word(release: Release, metric: str) -> VerdictWord:
    verdict = release.verdicts.get(metric)
    return verdict.word if verdict else "no_data"


def _without_metrics(release: Release) -> str:
    if release.is_first:
        return "the first release: there is nothing to compare it with"
    return "no scrape yet" if release.step >= 0 else "compared once traffic reaches it"


def _table_head(width: int) -> Line:
    names, value, ratio, _ = _columns(width)
    return (
        line("  ")
        + cell("", names)
        + cell("canary", value, "canary", is_right=True)
        + cell("baseline", value, "baseline", is_right=True)
        + cell("", ratio, "dim", is_right=True)
    )


def _columns(width: int) -> tuple[int, int, int, int]:
    """Widths of the metric's name, of a value, of the ratio, and of a curve."""
    if width >= DETAILED + 20:
        return 12, 10, 8, 16
    return (10, 9, 8, 12) if width >= DETAILED else (8, 9, 7, 8)


def _metric(name: str, release: Release, rows: Sequence[SampleRow], width: int) -> list[Line]:
    verdict, word = release.verdicts.get(name), _word(release, name)
    latest: Mapping[str, Any] = rows[-1].data if rows else {}
    effect = _mapping(latest.get("effect"))
    unit = str(effect.get("unit", "ratio"))
    canary, baseline = _number(effect.get("canary")), _number(effect.get("baseline"))
    mark, said, ink = VERDICTS[word]
    names, value, ratio, curve = _columns(width)
    drawn = (
        line((f"{mark} ", ink))
        + cell(name, names, "strong")
        + cell(measured(canary, unit), value, "canary", is_right=True)
        + cell(measured(baseline, unit), value, "baseline", is_right=True)
        + cell(against(canary, baseline), ratio, "harm" if word == "fail" else "dim", is_right=True)
        + line(" ")
        + cell(said, SAID, ink)
        + line(" ")
        + _curves(rows, curve, width - names - 2 * value - ratio - SAID - 4)
    )
    sentence = str(latest.get("sentence") or (verdict.sentence if verdict else ""))
    return [drawn.cut(width), *(line("  ") + item for item in wrap(sentence, width - 2, "dim", 2))]


def _curves(rows: Sequence[SampleRow], width: int, room: int) -> Line:
    """Both arms on one scale, the canary first."""
    if room < 6 or len(rows) < 2:
        return EMPTY
    canary, baseline = curve(rows, "canary"), curve(rows, "baseline")
    pair = room >= 2 * width + 1
    width = min(width, room)
    top = max((v for v in (*canary[-width:], *baseline[-width:]) if v is not None), default=0.0)
    drawn = line((sparkline(canary, width, top).rjust(width), "canary"))
    return drawn + line(" ", (sparkline(baseline, width, top).rjust(width), "baseline")) if pair else drawn


def curve(rows: Sequence[SampleRow], arm: str) -> list[float | None]:
    """The metric over time: errors per request between two scrapes, or the latency as judged so far."""
    values: list[float | None] = []
    before: Mapping[str, Any] = {}
    for row in rows:
        reading = _mapping(row.data.get(arm))
        if "total" not in reading:
            values.append(_number(_mapping(row.data.get("effect")).get(arm)))
            continue
        if before:
            values.append(_rate(before, reading))
        before = reading
    return values


def _rate(before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
    total = (_number(after.get("total")) or 0.0) - (_number(before.get("total")) or 0.0)
    bad = (_number(after.get("bad")) or 0.0) - (_number(before.get("bad")) or 0.0)
    return max(0.0, bad) / total if total > 0 else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value == value else None


def instances(glance: Glance, width: int, limit: int) -> list[Line]:
    """How many of each arm are ready, then those of the canary one by one; the failing ones first."""
    target = glance.state.target
    if target is None:
        return [line(("the target has not been observed yet", "dim"))]
    canary = sorted((i for i in target.instances if i.arm == "canary"), key=lambda i: (i.state != "failing", i.name))
    baseline = [i for i in target.instances if i.arm == "baseline"]
    summary = line(
        "  instances  ", ("canary ", "canary"), _ready(canary), (" · baseline ", "baseline"), _ready(baseline)
    )
    restarts = sum(i.restarts for i in canary)
    if restarts:
        summary += line((f" · {restarts} restart{'' if restarts == 1 else 's'}", "harm"))
    lines = [summary.cut(width)]
    if limit <= 2 and all(i.state == "ready" for i in canary):
        return lines
    for i, instance in enumerate(canary):
        if len(lines) == limit - 1 and len(canary) - i > 1:
            return [*lines, line((f"  … {len(canary) - i} more", "faint"))]
        lines.append(_instance(instance, width))
    return lines[:limit]


def _ready(members: Sequence[Instance]) -> str:
    return f"{sum(i.state == 'ready' for i in members)} of {len(members)} ready"


def _instance(instance: Instance, width: int) -> Line:
    mark, ink = INSTANCE_MARKS[instance.state]
    drawn = line("  ", (f"{mark} ", ink), (instance.name, "plain"), (f" {instance.state}", ink))
    if instance.restarts:
        drawn += line((f" · {instance.restarts} restart{'' if instance.restarts == 1 else 's'}", "harm"))
    return (drawn + line((f" · {instance.detail}", "dim")) if instance.detail else drawn).cut(width)


class CanaryPanel(Pane):
    def __init__(self, palette: Palette) -> None:
        super().__init__(palette, "canary")
        self._glance: Glance | None = None

    def show(self, glance: Glance) -> None:
        self._glance = glance
        self.look()

    def heading(self) -> tuple[Line, Line]:
        return heading(self._glance) if self._glance else (line("Canary"), EMPTY)

    def draw(self, width: int, height: int) -> list[Line]:
        return panel(self._glance, width, height) if self._glance else []
