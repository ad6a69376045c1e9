"""The palette as a Textual theme, for the few things that Textual draws: input fields and the command palette."""

from __future__ import annotations

from textual.theme import Theme

from pithead.widgets.palette import GROUND, PANEL, TEXT, Palette


def theme_of(palette: Palette) -> Theme:
    return Theme(
        name=palette.theme,
        primary="#74b9ff",
        secondary="#5ad4d4",
        accent="#74b9ff",
        warning="#f0b64c",
        error="#ff7070",
        success="#62d196",
        foreground=TEXT,
        background=GROUND,
        surface=PANEL,
        panel=PANEL,
        dark=True,
    )
