"""What comes from outside does nothing to a screen, and hides nothing from who reads it."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pithead.delivery.plain_text import cut, plain, plain_line

VISIBLE_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
"""Signs that Unicode calls format characters though they are drawn, such as the Arabic number sign."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ordinary", "ordinary"),
        ("", ""),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("dos\r\nlines\r\n", "dos\nlines\n"),
        ("progress 1%\rprogress 2%", "progress 1%␍progress 2%"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[38;2;1;2;3mrgb\x1b[1;2H\x1b[?25l\x1b[2J", "rgb"),
        ("\x9b31mC1 red", "C1 red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;ZXZpbA==\x07clipboard", "clipboard"),
        ("\x1bPq#0;2;0;0;0\x1b\\sixel", "sixel"),
        ("\x1b(Bcharset\x1b7\x1b8\x1bc", "charset"),
        ("\x1b\x1b[m[31m nested", "␛[31m nested"),
        ("cut off \x1b[31", "cut off ␛[31"),
        ("cut off \x1b", "cut off ␛"),
        ("\x1b]0;no end\nnext line", "␛]0;no end\nnext line"),
        ("bell\x07 null\x00 delete\x7f", "bell␇ null␀ delete␡"),
        ("\u202egnp.exe\u202c", "\ufffdgnp.exe\ufffd"),
        ("a\u200bb\u2066c\u2069\ufeff", "a\ufffdb\ufffdc\ufffd\ufffd"),
        ("\udcff", "\ufffd"),
        ("[bold]markup[/] is text", "[bold]markup[/] is text"),
        ("grüße 世界 🚀 \xa0", "grüße 世界 🚀 \xa0"),
    ],
)
def test_each_kind_of_character_becomes_harmless(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_no_control_or_format_character_of_unicode_gets_through() -> None:
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    odd = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in hidden]
    through = {character for character in odd if plain(character) == character}
    assert through - VISIBLE_FORMATS == {"\n", "\t"}


@given(st.text(st.sampled_from("\x1b[]()0;m\x07\\PX\x9b\x9d\r\nab\u202e \x00"), max_size=60) | st.text())
def test_nothing_odd_is_left_and_a_second_time_changes_nothing(text: str) -> None:
    once = plain(text)
    assert plain(once) == once
    assert not any(unicodedata.category(character) == "Cc" for character in once if character not in "\n\t")


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=200))
def test_text_that_one_can_see_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


@given(st.text(), st.integers(1, 50))
def test_a_line_is_one_line_within_its_limit(text: str, limit: int) -> None:
    found = plain_line(text, limit)
    assert len(found) <= limit
    assert "\n" not in found
    assert "\t" not in found


def test_a_cut_is_marked() -> None:
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"


@pytest.mark.parametrize("hostile", ["\x1b]", "\x1b[1", "\r", "\x1b", "\x1b[" + "1" * 50, "\x1b]" + "x" * 50, "\x9b;"])
def test_no_text_makes_it_slow(hostile: str) -> None:
    text = hostile * (1_000_000 // len(hostile))
    started = time.perf_counter()
    plain(text)
    assert time.perf_counter() - started < 10
