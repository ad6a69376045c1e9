"""The line that never leaves the screen: what this is about, whether it is production, what is live and how well it is,
who sits at the keys, and whether anybody may start anything."""

from __future__ import annotations

from pithead.widgets.amounts import age
from pithead.widgets.glance import Glance
from pithead.widgets.line import Ink, Line, join, line, sides
from pithead.widgets.palette import Palette
from pithead.widgets.pane import Pane
from pithead.widgets.words import HEALTHS, short

BETWEEN = line((" ▏", "rule"))
TIGHT = line(" ")


SHORTER = ("subject", "host", "locker", "long words", "age", "live", "separate", "whole words")
"""What gives way, in this order, when the line is too narrow for all of it."""


def top_line(glance: Glance, width: int) -> Line:
    """One line of `width` cells. What is said at length gives way first; no fact is left out."""
    for kept in range(len(SHORTER), -1, -1):
        said = frozenset(SHORTER[-kept:] if kept else ())
        left = line(" ") + join(_left(glance, said), BETWEEN if "separate" in said else TIGHT)
        right = join(_right(glance, said), BETWEEN if "separate" in said else TIGHT) + line(" ")
        if left.width + right.width + 2 <= width:
            break
    return sides(left, right, width)


def _left(glance: Glance, said: frozenset[str]) -> list[Line]:
    service = glance.state.service
    if not glance.is_ready:
        return [line((service, "strong")), _environment(glance, said), line(("reading the journal …", "accent"))]
    return [
        line((service if "live" in said else service[: 16 if "whole words" in said else 10], "strong")),
        _environment(glance, said),
        _live(glance, said),
        _health(glance, said),
    ]


def _environment(glance: Glance, said: frozenset[str]) -> Line:
    target = glance.target_name if "long words" in said else glance.target_name[: 10 if "whole words" in said else 7]
    name = glance.environment.strip()
    if not name:
        return line((target, "accent"))
    loud = name.upper() if "whole words" in said else "PROD"
    word: tuple[str, Ink] = (f" {loud} ", "production") if glance.is_production else (f" {name[:10]} ", "staging")
    return line(word, " ", (target, "accent")) if target else line(word)


def _live(glance: Glance, said: frozenset[str]) -> Line:
    live = glance.state.live
    if live is None:
        return line(("nothing live", "wait"))
    commit = line(("live " if "live" in said else "", "dim"), short(live.artifact.commit))
    if "subject" in said:
        commit += line((f" {live.subject if len(live.subject) <= 32 else live.subject[:31] + '…'}", "dim"))
    return commit + line(f" {age(glance.now - live.since)}" if "age" in said else "")


def _health(glance: Glance, said: frozenset[str]) -> Line:
    mark, word, ink = HEALTHS[glance.state.health]
    return line((f"{mark} {word if 'long words' in said else word.removeprefix('health ')}", ink))


def _right(glance: Glance, said: frozenset[str]) -> list[Line]:
    operator = glance.operator
    if "host" not in said:
        operator = operator.split("@")[0][: 10 if "whole words" in said else 5]
    parts = [_runner(glance, said), line((operator, "dim"))]
    if glance.is_read_only:
        parts.append(line(("read-only", "wait")))
    if not glance.is_ready:
        return parts
    lock = glance.state.lock
    if lock is None:
        return [*parts, line(("open", "dim"))]
    return [*parts, line((f"LOCKED by {lock.by.split('@')[0][:20]}" if "locker" in said else "LOCKED", "wait"))]


def _runner(glance: Glance, said: frozenset[str]) -> Line:
    if glance.runner == "alive":
        return line(("runner " if "whole words" in said else "run ", "dim"), ("✔", "good"))
    is_wanted = bool(glance.state.in_flight or glance.state.queued or glance.state.unanswered)
    if glance.runner == "unknown":
        return line(("runner …" if "whole words" in said else "run …", "dim"))
    if is_wanted:
        return line(("no runner", "harm"))
    return line(("runner rests" if "long words" in said else "runner –" if "whole words" in said else "run –", "dim"))


class TopLine(Pane):
    def __init__(self, palette: Palette) -> None:
        super().__init__(palette, "top")
        self._glance: Glance | None = None

    def show(self, glance: Glance) -> None:
        self._glance = glance
        self.look()

    def draw(self, width: int, height: int) -> list[Line]:
        return [top_line(self._glance, width)] if self._glance else []
