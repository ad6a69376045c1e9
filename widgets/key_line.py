"""The keys that do something now; those that do not are dim, or leave when there is no room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pithead.widgets.line import EMPTY, Line, join, line
from pithead.widgets.palette import Palette
from pithead.widgets.pane import Pane

BETWEEN = line("  ")


@dataclass(frozen=True, slots=True)
class KeyHint:
    """`is_pinned` keys stay however narrow it gets: help and leaving."""

    key: str
    word: str
    is_possible: bool
    is_pinned: bool = False


def key_line(hints: Sequence[KeyHint], width: int) -> Line:
    """As many as fit: the impossible ones leave first, the last of them before the first."""
    shown = list(hints)
    while shown:
        drawn = line(" ") + join([_hint(hint) for hint in shown], BETWEEN)
        if drawn.width <= width:
            return drawn
        shown.remove(_least(shown))
    return EMPTY


def _least(hints: Sequence[KeyHint]) -> KeyHint:
    return min(reversed(hints), key=lambda hint: (hint.is_pinned, hint.is_possible))


def _hint(hint: KeyHint) -> Line:
    if hint.is_possible:
        return line((hint.key, "key"), " ", hint.word)
    return line((f"{hint.key} {hint.word}", "faint"))


class KeyLine(Pane):
    def __init__(self, palette: Palette) -> None:
        super().__init__(palette, "keys")
        self._hints: tuple[KeyHint, ...] = ()

    def show(self, hints: Sequence[KeyHint]) -> None:
        self._hints = tuple(hints)
        self.look()

    def draw(self, width: int, height: int) -> list[Line]:
        return [key_line(self._hints, width)]
