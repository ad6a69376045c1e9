"""The line that never leaves the screen: what this is about, whether it is production, what is live and how well it is,
who sits at the keys, and whether anybody may start anything."""

from __future__ import annotations

from pithead.widgets.amounts import age
from pithead.widgets.glance import Glance
from pithead.widgets.line import EMPTY, Ink, Line, join, line, sides
from pithead.widgets.palette import Palette
from pithead.widgets.pane import Pane
from pithead.widgets.words import HEALTHS, short

BETWEEN = line((" ▏", "rule"))


def top_line(glance: Glance, width: int) -> Line:
    """One line of `width` cells. What is said at length gives way first; nothing of what is said is left out."""
    for detail in range(4, -1, -1):
        drawn = _at_detail(glance, width, detail)
        if drawn is not None:
            return drawn
    left = join(_left(glance, 0), BETWEEN)
    return sides(line(" ") + left, join(_right(glance, 0), BETWEEN) + line(" "), width)


def _at_detail(glance: Glance, width: int, detail: int) -> Line | None:
    left = line(" ") + join(_left(glance, detail), BETWEEN)
    right = join(_right(glance, detail), BETWEEN) + line(" ")
    return sides(left, right, width) if left.width + right.width < width else None


def _left(glance: Glance, detail: int) -> list[Line]:
    return [
        line((glance.state.service if detail else glance.state.service[:12], "strong")),
        _environment(glance, detail),
        _live(glance, detail),
        _health(glance),
    ]


def _environment(glance: Glance, detail: int) -> Line:
    target = glance.target_name if detail > 1 else glance.target_name[:10]
    name = glance.environment.strip()
    if not name:
        return line((target, "accent"))
    word: tuple[str, Ink] = (f" {name.upper()} ", "production") if glance.is_production else (f" {name} ", "staging")
    return line(word, " ", (target, "accent")) if target else line(word)


def _live(glance: Glance, detail: int) -> Line:
    live = glance.state.live
    if live is None:
        return line(("nothing live", "wait"))
    commit = line(("live ", "dim"), short(live.artifact.commit)) if detail else line(short(live.artifact.commit))
    old = line(f" {age(glance.now - live.since)}") if detail else EMPTY
    subject = live.subject if len(live.subject) <= 32 else live.subject[:31] + "…"
    return commit + (line((f" {subject}", "dim")) if detail > 3 else EMPTY) + old


def _health(glance: Glance) -> Line:
    mark, word, ink = HEALTHS[glance.state.health]
    return line((f"{mark} {word}", ink))


def _right(glance: Glance, detail: int) -> list[Line]:
    operator = glance.operator if detail > 2 else glance.operator.split("@")[0][:8]
    parts = [_runner(glance, detail), line((operator, "dim"))]
    if glance.is_read_only:
        parts.append(line(("read-only", "wait")))
    lock = glance.state.lock
    if lock is None:
        return [*parts, line(("open", "dim"))]
    return [*parts, line((f"LOCKED by {lock.by[:20]}" if detail > 1 else "LOCKED", "wait"))]


def _runner(glance: Glance, detail: int) -> Line:
    if glance.runner == "alive":
        return line(("runner ", "dim"), ("✔", "good"))
    is_wanted = bool(glance.state.in_flight or glance.state.queued or glance.state.unanswered)
    if glance.runner == "unknown":
        return line(("runner …", "dim"))
    if is_wanted:
        return line(("no runner", "harm"))
    return line(("runner rests" if detail > 1 else "runner –", "dim"))


class TopLine(Pane):
    def __init__(self, palette: Palette) -> None:
        super().__init__(palette, "top")
        self._glance: Glance | None = None

    def show(self, glance: Glance) -> None:
        self._glance = glance
        self.look()

    def draw(self, width: int, height: int) -> list[Line]:
        return [top_line(self._glance, width)] if self._glance else []
