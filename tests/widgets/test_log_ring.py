"""The log's window: follows, stands still while one reads, forgets the oldest, finds what is looked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pithead.widgets.log_pane import heading, marked
from pithead.widgets.log_ring import KEPT_LINES, KEPT_WIDTH, LogRing


def ring(count: int, first: int = 0) -> LogRing:
    made = LogRing()
    made.clear(first)
    made.extend(f"line {n}" for n in range(first, first + count))
    return made


def shown(of: LogRing, height: int = 5) -> list[str]:
    return [text for _, text in of.window(height)]


def test_the_end_is_followed() -> None:
    of = ring(100)
    of.extend(["one more"])
    assert shown(of)[-1] == "one more"


def test_the_end_is_followed_once_the_ring_is_full() -> None:
    of = ring(KEPT_LINES + 1_234)
    assert len(of) == KEPT_LINES
    assert shown(of)[-1] == f"line {KEPT_LINES + 1_233}"
    assert of.first == 1_234


def test_scrolling_up_holds_the_window_still_and_counts_what_is_new() -> None:
    of = ring(100)
    of.scroll(-10, 5)
    before = shown(of)
    of.extend(f"new {n}" for n in range(312))
    assert shown(of) == before
    assert "paused, 312 new" in heading("build", of)[1].text


def test_a_held_window_moves_on_only_when_its_lines_are_forgotten() -> None:
    of = ring(100)
    of.to_start()
    of.extend(f"new {n}" for n in range(KEPT_LINES))
    assert shown(of)[0] == "new 0"


def test_scrolling_down_to_the_end_follows_again() -> None:
    of = ring(100)
    of.scroll(-3, 5)
    of.scroll(3, 5)
    assert of.is_following


def test_a_filter_leaves_only_what_matches_and_goes_on_with_new_lines() -> None:
    of = ring(100)
    of.search("LINE 1")
    assert all("line 1" in text for text in shown(of))
    of.extend(["line 1xx", "other"])
    assert shown(of)[-1] == "line 1xx"
    of.search("")
    assert shown(of)[-1] == "other"


def test_stepping_goes_from_match_to_match_among_all_lines() -> None:
    of = ring(1_000)
    of.search("line 50")
    assert of.found == 11
    assert of.step(-1, 10)
    assert "line 509" in shown(of, 10)
    assert "line 510" in shown(of, 10)
    assert of.step(-1, 10)
    assert "line 508" in shown(of, 10)


def test_no_match_steps_nowhere() -> None:
    of = ring(10)
    of.search("nowhere")
    assert not of.step(1, 5)
    assert shown(of) == []


def test_a_long_line_is_cut_with_a_mark() -> None:
    of = LogRing()
    of.extend(["x" * 10_000_000])
    assert len(of.line(0)) < KEPT_WIDTH + 60
    assert "9,998,000 more characters" in of.line(0)


@given(
    st.integers(0, 50),
    st.lists(
        st.tuples(st.sampled_from(("scroll", "add", "follow", "start", "find")), st.integers(-60, 60)), max_size=20
    ),
    st.integers(1, 12),
)
def test_the_window_never_shows_more_than_its_height_nor_a_hole(
    count: int, acts: list[tuple[str, int]], height: int
) -> None:
    of = ring(count)
    for act, number in acts:
        match act:
            case "scroll":
                of.scroll(number, height)
            case "add":
                of.extend(f"line {n}" for n in range(of.end, of.end + abs(number)))
            case "follow":
                of.follow()
            case "start":
                of.to_start()
            case "find":
                of.search(str(number))
        window = of.window(height)
        assert len(window) == min(height, len(of.numbers))
        assert [number for number, _ in window] == sorted(number for number, _ in window)
        assert all(text == f"line {number}" for number, text in window)


def test_what_was_searched_for_is_marked_and_nothing_else_changes() -> None:
    drawn = marked("an Error, an error", "error", 80)
    assert [text for text, ink in drawn.parts if ink == "found"] == ["Error", "error"]
    assert drawn.text == "an Error, an error"


def test_an_escape_sequence_of_a_log_line_is_gone() -> None:
    assert marked("\x1b[31mred\x1b[0m [blink]no[/blink]", "", 80).text == "red [blink]no[/blink]"
