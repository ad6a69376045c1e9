"""The commands that look: what is live, what waits, what happened."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from pithead.console.command_line import (
    ANSWER_SECONDS,
    BAD_USAGE,
    DONE,
    FAILED,
    TIMED_OUT,
    UNREACHABLE,
    cli,
    config_option,
    given,
    json_option,
    leave,
    print_json,
    print_lines,
    release_in_question,
    say,
)


@cli.command()
@config_option
@json_option
def status(config_path: str | None, as_json: bool) -> None:
    """What is live, what is in flight, and why it waits."""
    from pithead.console.config_file import load
    from pithead.console.station import open_desk
    from pithead.console.views import status_data, status_lines

    with open_desk(load(given(config_path))) as desk:
        state = desk.journal.fold()
        if desk.wants_runner(state):
            desk.ensure_runner()
        holder = desk.runner()
        runner = holder.name if holder else None
        if as_json:
            print_json(status_data(state, runner, time.time()))
        else:
            print_lines(status_lines(state, runner))


@cli.command()
@config_option
@json_option
def pending(config_path: str | None, as_json: bool) -> None:
    """The commits that await release, newest first."""
    from pithead.console.config_file import load
    from pithead.console.station import open_desk
    from pithead.console.views import pending_data, pending_lines

    with open_desk(load(given(config_path))) as desk:
        state = asyncio.run(_with_pending(desk))
        if as_json:
            print_json(pending_data(state))
        elif state.pending is not None:
            print_lines(pending_lines(state))
        for lost in state.lost.values():
            say(f"{lost.backend}: {lost.message} {lost.mend}", err=True)
        sys.exit(UNREACHABLE if state.pending is None else DONE)


async def _with_pending(desk: Any) -> Any:
    """The state once a runner has read the source, or could not."""
    from pithead.delivery import fold

    desk.ensure_runner()
    state = desk.journal.fold()
    if state.pending is not None:
        return state
    deadline = time.monotonic() + ANSWER_SECONDS
    while state.pending is None and "source" not in state.lost and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        new = desk.journal.read(state.seq)
        state = fold.fold(new, state)
        if new and state.runner is not None and not state.runner.is_running:
            say(state.runner.reason, err=True)
            break
    return state


@cli.command()
@config_option
@json_option
def history(config_path: str | None, as_json: bool) -> None:
    """The releases that ended, newest first."""
    from pithead.console.config_file import load
    from pithead.console.station import open_desk
    from pithead.console.views import history_lines, release_data

    with open_desk(load(given(config_path))) as desk:
        state = desk.journal.fold()
        if as_json:
            print_json([release_data(release, time.time()) for release in state.ended])
        else:
            print_lines(history_lines(state))


@cli.command()
@click.argument("release", type=int)
@config_option
@json_option
def show(release: int, config_path: str | None, as_json: bool) -> None:
    """One release: its stages, verdicts and events."""
    from pithead.console.config_file import load
    from pithead.console.station import open_desk
    from pithead.console.views import event_data, release_data, release_lines
    from pithead.widgets.words import words

    with open_desk(load(given(config_path))) as desk:
        found = desk.journal.fold().release(release)
        events = desk.journal.of_release(release)
        if found is None and not events:
            leave(f"there is no release {release}.", BAD_USAGE)
        if as_json:
            data = release_data(found, time.time()) if found else None
            print_json({"release": data, "events": [event_data(event) for event in events]})
            return
        if found:
            print_lines(release_lines(found, time.time()))
        print_lines(f"  {_clock(event.at)} {event.actor:<10} {words(event)}" for event in events)


@cli.command()
@click.argument("release", type=int)
@click.argument("stage", required=False)
@click.option("--attempt", type=int, help="An earlier attempt; else the last.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the stage ends.")
@config_option
@json_option
def log(
    release: int, stage: str | None, attempt: int | None, follow: bool, config_path: str | None, as_json: bool
) -> None:
    """The log of a stage of a release (the last stage that wrote one)."""
    from pithead.console.config_file import load
    from pithead.console.station import open_desk

    with open_desk(load(given(config_path))) as desk:
        written = [a for a in desk.book.attempts(release) if stage in (None, a[0]) and attempt in (None, a[1])]
        if not written and not follow:
            what = f"stage {stage!r} of release {release}" if stage else f"release {release}"
            leave(f"{what} has written no log.", BAD_USAGE)
        name, number = written[-1][:2] if written else (stage or "build", attempt or 1)
        at = 0
        while True:
            is_over = not follow or _is_over(desk.journal.fold(), release, name, number)
            while lines := desk.book.lines(release, name, number, at):
                at = lines[-1].number + 1
                for line in lines:
                    if as_json:
                        print_json({"number": line.number, "at": line.at, "text": line.text})
                    else:
                        say(line.text)
            if is_over:
                return
            time.sleep(0.1)


def _is_over(state: Any, number: int, stage: str, attempt: int) -> bool:
    release = state.release(number)
    if release is None or release.outcome is not None:
        return True
    run = next((s for s in release.stages if s.name == stage), None)
    return run is None or run.attempt > attempt or (run.attempt == attempt and run.state not in ("running", "pending"))


@cli.command()
@click.option("-f", "--follow", is_flag=True, help="Go on for ever.")
@click.option("-n", "--last", default=50, show_default=True, help="So many of the last events first.")
@click.option("--after", type=int, help="All events after this seq instead.")
@config_option
@json_option
def events(follow: bool, last: int, after: int | None, config_path: str | None, as_json: bool) -> None:
    """What happened: who did what, when."""
    from pithead.console.config_file import load
    from pithead.console.station import open_desk
    from pithead.console.views import event_data
    from pithead.widgets.words import words

    def tell(event: Any) -> None:
        if as_json:
            print_json(event_data(event))
        else:
            number = f"#{event.release}" if event.release else ""
            say(f"{event.seq:>6} {_clock(event.at)} {number:>5} {event.actor:<12} {words(event)}")

    with open_desk(load(given(config_path))) as desk:
        at = after if after is not None else max(0, desk.journal.head() - last)
        while batch := desk.journal.read(at):
            for event in batch:
                tell(event)
            at = batch[-1].seq
        if follow:
            asyncio.run(_follow_events(desk, at, tell))


async def _follow_events(desk: Any, after: int, tell: Callable[[Any], None]) -> None:
    async for batch in desk.journal.follow(after):
        for event in batch:
            tell(event)
        sys.stdout.flush()


def _clock(at: float) -> str:
    return time.strftime("%F %T", time.localtime(at))


@cli.command()
@click.argument("release", type=int, required=False)
@click.option("--timeout", "timeout_text", default="0", help="Give up after this long (90s, 10m); 0 is never.")
@config_option
@json_option
def wait(release: int | None, timeout_text: str, config_path: str | None, as_json: bool) -> None:
    """Wait until RELEASE (the one in flight, else the last) has ended; exit 0 only if it went live."""
    from pithead.console.config_file import load
    from pithead.console.station import open_desk
    from pithead.console.views import release_data
    from pithead.delivery.durations import DurationError, parse_duration
    from pithead.widgets.words import outcome_words

    try:
        timeout = parse_duration(timeout_text)
    except DurationError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from error
    with open_desk(load(given(config_path))) as desk:
        state = desk.journal.fold()
        number = release_in_question(state, release) or (state.ended[0].number if state.ended else None)
        if number is None or state.release(number) is None:
            leave("there is no release to wait for." if number is None else f"there is no release {number}.", BAD_USAGE)
        try:
            ended = asyncio.run(asyncio.wait_for(_ended(desk, state, number), timeout or None))
        except TimeoutError:
            leave(f"release {number} has not ended after {timeout_text}.", TIMED_OUT)
        if as_json:
            print_json(release_data(ended, time.time()))
        else:
            say(f"release {number} {outcome_words(ended)}. {ended.reason}".rstrip())
        sys.exit(DONE if ended.outcome in ("promoted", "fast_promoted") else FAILED)


async def _ended(desk: Any, state: Any, number: int) -> Any:
    from pithead.delivery import fold

    async def keep_a_runner() -> None:
        while True:
            if desk.wants_runner(state):
                await asyncio.to_thread(desk.ensure_runner)
            await asyncio.sleep(1.0)

    keeper = asyncio.ensure_future(keep_a_runner())
    try:
        if (found := state.release(number)) and found.outcome:
            return found
        told = _tell_pause(state, number, 0)
        async for batch in desk.journal.follow(state.seq):
            state = fold.fold(batch, state)
            told = _tell_pause(state, number, told)
            if (found := state.release(number)) and found.outcome:
                return found
    finally:
        keeper.cancel()


def _tell_pause(state: Any, number: int, told: int) -> int:
    """Says once, on stderr, why the release is held; the seq of the pause that was told last."""

    release = state.release(number)
    pause = release.paused if release else None
    if pause is None or pause.seq == told:
        return told
    say(f"release {number} is paused: {pause.words}", err=True)
    return int(pause.seq)
