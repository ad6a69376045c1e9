"""What the widgets have in common: a pane is a window of drawn lines, of which only those are repainted that changed.

A pane draws itself from values alone (`draw`), when it is told to look again (`look`). Neither a timer nor a layout
hides behind it: an unchanged drawing writes no byte to the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from pithead.widgets.line import EMPTY, Ink, Line, line
from pithead.widgets.palette import Palette

FRAMES: frozenset[Ink] = frozenset({"rule", "focus"})
"""Inks of the frame around a chosen row: it is not chosen itself."""


def strip_of(drawn: Line, palette: Palette, width: int) -> Strip:
    segments = [Segment(text, _style(palette, ink, drawn.is_selected)) for text, ink in drawn.fit(width).parts]
    return Strip(segments, width).simplify()  # fewer segments, fewer bytes to the terminal


def _style(palette: Palette, ink: Ink, is_selected: bool) -> Style:
    style = palette.inks[ink]
    if not is_selected or ink in FRAMES:
        return palette.ground + style
    if palette.selected.reverse and style.bgcolor is None:
        return palette.ground + palette.selected + Style(bold=style.bold)  # else grounds of every colour
    return palette.ground + palette.selected + style


def boxed(
    lines: Sequence[Line], width: int, height: int, title: Line, note: Line = EMPTY, is_focused: bool = False
) -> list[Line]:
    """The lines in a frame; a heavy one when the keys go there."""
    corner = "┏┓┗┛━┃" if is_focused else "╭╮╰╯─│"
    ink: Ink = "focus" if is_focused else "rule"
    inner = width - 2
    side = line((corner[5], ink))
    body = [(side + item.fit(inner) + side).selected(item.is_selected) for item in lines[: height - 2]]
    body += [side + EMPTY.fit(inner) + side] * (height - 2 - len(body))
    top = line((corner[0], ink)) + _rule(title, note, inner, corner[4], is_focused) + line((corner[1], ink))
    bottom = line((corner[2] + corner[4] * inner + corner[3], ink))
    return [top, *body, bottom][:height]


def ruled(
    lines: Sequence[Line], width: int, height: int, title: Line, note: Line = EMPTY, is_focused: bool = False
) -> list[Line]:
    """The lines under a rule with the title in it, for where a frame would cost too much."""
    dash = "━" if is_focused else "─"
    return [_rule(title, note, width, dash, is_focused), *lines][:height]


def _rule(title: Line, note: Line, width: int, dash: str, is_focused: bool) -> Line:
    ink: Ink = "focus" if is_focused else "rule"
    left = line((dash, ink), " ") + title.cut(max(0, width - 4)) + line(" ")
    right = line(" ") + note + line(" ", (dash, ink)) if note else EMPTY
    if left.width + right.width > width:
        right = EMPTY
    return (left + line((dash * max(0, width - left.width - right.width), ink)) + right).cut(width)


class Pane(Widget):
    """A rectangle of lines. `is_boxed` frames it; `is_chosen` says that the keys go there."""

    DEFAULT_CSS = "Pane { height: auto; }"
    ALLOW_SELECT = False

    def __init__(self, palette: Palette, name: str) -> None:
        super().__init__(id=name)
        self.palette = palette
        self.is_boxed = False
        self.is_chosen = False
        self._lines: list[Line] = []

    # ── what a pane says of itself ───────────────────────────────────────────────────────────────────────────────

    def heading(self) -> tuple[Line, Line]:
        """The title of the frame, and a note on its right side."""
        return EMPTY, EMPTY

    def draw(self, width: int, height: int) -> list[Line]:
        raise NotImplementedError

    # ── painting ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def room(self) -> tuple[int, int]:
        """Columns and rows inside of the frame."""
        title, _ = self.heading()
        if not title:
            return self.size.width, self.size.height
        if self.is_boxed:
            return max(0, self.size.width - 4), max(0, self.size.height - 2)
        return max(0, self.size.width - 2), max(0, self.size.height - 1)

    def framed(self) -> list[Line]:
        title, note = self.heading()
        width, height = self.size.width, self.size.height
        drawn = self.draw(*self.room)
        if not title:
            return drawn
        drawn = [Line((*line(" ").parts, *item.parts), item.is_selected) for item in drawn]
        frame = boxed if self.is_boxed else ruled
        return frame(drawn, width, height, title, note, self.is_chosen)

    def look(self) -> None:
        """Draws again, and repaints the lines that came out otherwise."""
        if self.size.width <= 0 or self.size.height <= 0:
            return
        lines = self.framed()
        before, self._lines = self._lines, lines
        rows = range(self.size.height)
        changed = [y for y in rows if _at(before, y) != _at(lines, y)]
        if changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def render_line(self, y: int) -> Strip:
        return strip_of(_at(self._lines, y), self.palette, self.size.width)

    def on_resize(self, _event: events.Resize) -> None:
        self._lines = []
        self.look()
        self.refresh()


def _at(lines: Sequence[Line], y: int) -> Line:
    return lines[y] if y < len(lines) else EMPTY
