"""The commands that ask something of the runner: each is a wish in the journal and the answer to it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from pithead.console.command_line import (
    ANSWER_SECONDS,
    DONE,
    REFUSED,
    UNREACHABLE,
    cli,
    config_option,
    given,
    json_option,
    leave,
    print_json,
    release_in_question,
    say,
)


def _press(config_path: str | None, as_json: bool, make: Callable[[Any], tuple[Any, int | None]]) -> None:
    """Journals the wish that `make(state)` gives with the release that it is about, waits for the answer, tells it."""
    from pithead.console.config_file import load
    from pithead.console.station import open_desk

    with open_desk(load(given(config_path))) as desk:
        wish, release = make(desk.journal.fold())
        _tell_answer(desk, desk.press(wish, release).seq, as_json)


def _press_at_once(config_path: str | None, as_json: bool, wish: Any, is_about_release: bool, make: Any) -> None:
    """The same for what stops harm: the wish is in the journal before most of the program is loaded."""
    from pithead.console.config_file import load, operator_of
    from pithead.delivery.journal_at_once import append_at_once

    config = load(given(config_path))
    seq = append_at_once(config.journal_url(), config.service, operator_of(config), wish, is_about_release)
    if seq is None:
        _press(config_path, as_json, make)
        return
    from pithead.console.station import open_desk

    with open_desk(config) as desk:
        desk.ensure_runner()
        _tell_answer(desk, seq, as_json)


def _tell_answer(desk: Any, seq: int, as_json: bool) -> NoReturn:
    from pithead.delivery.events import Refused
    from pithead.widgets.words import words

    answer = asyncio.run(_answer(desk, seq))
    if answer is None:
        why = f"no runner answered within {ANSWER_SECONDS:.0f} s; the command stands in the journal."
        leave(f"{why} See {desk.state_folder / 'runner.log'}.", UNREACHABLE)
    is_refused = isinstance(answer.payload, Refused)
    if as_json:
        from pithead.console.views import event_data

        print_json({"command": seq, "is_refused": is_refused, "answer": event_data(answer)})
    elif is_refused:
        say(f"refused: {answer.payload.reason}", err=True)
    else:
        say(words(answer))
    sys.exit(REFUSED if is_refused else DONE)


async def _answer(desk: Any, seq: int) -> Any:
    """The first event that answers the command, or None when nothing did in time."""

    async def look() -> Any:
        async for batch in desk.journal.follow(seq, 0.02):
            for event in batch:
                if event.cause == seq:
                    return event
        return None

    async def keep_a_runner() -> None:
        while True:
            await asyncio.sleep(2.0)
            await asyncio.to_thread(desk.ensure_runner)

    keeper = asyncio.ensure_future(keep_a_runner())
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await look()
    except TimeoutError:
        return None
    finally:
        keeper.cancel()


@cli.command()
@click.argument("commit", default="")
@config_option
@json_option
def start(commit: str, config_path: str | None, as_json: bool) -> None:
    """Release the pending commits up to COMMIT (the newest that may go out)."""
    from pithead.delivery.events import StartRequested

    _press(config_path, as_json, lambda _: (StartRequested(commit), None))


release_option = click.option("--release", type=int, help="Only if this release is the one in flight.")
seen_option = click.option(
    "--seen", type=int, help="The journal's seq that you decided on; refused if it moved on since."
)


@cli.command()
@click.option("--full", is_flag=True, help="Skip what is left of the canary.")
@release_option
@seen_option
@config_option
@json_option
def promote(full: bool, release: int | None, seen: int | None, config_path: str | None, as_json: bool) -> None:
    """Go on to the next step now."""
    from pithead.delivery.events import PromoteRequested

    _press(
        config_path,
        as_json,
        lambda s: (PromoteRequested(s.seq if seen is None else seen, full), release_in_question(s, release)),
    )


@cli.command()
@release_option
@config_option
@json_option
def pause(release: int | None, config_path: str | None, as_json: bool) -> None:
    """Hold the release where it is."""
    from pithead.delivery.events import PauseRequested

    _press(config_path, as_json, lambda s: (PauseRequested(s.seq), release_in_question(s, release)))


@cli.command()
@release_option
@seen_option
@config_option
@json_option
def resume(release: int | None, seen: int | None, config_path: str | None, as_json: bool) -> None:
    """Go on after a pause."""
    from pithead.delivery.events import ResumeRequested

    _press(
        config_path,
        as_json,
        lambda s: (ResumeRequested(s.seq if seen is None else seen), release_in_question(s, release)),
    )


@cli.command()
@click.option("--reason", default="", help="For the journal.")
@release_option
@config_option
@json_option
def abort(reason: str, release: int | None, config_path: str | None, as_json: bool) -> None:
    """End the release in flight; traffic goes back to the live artifact at once."""
    from pithead.delivery.events import AbortRequested

    def make(state: Any) -> tuple[Any, int | None]:
        return AbortRequested(reason), release_in_question(state, release)

    if release is not None:
        _press(config_path, as_json, make)
    else:
        _press_at_once(config_path, as_json, AbortRequested(reason), True, make)


@cli.command()
@click.argument("to", type=int, required=False, metavar="[RELEASE]")
@click.option("--reason", default="", help="For the journal and the lock.")
@config_option
@json_option
def rollback(to: int | None, reason: str, config_path: str | None, as_json: bool) -> None:
    """Make RELEASE (the one before the live one) live again and lock the service; in flight: abort."""
    from pithead.delivery.events import RollBackRequested

    wish = RollBackRequested(to, reason)
    _press_at_once(config_path, as_json, wish, False, lambda _: (wish, None))


@cli.command()
@click.argument("release", type=int, required=False)
@seen_option
@config_option
@json_option
def retry(release: int | None, seen: int | None, config_path: str | None, as_json: bool) -> None:
    """Try again what failed or broke, as a new attempt with fresh analysis."""
    from pithead.delivery.events import RetryRequested

    _press(
        config_path,
        as_json,
        lambda s: (RetryRequested(s.seq if seen is None else seen), release_in_question(s, release)),
    )


@cli.command()
@click.argument("reason")
@config_option
@json_option
def lock(reason: str, config_path: str | None, as_json: bool) -> None:
    """Let nobody start or promote, for REASON."""
    from pithead.delivery.events import LockRequested

    _press(config_path, as_json, lambda _: (LockRequested(reason), None))


@cli.command()
@click.option("--reason", default="", help="For the journal.")
@config_option
@json_option
def unlock(reason: str, config_path: str | None, as_json: bool) -> None:
    """Take the lock away."""
    from pithead.delivery.events import UnlockRequested

    _press(config_path, as_json, lambda _: (UnlockRequested(reason), None))
