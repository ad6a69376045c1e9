"""Two lines that are not always there: what somebody else has to say, and that there is no room to say anything."""

from __future__ import annotations

from pithead.widgets.line import Line, line
from pithead.widgets.palette import Palette
from pithead.widgets.pane import Pane


class HintLine(Pane):
    """A line that somebody else fills: the demo's tour."""

    def __init__(self, palette: Palette) -> None:
        super().__init__(palette, "hint")
        self._words = ""

    def show(self, words: str) -> None:
        self._words = words
        self.look()

    def draw(self, width: int, height: int) -> list[Line]:
        return [line((" ▸ ", "canary"), (self._words, "canary")).cut(width)]


class SmallNotice(Pane):
    def __init__(self, palette: Palette) -> None:
        super().__init__(palette, "small")

    def draw(self, width: int, height: int) -> list[Line]:
        return [line(("too small: 60×16 at least. ", "wait"), "Only ", ("q", "key"), " works.").cut(width)]
