"""What every command of the line shares: the group that it belongs to, its options, its exit status, how it prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
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


def leave(words: str, status: int) -> NoReturn:
    say(words, err=True)
    sys.exit(status)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@config_option
@click.version_option(package_name="pithead")
@click.pass_context
def cli(context: click.Context, config_path: str | None) -> None:
    """Pithead, the release console. Without a command it opens the screen."""
    context.obj = config_path
    if context.invoked_subcommand is None:
        open_console(config_path)


def open_console(config_path: str | None) -> None:
    from pithead.console.config_file import load
    from pithead.console.station import open_desk

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        leave(
            "The screen needs a terminal. For scripts: `pithead status --json`; `pithead --help` lists all.", BAD_USAGE
        )
    with open_desk(load(config_path)) as desk:
        from pithead.console.app import run_console

        sys.exit(run_console(desk))


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        say(line)


def say(text: str, err: bool = False) -> None:
    """Prints it as text: what came from outside may hold what a terminal would obey."""
    from pithead.delivery.plain_text import plain

    click.echo(plain(text), err=err)


def print_json(data: Any) -> None:
    click.echo(json.dumps(data))


def given(config_path: str | None) -> str | None:
    return config_path or click.get_current_context().find_root().obj


def release_in_question(state: Any, release: int | None) -> int | None:
    if release is not None:
        return release
    present = state.in_flight or state.queued
    return present.number if present else None
