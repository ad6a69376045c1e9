"""A line of a screen as words with an ink each: what every widget here draws, and what its tests look at.

There is no markup in it, so nothing that came from outside can be taken for any: a character that a terminal would
obey, or that nobody could see, is replaced the moment it is put into a line.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, set_cell_size

from pithead.delivery.plain_text import plain

Ink = Literal[
    "plain",
    "dim",
    "faint",
    "strong",
    "good",
    "wait",
    "harm",
    "broken",
    "accent",
    "key",
    "rule",
    "focus",
    "canary",
    "baseline",
    "production",
    "staging",
    "found",
]
"""What a word means, never what it looks like: a palette says that. `good` is for what is proven, `wait` for what waits
on somebody, `harm` for what said no or hurts, `broken` for a tool that broke."""

LONGEST = 4_000
"""Characters of one part that are looked at at all: no screen is wider, and a line of 10 MB must cost nothing."""

Part = tuple[str, Ink]


def one_line(text: str) -> str:
    """The text with nothing in it that a terminal would obey, and no line ends."""
    text = text[:LONGEST]
    return text if text.isprintable() else plain(text).replace("\n", " ").replace("\t", "    ")


@dataclass(frozen=True, slots=True)
class Line:
    parts: tuple[Part, ...] = ()
    is_selected: bool = False

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.parts)

    @property
    def width(self) -> int:
        """In cells of the terminal: an ideograph has two, a combining accent none."""
        return sum(cell_len(text) for text, _ in self.parts)

    def __add__(self, other: Line) -> Line:
        return Line(self.parts + other.parts, self.is_selected)

    def __bool__(self) -> bool:
        return any(text for text, _ in self.parts)

    def selected(self, is_selected: bool = True) -> Line:
        return Line(self.parts, is_selected)

    def cut(self, width: int) -> Line:
        """The line in at most `width` cells; a cut ends in an ellipsis."""
        if self.width <= width:
            return self
        if width <= 0:
            return Line((), self.is_selected)
        kept: list[Part] = []
        left = width - 1
        for text, ink in self.parts:
            cells = cell_len(text)
            if cells > left:
                kept.append((set_cell_size(text, left).rstrip() + "…", ink))
                break
            kept.append((text, ink))
            left -= cells
        return Line(tuple(kept), self.is_selected)

    def fit(self, width: int) -> Line:
        """The line in exactly `width` cells."""
        line = self.cut(width)
        missing = width - line.width
        return Line((*line.parts, (" " * missing, "plain")), self.is_selected) if missing > 0 else line

    def repainted(self, ink: Ink) -> Line:
        return Line(tuple((text, ink) for text, _ in self.parts), self.is_selected)


def line(*parts: str | Part | Line) -> Line:
    """A line of parts: bare words are plain ink. Whatever they hold is made safe to show."""
    made: list[Part] = []
    for part in parts:
        if isinstance(part, Line):
            made.extend(part.parts)
        elif isinstance(part, str):
            made.append((one_line(part), "plain"))
        else:
            made.append((one_line(part[0]), part[1]))
    return Line(tuple(part for part in made if part[0]))


EMPTY = Line()


def join(lines: Iterable[Line], between: Line) -> Line:
    """The lines that are not empty, with `between` between them."""
    joined = EMPTY
    for item in lines:
        if item:
            joined = joined + between + item if joined else item
    return joined


def sides(left: Line, right: Line, width: int) -> Line:
    """Left and right on one line; the left gives way when both do not fit."""
    room = width - right.width - (1 if right else 0)
    if room < min(left.width, 8):
        return left.fit(width)
    return left.fit(width - right.width) + right


def cell(text: str, width: int, ink: Ink = "plain", is_right: bool = False) -> Line:
    """A column of a table: exactly `width` cells."""
    made = line((text, ink)).cut(width)
    gap = Line(((" " * (width - made.width), "plain"),)) if made.width < width else EMPTY
    return gap + made if is_right else made + gap


def wrap(text: str, width: int, ink: Ink = "plain", limit: int = 3) -> list[Line]:
    """The text in at most `limit` lines of `width` cells, broken between words where it can be."""
    rest = " ".join(one_line(text).split())
    lines: list[Line] = []
    while rest and width > 0:
        if cell_len(rest) <= width or len(lines) == limit - 1:
            lines.append(line((rest, ink)).cut(width))
            break
        head = set_cell_size(rest, width)
        at = head.rfind(" ") if rest[len(head) : len(head) + 1] != " " else len(head)
        at = at if at > width // 3 else len(head)
        lines.append(line((rest[:at].rstrip(), ink)))
        rest = rest[at:].lstrip()
    return lines


def wrap_line(drawn: Line, width: int, limit: int) -> list[Line]:
    """The line in at most `limit` lines of `width` cells, broken between words; the last one is cut."""
    lines: list[Line] = []
    present: list[Part] = []
    used = 0
    for word, ink in _words(drawn):
        cells = cell_len(word)
        if used and used + cell_len(word.rstrip()) > width and len(lines) < limit - 1:
            lines.append(Line(tuple(present)))
            present, used = [], 0
        if not used and lines:
            word = word.lstrip()
            cells = cell_len(word)
        present.append((word, ink))
        used += cells
    return [*lines, Line(tuple(present)).cut(width)]


def _words(drawn: Line) -> Iterable[Part]:
    """The parts broken after their blanks."""
    for text, ink in drawn.parts:
        at = 0
        while at < len(text):
            end = text.find(" ", at)
            end = len(text) if end < 0 else end + 1
            yield text[at:end], ink
            at = end
