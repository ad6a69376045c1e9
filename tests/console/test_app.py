"""The keys on the real app and a real journal, with a runner that answers where the test lets it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from at_the_keys import console
from scenes import SUBJECTS, StillDesk, sha
from textual import events
from textual._time import get_time
from textual.command import CommandPalette

from pithead.console.details import CommitScreen, EventScreen, HelpScreen
from pithead.console.dialogs import Dialog
from pithead.console.home import HomeScreen
from pithead.console.parting import parting_words
from pithead.delivery import events as e
from pithead.delivery.events import Event

# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_s_starts_a_release_up_to_the_chosen_commit(tmp_path: Path) -> None:
    async with console(tmp_path, "idle") as operator:
        before = len(operator.wishes())
        await operator.press("j", "s")
        await operator.until(lambda: len(operator.wishes()) > before)
        assert operator.last_wish.payload == e.StartRequested(sha(SUBJECTS[1][0]))
        assert operator.last_wish.actor == "ana"


async def test_promote_carries_the_release_and_the_seq_that_were_on_the_screen(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        seen = operator.scene.journal.head()
        await operator.press("p")
        await operator.until(lambda: isinstance(operator.last_wish.payload, e.PromoteRequested) and operator.said)
        assert operator.last_wish.release == 142
        assert operator.last_wish.payload == e.PromoteRequested(seen)


async def test_a_key_is_about_the_screen_at_the_moment_it_was_pressed(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        seen = operator.scene.journal.head()
        operator.send("p")  # held by the gate for 50 ms; meanwhile somebody else takes the release on
        operator.scene.until(0)
        operator.scene.happen(e.Promoted(25, 50), e.StepEntered(3, 50, 300.0), release=142, by="bo")
        await operator.until(lambda: isinstance(operator.last_wish.payload, e.PromoteRequested))
        await operator.until(lambda: operator.last_wish.actor == "ana")
        assert operator.last_wish.payload == e.PromoteRequested(seen)


async def test_the_answer_of_the_runner_is_said_in_words(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        await operator.press("p")
        await operator.until(lambda: operator.last_wish.actor == "ana" and "promoting" in operator.said)
        operator.scene.until(0)
        operator.scene.happen(e.Promoted(25, 50), release=142, by="ana", cause=operator.last_wish.seq)
        await operator.until(lambda: operator.said == "promoted 25 % → 50 %")
        assert "promoted 25 % → 50 %" in operator.screen()


async def test_a_refusal_is_said_with_its_reason(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        await operator.press("p")
        await operator.until(lambda: operator.last_wish.actor == "ana")
        operator.scene.happen(e.Refused("promote", "stale: bo promoted."), release=142, cause=operator.last_wish.seq)
        await operator.until(lambda: operator.said == "refused: stale: bo promoted.")


async def test_space_pauses_and_space_again_resumes(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        await operator.press("space")
        await operator.until(lambda: isinstance(operator.last_wish.payload, e.PauseRequested))
        operator.scene.until(0)
        operator.scene.happen(e.Paused("operator", ""), release=142, by="ana", cause=operator.last_wish.seq)
        await operator.until(lambda: "paused by ana" in operator.screen())
        await operator.press("space")
        await operator.until(lambda: isinstance(operator.last_wish.payload, e.ResumeRequested))


async def test_t_retries_the_release_that_ended_badly(tmp_path: Path) -> None:
    async with console(tmp_path, "failed") as operator:
        await operator.press("t")
        await operator.until(lambda: isinstance(operator.last_wish.payload, e.RetryRequested))
        assert operator.last_wish.release == 142


async def test_a_journal_that_cannot_be_written_says_so_and_how_to_mend_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with console(tmp_path, "in_canary") as operator:

        def full(*_: object) -> Event:
            raise OSError("the disk under the journal is full; nothing was recorded. Free some space, then try again.")

        monkeypatch.setattr(StillDesk, "press", full)
        await operator.press("p")
        await operator.until(lambda: "not recorded: the disk under the journal is full" in operator.said)


# ── what is not possible ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("state", "key", "reason"),
    [
        ("idle", "p", "nothing is in flight"),
        ("idle", "a", "to undo a finished release, roll back"),
        ("in_canary", "t", "has not failed"),
        ("building", "P", "it can be promoted fully once its canary runs"),
        ("locked", "s", "no releases over the holiday"),
        ("empty", "r", "nothing is live"),
    ],
)
async def test_an_action_that_is_not_possible_says_why_and_does_nothing(
    tmp_path: Path, state: str, key: str, reason: str
) -> None:
    async with console(tmp_path, state) as operator:
        before = operator.scene.journal.head()
        await operator.press(key)
        await operator.until(lambda: reason in operator.said)
        assert operator.scene.journal.head() == before
        assert isinstance(operator.app.screen, HomeScreen)


async def test_a_held_back_commit_is_not_started(tmp_path: Path) -> None:
    async with console(tmp_path, "idle") as operator:
        before = operator.scene.journal.head()
        await operator.press("j", "j", "j", "s")
        await operator.until(lambda: "does not go out without" in operator.said)
        assert operator.scene.journal.head() == before


async def test_a_read_only_console_writes_nothing(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary", is_read_only=True) as operator:
        before = operator.scene.journal.head()
        for key in ("s", "p", "P", "space", "a", "r", "l"):
            await operator.press(key)
            assert "read-only" in operator.said
        assert operator.scene.journal.head() == before
        assert "read-only" in operator.screen()


async def test_below_the_smallest_size_no_key_acts_but_leaving(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary", size=(59, 15)) as operator:
        before = operator.scene.journal.head()
        await operator.press("p", "a", "l")
        assert "too small" in operator.screen()
        assert operator.scene.journal.head() == before
        assert isinstance(operator.app.screen, HomeScreen)
        await operator.press("q")
        await operator.until(lambda: not operator.app.is_running)


# ── paste and held keys ──────────────────────────────────────────────────────────────────────────────────────────


async def test_pasted_text_does_nothing_bracketed_or_not(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        before = operator.scene.journal.head()
        operator.app.post_message(events.Paste("spaP\nry\n"))
        await operator.until(lambda: "pasted text is ignored" in operator.said)
        operator.send(*"spaP", "enter", *"ryq")
        await asyncio.sleep(0.5)
        assert operator.scene.journal.head() == before
        assert isinstance(operator.app.screen, HomeScreen)


async def test_a_verb_whose_key_is_held_down_acts_once(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        begun, before = get_time(), len(operator.wishes())
        for at in (0.0, 0.5, *(0.5 + n * 0.033 for n in range(1, 40))):
            operator.send("p", at=begun - 3.0 + at)
        await operator.until(lambda: "held down" in operator.said)
        await operator.until(lambda: len(operator.wishes()) > before)
        assert len(operator.wishes()) == before + 1


# ── looking around ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_chosen_commit_stays_chosen_when_a_new_one_arrives(tmp_path: Path) -> None:
    async with console(tmp_path, "idle") as operator:
        await operator.press("j", "j")
        chosen = operator.app.home.chosen_commit
        operator.scene.pending((("Brand new", "eve", 5, 1, 1), *SUBJECTS))
        await operator.until(lambda: "Brand new" in operator.screen())
        assert operator.app.home.chosen_commit is not None
        assert chosen is not None
        assert operator.app.home.chosen_commit.sha == chosen.sha


async def test_without_a_choice_the_newest_that_may_go_out_is_meant(tmp_path: Path) -> None:
    async with console(tmp_path, "idle") as operator:
        operator.scene.pending((("Brand new", "eve", 5, 1, 1), *SUBJECTS))
        await operator.until(lambda: "Brand new" in operator.screen())
        assert operator.app.home.chosen_commit is not None
        assert operator.app.home.chosen_commit.subject == "Brand new"


async def test_a_filter_shows_what_matches_and_escape_shows_all(tmp_path: Path) -> None:
    async with console(tmp_path, "idle") as operator:
        await operator.press("slash")
        await operator.until(lambda: operator.app.home.is_typing)
        await operator.press(*"gift")
        await operator.until(lambda: "Retry payment" not in operator.screen())
        assert "Gift cards" in operator.screen()
        await operator.press("enter")
        await operator.until(lambda: not operator.app.home.is_typing)
        await operator.press("escape")
        await operator.until(lambda: "Retry payment" in operator.screen())


async def test_verbs_typed_into_the_filter_are_text(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        before = operator.scene.journal.head()
        await operator.press("slash")
        await operator.until(lambda: operator.app.home.is_typing)
        await operator.press(*"sparq")
        await operator.until(lambda: operator.app.home.field.value == "sparq")
        assert operator.scene.journal.head() == before
        assert isinstance(operator.app.screen, HomeScreen)


async def test_tab_walks_the_panes_and_the_log_can_be_read_in_peace(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary", size=(80, 24)) as operator:
        await operator.press("tab")
        assert "━ Log · canary of release 142 ━" in operator.screen()
        await operator.press("k", "k")
        operator.scene.print(142, "canary", *(f"later {n}" for n in range(7)))
        await operator.until(lambda: "paused, 7 new" in operator.screen())
        await operator.press("end")
        await operator.until(lambda: "later 6" in operator.screen())
        await operator.press("tab")
        assert "━ Events ━" in operator.screen()


async def test_enter_opens_the_commit_and_the_event_and_question_mark_the_help(tmp_path: Path) -> None:
    async with console(tmp_path, "idle") as operator:
        await operator.press("enter")
        await operator.until(lambda: isinstance(operator.app.screen, CommitScreen))
        assert sha(SUBJECTS[0][0]) in operator.screen()
        assert "The totals are rounded where they are shown." in operator.screen()
        assert "PRODUCTION" in operator.screen()
        await operator.press("escape", "tab", "tab", "j", "enter")
        await operator.until(lambda: isinstance(operator.app.screen, EventScreen))
        assert "pending_observed" in operator.screen()
        await operator.press("escape", "question_mark")
        await operator.until(lambda: isinstance(operator.app.screen, HelpScreen))
        assert "pithead promote --full" in operator.screen()


async def test_the_palette_finds_actions_by_name(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        await operator.press("colon")
        await operator.until(lambda: isinstance(operator.app.screen, CommandPalette))
        await operator.pilot.press(*"abort")
        await operator.until(lambda: "abort (a)" in operator.screen())
        await operator.pilot.press("enter")
        await operator.until(lambda: isinstance(operator.app.screen, Dialog))


async def test_the_screen_follows_a_resize_at_once(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary", size=(160, 45)) as operator:
        for width, height in ((80, 24), (120, 36), (60, 16), (160, 45)):
            await operator.pilot.resize_terminal(width, height)
            await operator.until(lambda: "Release 142" in operator.screen())
            text = operator.screen().split("\n")
            assert len(text) == height
            assert all(
                fact in text[0] for fact in ("checkout", " PROD", "us-east", "5d42826", "healthy", "ana", "open")
            )


# ── the journal ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_trouble_with_the_journal_stays_on_the_screen_until_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with console(tmp_path, "in_canary") as operator:
        with monkeypatch.context() as broken:

            def unreadable(*_: object) -> None:
                raise OSError("journal.db: permission denied. Give it back to this user.")

            broken.setattr(StillDesk, "runner", unreadable)
            await operator.until(lambda: "permission denied. Give it back" in operator.screen())
            assert "Release 142" in operator.screen()
        await operator.until(lambda: "permission denied" not in operator.screen())


async def test_a_runner_is_asked_for_while_something_waits_for_one(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        desk = operator.app.desk
        assert isinstance(desk, StillDesk)
        assert desk.starts == 0
        operator.scene.journal.engine.dispose()
        with operator.scene.journal.writing() as connection:
            connection.exec_driver_sql("UPDATE leases SET expires_at = 0")
        await operator.until(lambda: desk.starts > 0)
        assert "no runner" in operator.screen()


async def test_hostile_text_from_everywhere_is_shown_and_does_nothing(tmp_path: Path) -> None:
    nasty = "\x1b[2J\x1b]0;owned\x07[red]x[/red] ‮gnol\x9b31m\x00"
    async with console(tmp_path, "in_canary", size=(160, 45)) as operator:
        operator.scene.until(0)
        operator.scene.pending(((nasty + "y" * 100_000, nasty, 5, 1, 1), *SUBJECTS), note=nasty)
        operator.scene.print(142, "canary", nasty, "z" * 10_000_000, nasty)
        operator.scene.happen(e.VerdictReached("errors", "fail", nasty), e.Paused("undecided", nasty), release=142)
        operator.scene.happen(e.Locked(nasty), by=nasty)
        await operator.until(lambda: "[red]x[/red]" in operator.screen() and "LOCKED" in operator.screen())
        await operator.until(lambda: "more characters" in operator.screen() or "zzz" in operator.screen())
        text = operator.screen()
        assert not [ch for ch in text if ch != "\n" and not ch.isprintable()]
        assert {len(row) for row in text.split("\n")} == {160}


# ── leaving ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_q_leaves_and_says_what_goes_on(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        await operator.press("q")
        await operator.until(lambda: not operator.app.is_running)
        assert parting_words(operator.app.shown) == (
            "release 142 goes on: canary 25 %; `pithead` shows it again, `pithead wait 142` waits for it"
        )


async def test_leaving_with_nothing_in_flight_says_nothing(tmp_path: Path) -> None:
    async with console(tmp_path, "idle") as operator:
        assert parting_words(operator.app.shown) == ""
