"""Asking first: nobody promotes, aborts or rolls back by a key too many."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from at_the_keys import Operator, console
from textual._time import get_time

from pithead.console.dialogs import DEAF_SECONDS, Dialog
from pithead.console.home import HomeScreen
from pithead.delivery import events as e


async def opened(operator: Operator, key: str) -> Dialog:
    """The dialog, once it listens."""
    await operator.press(key)
    await operator.until(lambda: isinstance(operator.app.screen, Dialog))
    dialog = operator.app.screen
    assert isinstance(dialog, Dialog)
    await asyncio.sleep(DEAF_SECONDS + 0.05)
    return dialog


async def closed(operator: Operator) -> None:
    await operator.until(lambda: isinstance(operator.app.screen, HomeScreen))


@pytest.mark.parametrize("key", ["P", "a", "r"])
async def test_the_question_names_the_target_and_falls_on_cancel(tmp_path: Path, key: str) -> None:
    async with console(tmp_path, "in_canary") as operator:
        before = operator.scene.journal.head()
        await opened(operator, key)
        text = operator.screen()
        assert "checkout in  PRODUCTION  on us-east" in text
        assert "release 142 (f7163a0 Gift cards behind a flag)" in text
        assert "[ Cancel ]" in text
        await operator.press("enter")
        await closed(operator)
        assert operator.scene.journal.head() == before
        assert "cancelled" in operator.said


async def test_escape_cancels(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        before = operator.scene.journal.head()
        await opened(operator, "a")
        await operator.press("escape")
        await closed(operator)
        assert operator.scene.journal.head() == before


@pytest.mark.parametrize("way", [("right", "enter"), ("tab", "enter"), ("y",)])
async def test_confirming_takes_a_way_to_the_act_or_its_letter(tmp_path: Path, way: tuple[str, ...]) -> None:
    async with console(tmp_path, "in_canary") as operator:
        await opened(operator, "a")
        await operator.press(*way)
        await operator.until(lambda: isinstance(operator.last_wish.payload, e.AbortRequested))
        assert operator.last_wish.release == 142


async def test_promote_fully_is_one_command_about_the_release_that_was_asked_about(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        seen = operator.scene.journal.head()
        await opened(operator, "P")
        await operator.press("y")
        await operator.until(lambda: operator.last_wish.payload == e.PromoteRequested(seen, full=True))
        assert operator.last_wish.release == 142


async def test_no_key_counts_before_the_question_can_have_been_read(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        before = operator.scene.journal.head()
        await operator.press("a")
        await operator.until(lambda: isinstance(operator.app.screen, Dialog))
        operator.send("y")
        operator.send("right", "enter")
        await asyncio.sleep(0.3)
        assert isinstance(operator.app.screen, Dialog)
        assert operator.scene.journal.head() == before


async def test_a_letter_typed_right_after_the_key_that_asks_confirms_nothing(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        before = operator.scene.journal.head()
        operator.send("a")
        await asyncio.sleep(0.03)
        operator.send("y")
        await operator.until(lambda: isinstance(operator.app.screen, Dialog))
        await asyncio.sleep(0.3)
        assert isinstance(operator.app.screen, Dialog)
        assert operator.scene.journal.head() == before


@pytest.mark.parametrize("key", ["y", "enter"])
async def test_a_key_that_is_held_down_never_confirms(tmp_path: Path, key: str) -> None:
    async with console(tmp_path, "in_canary") as operator:
        before = operator.scene.journal.head()
        await opened(operator, "a")
        await operator.press("right")
        begun = get_time()
        for n in range(30):  # it was down already before the question: its first time is a repeat
            operator.send(key, at=begun - 0.5 + n * 0.033)
        await asyncio.sleep(0.7)
        assert operator.scene.journal.head() == before


async def test_the_key_that_asks_held_down_neither_answers_nor_asks_again(tmp_path: Path) -> None:
    async with console(tmp_path, "idle") as operator:
        await operator.press("l")
        await operator.until(lambda: isinstance(operator.app.screen, Dialog))
        dialog = operator.app.screen
        assert isinstance(dialog, Dialog)
        for _ in range(25):
            operator.send("l")
            await asyncio.sleep(0.035)
        assert dialog.field.value == ""


async def test_pasted_text_confirms_nothing(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        before = operator.scene.journal.head()
        await opened(operator, "a")
        operator.send("right", *"yes", "enter")
        await asyncio.sleep(0.3)
        assert operator.scene.journal.head() == before
        assert isinstance(operator.app.screen, Dialog)


async def test_it_says_when_the_release_moved_on_while_the_question_stands(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        await opened(operator, "a")
        operator.scene.until(0)
        operator.scene.happen(e.Promoted(25, 50), e.StepEntered(3, 50, 300.0), release=142, by="bo")
        await operator.until(lambda: "It moved on meanwhile" in operator.screen())
        assert "it has 50 %" in operator.screen()
        await operator.press("y")
        await operator.until(lambda: isinstance(operator.last_wish.payload, e.AbortRequested))
        assert operator.last_wish.release == 142


async def test_roll_back_while_one_is_in_flight_means_abort_and_says_so(tmp_path: Path) -> None:
    async with console(tmp_path, "in_canary") as operator:
        await opened(operator, "r")
        assert "rolling back means aborting it" in operator.screen()
        await operator.press("y")
        await operator.until(lambda: operator.last_wish.payload == e.AbortRequested())
        assert operator.last_wish.release == 142


async def test_roll_back_offers_the_earlier_releases_and_takes_the_chosen_one(tmp_path: Path) -> None:
    async with console(tmp_path, "idle") as operator:
        operator.scene.until(600)
        operator.scene.released(142, "Wrap gifts", "bo")
        await operator.until(lambda: "142" in operator.screen())
        dialog = await opened(operator, "r")
        assert [choice.release for choice in dialog.question.choices] == [141, 139]
        assert "Price by postcode" not in "".join(choice.words.text for choice in dialog.question.choices)
        await operator.press("down", "y")
        await operator.until(lambda: operator.last_wish.payload == e.RollBackRequested(139))


async def test_a_lock_wants_a_reason(tmp_path: Path) -> None:
    async with console(tmp_path, "idle") as operator:
        before = operator.scene.journal.head()
        await opened(operator, "l")
        await operator.press("enter")
        await operator.until(lambda: "A lock without a reason helps nobody" in operator.screen())
        assert operator.scene.journal.head() == before
        await operator.press(*"yes, so")
        await operator.press("enter")
        await operator.until(lambda: operator.last_wish.payload == e.LockRequested("yes, so"))


async def test_a_reason_that_is_pasted_with_a_line_end_is_not_sent_off(tmp_path: Path) -> None:
    async with console(tmp_path, "idle") as operator:
        before = operator.scene.journal.head()
        dialog = await opened(operator, "l")
        operator.send(*"because", "enter")
        await asyncio.sleep(0.3)
        assert operator.scene.journal.head() == before
        assert dialog.field.value == "because"


async def test_unlocking_shows_the_reason_and_asks(tmp_path: Path) -> None:
    async with console(tmp_path, "locked") as operator:
        await opened(operator, "l")
        assert "no releases over the holiday, call ana" in operator.screen()
        assert "[ Cancel ]" in operator.screen()
        await operator.press("y")
        await operator.until(lambda: isinstance(operator.last_wish.payload, e.UnlockRequested))
