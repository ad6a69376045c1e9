"""Where everything stands, at every size: nothing overlaps, nothing is left over, the pinned lines are always there."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from scenes import Scene
from textual.geometry import Region

from pithead.console.arrangement import Situation, arrange, is_too_small, is_wide
from pithead.console.picture import save_picture

situations = st.builds(
    Situation,
    chosen=st.sampled_from(("pending", "log", "events")),
    lower=st.sampled_from(("log", "events")),
    wants=st.fixed_dictionaries(
        {"release": st.integers(0, 12), "canary": st.integers(0, 40), "pending": st.integers(0, 500)}
    ),
    is_in_flight=st.booleans(),
    has_hint=st.booleans(),
    is_typing=st.booleans(),
)


@given(st.integers(60, 260), st.integers(16, 90), situations)
def test_the_panes_fill_the_screen_without_a_gap_or_an_overlap(width: int, height: int, situation: Situation) -> None:
    regions = list(arrange(width, height, situation).values())
    assert sum(region.area for region in regions) == width * height
    assert all(region.area > 0 for region in regions)
    assert not any(a.overlaps(b) for i, a in enumerate(regions) for b in regions[:i])
    assert all(Region(0, 0, width, height).contains_region(region) for region in regions)


@given(st.integers(60, 260), st.integers(16, 90), situations)
def test_the_pinned_panes_are_there_at_every_size(width: int, height: int, situation: Situation) -> None:
    regions = arrange(width, height, situation)
    foot = "filter" if situation.is_typing else "keys"
    assert {"top", "release", "pending", "why", foot} <= set(regions)
    assert regions["top"] == Region(0, 0, width, 1)
    assert ("canary" in regions) == bool(situation.want("canary"))
    assert ("hint" in regions) == situation.has_hint
    assert situation.chosen in regions or situation.lower in regions
    if is_wide(width, height):
        assert {"log", "events"} <= set(regions)


def test_below_60_by_16_there_is_one_notice() -> None:
    assert is_too_small(59, 40)
    assert is_too_small(100, 15)
    assert set(arrange(59, 15, Situation())) == {"small"}


def test_the_pane_that_has_the_keys_gets_the_larger_part() -> None:
    wants = {"release": 4, "pending": 40}
    chosen = arrange(80, 24, Situation(chosen="pending", wants=wants, is_in_flight=True))
    other = arrange(80, 24, Situation(chosen="log", lower="log", wants=wants, is_in_flight=True))
    assert chosen["pending"].height > chosen["events"].height
    assert other["log"].height > other["pending"].height


def test_a_picture_is_the_real_screen_as_svg(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.in_canary()
    desk = scene.desk()
    save_picture(tmp_path / "screen.svg", desk, (120, 36))
    svg = (tmp_path / "screen.svg").read_text()
    assert svg.startswith("<svg")
    for words in ("PRODUCTION", "Gift", "undecided", "scrape"):
        assert words in svg
    assert desk.starts == 0
