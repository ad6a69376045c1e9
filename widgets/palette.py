"""What each ink looks like: in full colour, in the terminal's own sixteen, and without any. State never depends on it,
since every state has a word or a mark too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.style import Style

from pithead.widgets.line import Ink


@dataclass(frozen=True)
class Palette:
    """`selected` is laid under the chosen row. `theme` names the Textual theme that goes with it."""

    theme: str
    inks: Mapping[Ink, Style]
    selected: Style
    ground: Style


def _style(color: str | None = None, ground: str | None = None, bold: bool | None = None) -> Style:
    return Style(color=color, bgcolor=ground, bold=bold)


GROUND = "#11161c"
PANEL = "#18202a"
TEXT = "#cdd6df"

FULL = Palette(
    "pithead",
    {
        "plain": _style(TEXT),
        "dim": _style("#8493a3"),
        "faint": _style("#5a6877"),
        "strong": _style("#f4f7fa", bold=True),
        "good": _style("#62d196"),
        "wait": _style("#f0b64c"),
        "harm": _style("#ff7070", bold=True),
        "broken": _style("#d795ff", bold=True),
        "accent": _style("#74b9ff"),
        "key": _style("#9fd0ff", bold=True),
        "rule": _style("#3a4857"),
        "focus": _style("#74b9ff", bold=True),
        "canary": _style("#5ad4d4"),
        "baseline": _style("#9aa8b8"),
        "production": _style("#ffffff", "#b3261e", bold=True),
        "staging": _style("#0f141a", "#7fb2e5", bold=True),
        "found": _style("#11161c", "#f0b64c"),
    },
    selected=Style(bgcolor="#26384c"),
    ground=_style(TEXT, GROUND),
)

ANSI = Palette(
    "ansi-dark",
    {
        "plain": Style(),
        "dim": Style(),
        "faint": Style(dim=True),
        "strong": Style(bold=True),
        "good": _style("green"),
        "wait": _style("yellow"),
        "harm": _style("red", bold=True),
        "broken": _style("magenta", bold=True),
        "accent": _style("cyan"),
        "key": _style("cyan", bold=True),
        "rule": Style(dim=True),
        "focus": Style(bold=True),
        "canary": _style("cyan"),
        "baseline": Style(),
        "production": _style("bright_white", "red", bold=True),
        "staging": Style(reverse=True),
        "found": Style(reverse=True),
    },
    selected=Style(reverse=True),
    ground=Style(),
)

MONO = Palette(
    "ansi-dark",
    {
        "plain": Style(),
        "dim": Style(),
        "faint": Style(dim=True),
        "strong": Style(bold=True),
        "good": Style(),
        "wait": Style(bold=True),
        "harm": Style(bold=True, underline=True),
        "broken": Style(bold=True, underline=True),
        "accent": Style(),
        "key": Style(bold=True),
        "rule": Style(dim=True),
        "focus": Style(bold=True),
        "canary": Style(bold=True),
        "baseline": Style(),
        "production": Style(bold=True, reverse=True),
        "staging": Style(reverse=True),
        "found": Style(reverse=True),
    },
    selected=Style(reverse=True),
    ground=Style(),
)


def choose(environment: Mapping[str, str]) -> Palette:
    """The palette for a terminal that says this of itself: NO_COLOR outranks all, 16 colours get the terminal's own."""
    if environment.get("NO_COLOR"):
        return MONO
    term = environment.get("TERM", "")
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit") or "256color" in term or "direct" in term:
        return FULL
    if term in ("", "dumb", "vt100", "vt102", "vt220"):
        return MONO
    return ANSI if term in ("linux", "screen", "xterm", "rxvt", "tmux", "ansi", "cygwin") else FULL
