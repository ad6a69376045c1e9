"""The log of the stage that runs: follows, stands still when one reads, filters and searches. What a program printed is
text here: neither markup nor an escape sequence in it does anything."""

from __future__ import annotations

from pithead.widgets.line import EMPTY, Line, line, one_line
from pithead.widgets.log_ring import LogRing
from pithead.widgets.palette import Palette
from pithead.widgets.pane import Pane


def marked(text: str, needle: str, width: int) -> Line:
    """The text with each place that was searched for laid out; cut at the right edge with a mark."""
    text = one_line(text)
    if not needle:
        return line(text).cut(width)
    drawn, low, at = EMPTY, text.lower(), 0
    low_needle = needle.lower()
    while (hit := low.find(low_needle, at)) >= 0 and hit < width * 2:
        drawn += line(text[at:hit], (text[hit : hit + len(needle)], "found"))
        at = hit + len(needle)
    return (drawn + line(text[at:])).cut(width)


def heading(stage: str, ring: LogRing) -> tuple[Line, Line]:
    title = line(("Log", "strong"), (f" · {stage}" if stage else "", "dim"))
    if ring.is_following:
        note = line(("following", "dim")) if stage else EMPTY
    else:
        note = line((f"paused, {ring.new:,} new", "wait"), (" · End follows", "dim"))
    if ring.needle:
        how = "only" if ring.is_filtered else "n/N"
        note = line((f"/{ring.needle}", "found"), (f" {ring.found:,} {how} ", "dim")) + note
    return title, note


class LogPane(Pane):
    """`stage` says whose log it is, in words."""

    def __init__(self, palette: Palette) -> None:
        super().__init__(palette, "log")
        self.ring = LogRing()
        self.stage = ""

    def begin(self, stage: str, first: int) -> None:
        """Another stage's log takes the place; its first line here has the number `first`."""
        self.stage = stage
        needle = self.ring.needle
        self.ring.clear(first)
        self.ring.needle = needle

    @property
    def page(self) -> int:
        return max(1, self.room[1] - 1)

    def scroll(self, by: int) -> None:
        self.ring.scroll(by, max(1, self.room[1]))
        self.look()

    def heading(self) -> tuple[Line, Line]:
        return heading(self.stage, self.ring)

    def draw(self, width: int, height: int) -> list[Line]:
        shown = self.ring.window(height)
        if not shown:
            words = "no line matches" if self.ring.is_filtered else "nothing printed yet" if self.stage else ""
            return [line((words, "dim"))]
        return [marked(text, self.ring.needle, width) for _, text in shown]
