"""What each pane says in each state: the facts that must be seen, at every width, whatever the names."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from happenings import new_events, placed
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import STATES, Scene

from pithead.delivery import events as e
from pithead.delivery.fold import fold
from pithead.delivery.ports import Commit
from pithead.delivery.state import Pause, ServiceState
from pithead.widgets.amounts import against, age, clock, count, measured, span, sparkline
from pithead.widgets.canary_panel import panel
from pithead.widgets.forecast import seconds_left
from pithead.widgets.glance import Glance
from pithead.widgets.key_line import KeyHint, key_line
from pithead.widgets.line import Line
from pithead.widgets.pending_list import PendingView, moved, rows
from pithead.widgets.stage_strip import heading, ladder, strip
from pithead.widgets.top_line import top_line
from pithead.widgets.why_line import why


def glance_of(tmp_path: Path, state: str) -> Glance:
    scene = Scene(tmp_path)
    getattr(scene, state)()
    folded = scene.state
    release = folded.in_flight
    samples: dict[str, tuple[object, ...]] = {}
    for row in scene.book.samples(release.number) if release else []:
        samples[row.metric] = (*samples.get(row.metric, ()), row)
    return Glance(
        folded,
        time.time(),
        "production",
        "us-east",
        "ana@bastion",
        "alive",
        samples=samples,  # type: ignore[arg-type]
    )


# ── the top line ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_the_pinned_facts_are_there_at_every_width(tmp_path: Path, state: str, width: int) -> None:
    glance = glance_of(tmp_path, state)
    drawn = top_line(glance, width)
    assert drawn.width == width
    live = glance.state.live
    for fact in ("checkout", "PRODUCTION", "us-east", "runner", "ana", "LOCKED" if state == "locked" else "open"):
        assert fact in drawn.text
    assert (live.artifact.commit[:7] if live else "nothing live") in drawn.text
    assert ("unknown" if state == "empty" else "healthy") in drawn.text


def test_names_that_are_too_long_give_way_and_the_words_stay(tmp_path: Path) -> None:
    glance = glance_of(tmp_path, "locked")
    glance = replace(
        glance,
        state=replace(glance.state, service="x" * 60),
        target_name="y" * 60,
        operator="z" * 80,
    )
    text = top_line(glance, 80).text
    assert len(text) == 80
    assert " PROD " in text
    assert "LOCKED" in text


def test_production_is_a_word_in_an_ink_of_its_own_and_staging_another(tmp_path: Path) -> None:
    glance = glance_of(tmp_path, "idle")
    assert (" PRODUCTION ", "production") in top_line(glance, 120).parts
    assert (" staging ", "staging") in top_line(replace(glance, environment="staging"), 120).parts


def test_before_the_journal_is_read_nothing_is_claimed(tmp_path: Path) -> None:
    text = top_line(replace(glance_of(tmp_path, "locked"), reading=0.4), 120).text
    assert "reading the journal" in text
    for claim in ("open", "LOCKED", "healthy", "nothing live"):
        assert claim not in text


# ── the release ──────────────────────────────────────────────────────────────────────────────────────────────────


def text_of(lines: list[Line]) -> str:
    return "\n".join(item.text for item in lines)


def test_a_stage_shows_its_state_time_and_usual_time(tmp_path: Path) -> None:
    text = text_of(strip(glance_of(tmp_path, "building"), 100, 9))
    assert "✔ build 40s" in text
    assert "▶ unit 0:3" in text
    assert "of ~1:12" in text
    assert "○ functional ~38s" in text


def test_errored_and_failed_have_their_own_marks_and_words(tmp_path: Path) -> None:
    text = text_of(strip(glance_of(tmp_path, "errored"), 100, 9))
    assert "! unit errored" in text
    assert "paused by runner, for a tool broke" in text


def test_the_ladder_shows_how_far_up_it_is(tmp_path: Path) -> None:
    glance = glance_of(tmp_path, "in_canary")
    release = glance.state.in_flight
    assert release is not None
    text = ladder(release, glance.now, 70).text
    assert text.startswith("1 % ✔")
    assert "25 % ▶" in text
    assert text.endswith("100 % ○")
    assert "holding 2:1" in text_of(strip(glance, 70, 9))


def test_a_second_attempt_is_counted(tmp_path: Path) -> None:
    glance = glance_of(tmp_path, "building")
    release = glance.state.in_flight
    assert release is not None
    again = replace(release, stages=tuple(replace(s, attempt=2) if s.name == "unit" else s for s in release.stages))
    assert "unit ×2" in text_of(strip(replace(glance, state=replace(glance.state, in_flight=again)), 100, 9))


def test_the_end_is_expected_only_while_nobody_is_waited_for(tmp_path: Path) -> None:
    glance = glance_of(tmp_path, "in_canary")
    release = glance.state.in_flight
    assert release is not None
    assert seconds_left(release, glance.now) == pytest.approx(170 + 300 + 300, abs=15)
    waiting = replace(release, paused=Pause("operator", "", "bo", glance.now, 1))
    assert seconds_left(waiting, glance.now) is None


def test_when_idle_the_last_releases_stand_there_with_their_ends(tmp_path: Path) -> None:
    glance = glance_of(tmp_path, "failed")
    text = text_of(strip(glance, 80, 5))
    assert "✘ 142" in text
    assert "failed" in text
    assert "◀ 140" in text
    assert "rolled back" in text
    assert "promoted live" in text
    assert "Nothing in flight" in heading(glance)[0].text


# ── the canary ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_both_values_the_verdict_and_its_sentence_are_shown(tmp_path: Path) -> None:
    text = text_of(panel(glance_of(tmp_path, "in_canary"), 80, 12))
    assert "0.32 %" in text
    assert "0.29 %" in text
    assert "×1.0" in text
    assert "undecided" in text
    assert "of at least 2,500 canary requests" in text
    assert "215 ms" in text
    assert "✔ p99" in text
    assert "canary 2 of 2 ready · baseline 8 of 8 ready" in text


def test_a_failing_metric_and_its_sentence_outlast_everything_else(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.in_canary(is_bad=True)
    glance = Glance(scene.state, time.time())
    text = text_of(panel(glance, 76, 6))
    assert "✘ errors" in text
    assert "3.10 % errors in 9,120 canary requests" in text
    assert "3 restarts · readiness probe: connection refused" in text_of(panel(glance, 90, 20))


@given(st.lists(new_events, max_size=30), st.integers(30, 150), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_no_journal_whatsoever_can_break_a_pane(news: list[e.Event], width: int, height: int) -> None:
    state = fold(placed(news), ServiceState("shop"))  # type: ignore[arg-type]
    glance = Glance(state, 2_000.0, "production", "here", "ana", "none")
    assert top_line(glance, width).width <= max(width, 60)
    for lines in (strip(glance, width, height), panel(glance, width, height)):
        assert len(lines) <= height
        assert all(item.width <= width for item in lines)
    assert why(glance).text
    assert heading(glance)[0].text


# ── the pending commits ──────────────────────────────────────────────────────────────────────────────────────────

COMMITS = tuple(
    Commit(f"{n:x}" * 40, (), f"author {n}", 1_000.0, f"Subject {n}", added=n, deleted=n) for n in range(10, 16)
)


def test_marks_say_what_is_in_flight_next_held_and_chosen() -> None:
    shas = [c.sha for c in COMMITS]
    view = PendingView(
        COMMITS, 6, in_flight=frozenset(shas[4:]), release=9, in_flight_head=shas[4], next_up=shas[0],
        held={shas[2]: "held: needs aaaaaaa"}, included=frozenset(shas[1:]), chosen=shas[1], is_known=True,
    )  # fmt: skip
    drawn = rows(view, 90, 10, 4_600.0)
    assert "▸ aaaaaaa next Subject 10" in drawn[0].text
    assert drawn[1].text.startswith("›")
    assert drawn[1].is_selected
    assert "held: needs aaaaaaa" in drawn[2].text
    assert "● eeeeeee in 9" in drawn[4].text
    assert drawn[0].parts[-1][1] == "faint"
    assert all(item.width == 90 for item in drawn)


def test_the_chosen_commit_stays_in_view_and_the_rest_is_counted() -> None:
    view = PendingView(COMMITS, 240, chosen=COMMITS[5].sha, is_known=True)
    text = text_of(rows(view, 80, 4, 2_000.0))
    assert "Subject 15" in text
    assert "234 older ones are not listed" in text


def test_the_choice_moves_by_rows_but_is_kept_by_sha() -> None:
    assert moved(COMMITS, COMMITS[1].sha, 1) == COMMITS[2].sha
    assert moved(COMMITS, COMMITS[5].sha, 1) == COMMITS[5].sha
    assert moved(COMMITS, "gone", 1) == COMMITS[0].sha
    assert moved((), None, 1) is None


def test_nothing_known_and_nothing_pending_are_told_apart() -> None:
    assert "not been read" in rows(PendingView(), 80, 5, 0.0)[0].text
    assert "is live" in rows(PendingView(is_known=True), 80, 5, 0.0)[0].text


# ── why, and the keys ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("idle", "s releases up to the chosen commit"),
        ("building", "waits for unit (usually 1:12)"),
        ("in_canary", "p promotes now, a aborts"),
        ("undecided", "waits for a decision"),
        ("errored", "t retries, a aborts"),
        ("failed", "release 142 failed: unit: exit status 1"),
        ("locked", "locked by bo@bastion 2h ago: no releases over the holiday, call ana · l unlocks"),
    ],
)
def test_it_says_why_it_waits_and_who_can_end_the_wait(tmp_path: Path, state: str, words: str) -> None:
    assert words in why(glance_of(tmp_path, state)).text


def test_trouble_with_the_journal_outranks_everything() -> None:
    glance = Glance(ServiceState("shop"), 0.0, trouble="journal.db: the disk is full. Free some space.")
    assert "Free some space" in why(glance).text


def test_a_command_without_an_answer_is_not_forgotten(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.in_canary()
    scene.until(12)
    scene.ask(e.PromoteRequested(1), 142)
    assert "promote by ana is not answered yet" in why(Glance(scene.state, time.time())).text


def test_impossible_keys_leave_first_and_help_stays() -> None:
    hints = [KeyHint("s", "start", True), KeyHint("p", "promote", False), KeyHint("?", "help", True, True)]
    assert key_line(hints, 80).text == " s start  p promote  ? help"
    assert key_line(hints, 20).text == " s start  ? help"
    assert key_line(hints, 8).text == " ? help"


def test_a_dim_key_differs_by_more_than_its_place() -> None:
    possible, impossible = key_line([KeyHint("p", "go", True)], 20), key_line([KeyHint("p", "go", False)], 20)
    assert {ink for _, ink in possible.parts} != {ink for _, ink in impossible.parts}


# ── amounts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_amounts_are_short_and_coarse() -> None:
    assert [age(s) for s in (0, 59, 60, 3_599, 3_600, 47 * 3_600, 48 * 3_600, 30 * 86_400)] == [
        "now", "now", "1m", "59m", "1h", "47h", "2d", "4w",
    ]  # fmt: skip
    assert (clock(9), clock(760), clock(3_730)) == ("0:09", "12:40", "1:02:10")
    assert (span(0.42), span(41), span(72), span(7_500)) == ("0.4s", "41s", "1m12s", "2h05m")
    assert (count(843), count(1_204), count(12_400), count(3_400_000)) == ("843", "1.2k", "12k", "3.4M")
    assert (measured(0.0031, "ratio"), measured(0.212, "seconds"), measured(None, "ratio")) == ("0.31 %", "212 ms", "–")
    assert (against(0.0031, 0.0029), against(1, 0), against(None, 1), against(0, 0)) == ("×1.07", "from 0", "–", "=")
    assert sparkline([0.0, None, 1.0], 3, 1.0) == "▁ █"


def test_a_held_commit_that_goes_with_its_revert_is_not_called_held() -> None:
    shas = [c.sha for c in COMMITS]
    view = PendingView(
        COMMITS, 6, in_flight=frozenset(shas), release=9, held={shas[2]: "held: needs aaaaaaa"}, is_known=True
    )
    assert "held" not in text_of(rows(view, 90, 10, 4_600.0))
