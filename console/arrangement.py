"""Where everything stands, for every size of the terminal. Pure: widths, heights and what there is to show go in, a
rectangle per pane comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from textual.geometry import Region

SMALLEST_WIDTH, SMALLEST_HEIGHT = 60, 16
WIDE, TALL = 100, 28
LEAST_PENDING, LEAST_LOWER = 2, 3


@dataclass(frozen=True, slots=True)
class Situation:
    """`wants` is how many rows the panes `release`, `canary` and `pending` would fill, frames not counted; `canary` is 0
    when there is nothing to compare. `chosen` is the pane that has the keys, `lower` the one of log and events that was
    chosen last."""

    chosen: str = "pending"
    lower: str = "events"
    wants: Mapping[str, int] = field(default_factory=dict)
    is_in_flight: bool = False
    has_hint: bool = False
    is_typing: bool = False

    def want(self, pane: str) -> int:
        return self.wants.get(pane, 0)


def is_too_small(width: int, height: int) -> bool:
    return width < SMALLEST_WIDTH or height < SMALLEST_HEIGHT


def is_wide(width: int, height: int) -> bool:
    return width >= WIDE and height >= TALL


def inner_width(width: int, height: int) -> int:
    """Columns that the release and its canary have to draw in."""
    return width - left_width(width) - 4 if is_wide(width, height) else width - 2


def left_width(width: int) -> int:
    """Of the left of two columns."""
    return round(width * 0.475)


def arrange(width: int, height: int, situation: Situation) -> dict[str, Region]:
    """The regions by the panes' names; a pane that is not in it is not shown."""
    if is_too_small(width, height):
        return {"small": Region(0, 0, width, height)}
    why = 3 if height >= 22 and width < WIDE else 2
    foot = why + 1 + (1 if situation.has_hint else 0)
    body = Region(0, 1, width, height - 1 - foot)
    regions = {"top": Region(0, 0, width, 1), "why": Region(0, body.bottom, width, why)}
    last = body.bottom + why
    regions["filter" if situation.is_typing else "keys"] = Region(0, last, width, 1)
    if situation.has_hint:
        regions["hint"] = Region(0, last + 1, width, 1)
    place = _two_columns if is_wide(width, height) else _one_column
    return regions | place(body, situation)


def _one_column(body: Region, situation: Situation) -> dict[str, Region]:
    """The release first. Each pane has a rule above it; the one that has the keys gets the larger part of the rest."""
    release = _capped(situation.want("release"), 1, body.height // 4) + 1
    if not situation.is_in_flight:
        release = min(release, 4)
    canary = _capped(situation.want("canary"), 2, body.height // 3) + 1 if situation.want("canary") else 0
    canary = min(canary, body.height - release - LEAST_PENDING - LEAST_LOWER)
    rest = body.height - release - canary
    pending = _pending_share(rest, situation)
    y, regions = body.y, {}
    for name, rows in (
        ("release", release),
        ("canary", canary),
        ("pending", pending),
        (situation.lower, rest - pending),
    ):
        if rows > 0:
            regions[name] = Region(body.x, y, body.width, rows)
            y += rows
    return regions


def _pending_share(rest: int, situation: Situation) -> int:
    share = 0.6 if situation.chosen == "pending" else 0.35
    wanted = _capped(situation.want("pending"), 1, rest) + 1
    return min(max(LEAST_PENDING, round(rest * share)), max(wanted, 3), rest - LEAST_LOWER)


def _two_columns(body: Region, situation: Situation) -> dict[str, Region]:
    """Commits above the log on the left; the release, its canary and the events on the right. Each in a frame."""
    left = left_width(body.width)
    right = body.width - left
    share = 0.48 if situation.is_in_flight else 0.62
    pending = min(max(6, round(body.height * share)), max(8, situation.want("pending") + 2))
    regions = {
        "pending": Region(body.x, body.y, left, pending),
        "log": Region(body.x, body.y + pending, left, body.height - pending),
    }
    least_events = 7
    release = _capped(situation.want("release"), 2, body.height // 3) + 2
    spare = body.height - release - least_events
    canary = _capped(situation.want("canary"), 3, spare - 2) + 2 if situation.want("canary") else 0
    regions["release"] = Region(body.x + left, body.y, right, release)
    if canary:
        regions["canary"] = Region(body.x + left, body.y + release, right, canary)
    y = body.y + release + canary
    regions["events"] = Region(body.x + left, y, right, body.bottom - y)
    return regions


def _capped(rows: int, least: int, most: int) -> int:
    return max(least, min(rows, most))
