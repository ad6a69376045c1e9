"""Lines: whatever comes in, what goes to the terminal has the width it should and nothing that acts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from pithead.widgets.line import EMPTY, line, one_line, sides, wrap, wrap_line
from pithead.widgets.palette import ANSI, FULL, MONO, choose
from pithead.widgets.pane import strip_of

HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x9b2J [red]markup[/red] ‮reversed‬ \r\n\ttab \u200bzero"


def test_escape_sequences_and_bidi_leave_nothing_that_a_terminal_obeys() -> None:
    shown = one_line(HOSTILE)
    assert shown.isprintable()
    assert "[red]markup[/red]" in shown


@given(st.text(max_size=60), st.integers(0, 40))
def test_a_fitted_line_has_exactly_its_width(text: str, width: int) -> None:
    assert line((text, "harm"), "tail").fit(width).width == width


@given(st.text(max_size=80), st.text(max_size=20), st.integers(1, 60))
def test_two_sides_fill_the_width_or_the_left_gives_way(left: str, right: str, width: int) -> None:
    assert sides(line(left), line(right), width).width <= max(width, line(right).width)


@given(st.text(max_size=200), st.integers(1, 30), st.integers(1, 4))
def test_wrapped_lines_are_no_wider_and_no_more_than_asked_for(text: str, width: int, limit: int) -> None:
    lines = wrap(text, width, "plain", limit)
    assert len(lines) <= limit
    assert all(item.width <= max(width, 2) for item in lines)


def test_wrapping_keeps_the_inks() -> None:
    first, second = wrap_line(line(("one two ", "dim"), ("three", "key"), " four"), 9, 2)
    assert first.parts == (("one ", "dim"), ("two ", "dim"))
    assert second.parts[0] == ("three", "key")


def test_a_line_of_10_megabytes_costs_what_a_screen_shows() -> None:
    assert cell_len(line("x" * 10_000_000).text) <= 4_000


def test_wide_characters_are_cut_at_cells() -> None:
    assert line("日本語").cut(4).text == "日…"
    assert line("日本語").cut(4).width <= 4


def test_without_colour_no_ink_has_one() -> None:
    for ink, style in MONO.inks.items():
        assert style.color is None, ink
        assert style.bgcolor is None, ink


def test_the_chosen_row_differs_from_the_others_in_every_palette() -> None:
    row = line("› chosen")
    for palette in (FULL, ANSI, MONO):
        assert strip_of(row, palette, 10) != strip_of(row.selected(), palette, 10)


def test_the_terminal_chooses_the_palette() -> None:
    assert choose({"NO_COLOR": "1", "COLORTERM": "truecolor"}) is MONO
    assert choose({"TERM": "xterm-256color"}) is FULL
    assert choose({"TERM": "linux"}) is ANSI
    assert choose({"TERM": "dumb"}) is MONO


def test_an_empty_line_is_nothing() -> None:
    assert not EMPTY
    assert not line("")
