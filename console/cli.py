"""The command line: a twin for every key. Data goes to stdout, messages to stderr.

Exit status: 0 done, 1 the release failed or was brought back, 2 bad usage or config, 3 refused, 4 a backend or the
journal could not be reached (or no runner answered), 124 a `wait` that ran out of time.

Imports stay light here: a command that is typed to stop a bad release must not wait for a library that it does not use.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import click

DONE, FAILED, BAD_USAGE, REFUSED, UNREACHABLE, TIMED_OUT = 0, 1, 2, 3, 4, 124
ANSWER_SECONDS = 20.0

config_option = click.option(
    "-c",
    "--config",
    "config_path",
    metavar="FILE",
    help="The config file; else $PITHEAD_CONFIG, else pithead.yaml here or above.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def main() -> None:
    """The entry point of `pithead`."""
    from pithead.delivery.config_errors import ConfigErrors
    from pithead.delivery.ports import PortError

    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_USAGE)
    except ConfigErrors as errors:
        _leave(str(errors), BAD_USAGE)
    except PortError as error:
        _leave(str(error), UNREACHABLE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    except Exception as error:
        if type(error).__name__ in ("JournalError", "LeaseLostError"):
            _leave(str(error), UNREACHABLE)
        raise


def _leave(words: str, status: int) -> NoReturn:
    click.echo(words, err=True)
    sys.exit(status)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@config_option
@click.version_option(package_name="pithead")
@click.pass_context
def cli(context: click.Context, config_path: str | None) -> None:
    """Pithead, the release console. Without a command it opens the screen."""
    context.obj = config_path
    if context.invoked_subcommand is None:
        _open_console(config_path)


def _open_console(config_path: str | None) -> None:
    from pithead.console.station import load, open_desk

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        _leave(
            "The screen needs a terminal. For scripts: `pithead status --json`; `pithead --help` lists all.", BAD_USAGE
        )
    with open_desk(load(config_path)) as desk:
        from pithead.console.app import run_console

        sys.exit(run_console(desk))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, ensure_ascii=False))


def _given(config_path: str | None) -> str | None:
    return config_path or click.get_current_context().find_root().obj


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _press(config_path: str | None, as_json: bool, make: Callable[[Any], tuple[Any, int | None]]) -> None:
    """Journals the wish that `make(state)` gives with the release that it is about, waits for the answer, tells it."""
    from pithead.console.station import load, open_desk
    from pithead.delivery.events import Refused
    from pithead.widgets.words import words

    with open_desk(load(_given(config_path))) as desk:
        wish, release = make(desk.journal.fold())
        command = desk.press(wish, release)
        answer = asyncio.run(_answer(desk, command.seq))
        if answer is None:
            log = desk.state_folder / "runner.log"
            _leave(
                f"no runner answered within {ANSWER_SECONDS:.0f} s; the command stands in the journal. See {log}.",
                UNREACHABLE,
            )
        is_refused = isinstance(answer.payload, Refused)
        if as_json:
            from pithead.console.views import event_data

            _print_json({"command": command.seq, "is_refused": is_refused, "answer": event_data(answer)})
        elif is_refused:
            click.echo(f"refused: {answer.payload.reason}", err=True)
        else:
            click.echo(words(answer))
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


def _number(state: Any, release: int | None) -> int | None:
    if release is not None:
        return release
    present = state.in_flight or state.queued
    return present.number if present else None


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
        lambda s: (PromoteRequested(s.seq if seen is None else seen, full), _number(s, release)),
    )


@cli.command()
@release_option
@config_option
@json_option
def pause(release: int | None, config_path: str | None, as_json: bool) -> None:
    """Hold the release where it is."""
    from pithead.delivery.events import PauseRequested

    _press(config_path, as_json, lambda s: (PauseRequested(s.seq), _number(s, release)))


@cli.command()
@release_option
@seen_option
@config_option
@json_option
def resume(release: int | None, seen: int | None, config_path: str | None, as_json: bool) -> None:
    """Go on after a pause."""
    from pithead.delivery.events import ResumeRequested

    _press(config_path, as_json, lambda s: (ResumeRequested(s.seq if seen is None else seen), _number(s, release)))


@cli.command()
@click.option("--reason", default="", help="For the journal.")
@release_option
@config_option
@json_option
def abort(reason: str, release: int | None, config_path: str | None, as_json: bool) -> None:
    """End the release in flight; traffic goes back to the live artifact at once."""
    from pithead.delivery.events import AbortRequested

    _press(config_path, as_json, lambda s: (AbortRequested(reason), _number(s, release)))


@cli.command()
@click.argument("to", type=int, required=False, metavar="[RELEASE]")
@click.option("--reason", default="", help="For the journal and the lock.")
@config_option
@json_option
def rollback(to: int | None, reason: str, config_path: str | None, as_json: bool) -> None:
    """Make RELEASE (the one before the live one) live again and lock the service; in flight: abort."""
    from pithead.delivery.events import RollBackRequested

    _press(config_path, as_json, lambda _: (RollBackRequested(to, reason), None))


@cli.command()
@click.argument("release", type=int, required=False)
@seen_option
@config_option
@json_option
def retry(release: int | None, seen: int | None, config_path: str | None, as_json: bool) -> None:
    """Try again what failed or broke, as a new attempt with fresh analysis."""
    from pithead.delivery.events import RetryRequested

    _press(config_path, as_json, lambda s: (RetryRequested(s.seq if seen is None else seen), _number(s, release)))


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


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────


@cli.command()
@config_option
@json_option
def status(config_path: str | None, as_json: bool) -> None:
    """What is live, what is in flight, and why it waits."""
    from pithead.console.station import load, open_desk
    from pithead.console.views import status_data, status_lines

    with open_desk(load(_given(config_path))) as desk:
        state = desk.journal.fold()
        if desk.wants_runner(state):
            desk.ensure_runner()
        holder = desk.runner()
        runner = holder.name if holder else None
        if as_json:
            _print_json(status_data(state, runner, time.time()))
        else:
            _print(status_lines(state, runner))


@cli.command()
@config_option
@json_option
def pending(config_path: str | None, as_json: bool) -> None:
    """The commits that await release, newest first."""
    from pithead.console.station import load, open_desk
    from pithead.console.views import pending_data, pending_lines

    with open_desk(load(_given(config_path))) as desk:
        state = asyncio.run(_with_pending(desk))
        if as_json:
            _print_json(pending_data(state))
        elif state.pending is not None:
            _print(pending_lines(state))
        for lost in state.lost.values():
            click.echo(f"{lost.backend}: {lost.message} {lost.mend}", err=True)
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
            click.echo(state.runner.reason, err=True)
            break
    return state


@cli.command()
@config_option
@json_option
def history(config_path: str | None, as_json: bool) -> None:
    """The releases that ended, newest first."""
    from pithead.console.station import load, open_desk
    from pithead.console.views import history_lines, release_data

    with open_desk(load(_given(config_path))) as desk:
        state = desk.journal.fold()
        if as_json:
            _print_json([release_data(release, time.time()) for release in state.ended])
        else:
            _print(history_lines(state))


@cli.command()
@click.argument("release", type=int)
@config_option
@json_option
def show(release: int, config_path: str | None, as_json: bool) -> None:
    """One release: its stages, verdicts and events."""
    from pithead.console.station import load, open_desk
    from pithead.console.views import event_data, release_data, release_lines
    from pithead.widgets.words import words

    with open_desk(load(_given(config_path))) as desk:
        found = desk.journal.fold().release(release)
        events = desk.journal.of_release(release)
        if found is None and not events:
            _leave(f"there is no release {release}.", BAD_USAGE)
        if as_json:
            data = release_data(found, time.time()) if found else None
            _print_json({"release": data, "events": [event_data(event) for event in events]})
            return
        if found:
            _print(release_lines(found, time.time()))
        _print(f"  {_clock(event.at)} {event.actor:<10} {words(event)}" for event in events)


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
    from pithead.console.station import load, open_desk

    with open_desk(load(_given(config_path))) as desk:
        written = [a for a in desk.book.attempts(release) if stage in (None, a[0]) and attempt in (None, a[1])]
        if not written and not follow:
            what = f"stage {stage!r} of release {release}" if stage else f"release {release}"
            _leave(f"{what} has written no log.", BAD_USAGE)
        name, number = written[-1][:2] if written else (stage or "build", attempt or 1)
        at = 0
        while True:
            is_over = not follow or _is_over(desk.journal.fold(), release, name, number)
            while lines := desk.book.lines(release, name, number, at):
                at = lines[-1].number + 1
                for line in lines:
                    if as_json:
                        _print_json({"number": line.number, "at": line.at, "text": line.text})
                    else:
                        click.echo(line.text)
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
    from pithead.console.station import load, open_desk
    from pithead.console.views import event_data
    from pithead.widgets.words import words

    def tell(event: Any) -> None:
        if as_json:
            _print_json(event_data(event))
        else:
            number = f"#{event.release}" if event.release else ""
            click.echo(f"{event.seq:>6} {_clock(event.at)} {number:>5} {event.actor:<12} {words(event)}")

    with open_desk(load(_given(config_path))) as desk:
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
    from pithead.console.station import load, open_desk
    from pithead.console.views import release_data
    from pithead.delivery.durations import DurationError, parse_duration
    from pithead.widgets.words import outcome_words

    try:
        timeout = parse_duration(timeout_text)
    except DurationError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from error
    with open_desk(load(_given(config_path))) as desk:
        state = desk.journal.fold()
        number = _number(state, release) or (state.ended[0].number if state.ended else None)
        if number is None or state.release(number) is None:
            _leave(
                "there is no release to wait for." if number is None else f"there is no release {number}.", BAD_USAGE
            )
        try:
            ended = asyncio.run(asyncio.wait_for(_ended(desk, state, number), timeout or None))
        except TimeoutError:
            _leave(f"release {number} has not ended after {timeout_text}.", TIMED_OUT)
        if as_json:
            _print_json(release_data(ended, time.time()))
        else:
            click.echo(f"release {number} {outcome_words(ended)}. {ended.reason}".rstrip())
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
        async for batch in desk.journal.follow(state.seq):
            state = fold.fold(batch, state)
            if (found := state.release(number)) and found.outcome:
                return found
    finally:
        keeper.cancel()


# ── setting up ───────────────────────────────────────────────────────────────────────────────────────────────────


@cli.command()
@click.argument("folder", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
def init(folder: Path, as_json: bool) -> None:
    """Write a commented pithead.yaml for the repository in FOLDER."""
    from pithead.console.init import write_proposal
    from pithead.console.station import CONFIG_NAME

    path = folder / CONFIG_NAME
    write_proposal(path)
    if as_json:
        _print_json({"path": str(path)})
    else:
        click.echo(f"wrote {path}. Read it, then: pithead doctor")


@cli.command()
@config_option
@json_option
def doctor(config_path: str | None, as_json: bool) -> None:
    """Check each backend that the config names, and say how to mend what is wrong."""
    from pithead.console.doctor import examine, to_json, to_text
    from pithead.console.registry import Registry, open_backends
    from pithead.console.station import find_config
    from pithead.delivery.config import load_config

    registry = Registry()
    config = load_config(find_config(_given(config_path)), registry)
    findings = asyncio.run(
        examine(config, open_backends(config, registry), lambda: asyncio.to_thread(_journal_is_well, config))
    )
    click.echo(to_json(findings) if as_json else to_text(findings))
    sys.exit(DONE if all(finding.is_well for finding in findings) else UNREACHABLE)


def _journal_is_well(config: Any) -> Any:
    from pithead.console.station import open_desk
    from pithead.delivery.journal import JournalError
    from pithead.delivery.ports import Finding

    try:
        with open_desk(config) as desk:
            holder = desk.runner()
            runner = f"runner {holder.name}" if holder else "no runner alive"
            return [Finding("journal", True, f"{desk.journal.place}, {desk.journal.head():,} events, {runner}")]
    except JournalError as error:
        return [Finding("journal", False, str(error))]


@cli.command()
def schema() -> None:
    """The JSON Schema of the config file, with the options of the installed backends."""
    from pithead.console.registry import Registry
    from pithead.console.schema import json_schema

    click.echo(json.dumps(json_schema(Registry()), indent=2, ensure_ascii=False))


@cli.command()
@click.option(
    "--stop", is_flag=True, help="End the runner that is alive, in order; its release waits for the next one."
)
@click.option(
    "--and-service", is_flag=True, help="With --stop: the service too, until the next runner starts it again."
)
@config_option
def runner(stop: bool, and_service: bool, config_path: str | None) -> None:
    """Run the service's runner here in the foreground, or --stop the one that runs."""
    from pithead.console.station import find_config, load, open_desk

    if not stop:
        from pithead.console.runner_process import main as run

        sys.exit(run([str(find_config(_given(config_path)))]))
    with open_desk(load(_given(config_path))) as desk:
        import signal

        holder = desk.runner()
        if holder is None:
            click.echo("no runner is alive.", err=True)
        else:
            import socket

            if holder.host != socket.gethostname():
                _leave(f"the runner is {holder.name}, on another host: stop it there.", REFUSED)
            os.kill(holder.pid, signal.SIGTERM)
            while desk.runner() is not None:
                time.sleep(0.05)
            click.echo(f"the runner {holder.name} has ended.")
    if and_service:
        asyncio.run(_end_service(_given(config_path)))
        click.echo("the service has ended.")


async def _end_service(config_path: str | None) -> None:
    from pithead.console.registry import Registry, open_backends
    from pithead.console.station import find_config
    from pithead.delivery.config import load_config
    from pithead.delivery.convergence import NoLog
    from pithead.delivery.ports import Desired

    registry = Registry()
    target = open_backends(load_config(find_config(config_path), registry), registry).target
    await target.apply(Desired(), NoLog())


@cli.command()
@click.option(
    "--scenario", type=click.Choice(["good", "errors", "slow", "crash", "failing-test"]), help="Run this one only."
)
@click.option("--headless", is_flag=True, help="Without a terminal, to its end; prints the outcome.")
@json_option
def demo(scenario: str | None, headless: bool, as_json: bool) -> None:
    """A release flow with a real repository, service, proxy and requests, in a folder that goes away again."""
    from pithead.console.demo.demo import run_demo

    sys.exit(run_demo(scenario, headless, as_json))


if __name__ == "__main__":
    main()
