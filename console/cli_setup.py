"""The commands around a service: its config, its backends, its runner, and the demo."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from pithead.console.command_line import (
    DONE,
    REFUSED,
    UNREACHABLE,
    cli,
    config_option,
    given,
    json_option,
    leave,
    print_json,
)


@cli.command()
@click.argument("folder", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
def init(folder: Path, as_json: bool) -> None:
    """Write a commented pithead.yaml for the repository in FOLDER."""
    from pithead.console.config_file import CONFIG_NAME
    from pithead.console.init import write_proposal

    path = folder / CONFIG_NAME
    write_proposal(path)
    if as_json:
        print_json({"path": str(path)})
    else:
        click.echo(f"wrote {path}. Read it, then: pithead doctor")


@cli.command()
@config_option
@json_option
def doctor(config_path: str | None, as_json: bool) -> None:
    """Check each backend that the config names, and say how to mend what is wrong."""
    from pithead.console.config_file import find_config
    from pithead.console.doctor import examine, to_json, to_text
    from pithead.console.registry import Registry, open_backends
    from pithead.delivery.config import load_config

    registry = Registry()
    config = load_config(find_config(given(config_path)), registry)
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
    from pithead.console.config_file import find_config, load
    from pithead.console.station import open_desk

    if not stop:
        from pithead.console.runner_process import main as run

        sys.exit(run([str(find_config(given(config_path)))]))
    with open_desk(load(given(config_path))) as desk:
        import signal

        holder = desk.runner()
        if holder is None:
            click.echo("no runner is alive.", err=True)
        else:
            import socket

            if holder.host != socket.gethostname():
                leave(f"the runner is {holder.name}, on another host: stop it there.", REFUSED)
            os.kill(holder.pid, signal.SIGTERM)
            while desk.runner() is not None:
                time.sleep(0.05)
            click.echo(f"the runner {holder.name} has ended.")
    if and_service:
        asyncio.run(_end_service(given(config_path)))
        click.echo("the service has ended.")


async def _end_service(config_path: str | None) -> None:
    from pithead.console.config_file import find_config
    from pithead.console.registry import Registry, open_backends
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
