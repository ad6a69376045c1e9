"""`pithead demo`: a release flow with everything real, in a folder that goes away again.

Exit status as of the rest of the command line: 0 promoted, 1 failed or brought back, 2 bad usage, 4 something that the
demo needs is missing or broken.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import get_args

from pithead.console.demo.folder import NotCleanedError
from pithead.console.demo.history import SCENARIOS, Scenario
from pithead.delivery.ports import PortError

PROMOTED, BROUGHT_BACK, BAD_USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 4, 130


def run_demo(scenario: str | None, headless: bool, as_json: bool) -> int:
    """The exit status."""
    wrong = _why_not(scenario, headless, as_json)
    if wrong is not None:
        return _told(wrong, BAD_USAGE)
    try:
        return _run(next((known for known in get_args(Scenario) if known == scenario), None), headless, as_json)
    except (PortError, NotCleanedError) as error:
        return _told(str(error), UNREACHABLE)
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(scenario: Scenario | None, headless: bool, as_json: bool) -> int:
    if scenario is not None and headless:
        return _play(scenario, as_json)
    from pithead.console.demo.tour import guide  # the screen costs time that a scenario need not pay

    return guide(scenario)


def _play(scenario: Scenario, as_json: bool) -> int:
    from pithead.console.demo.scenario import play

    result, release = play(scenario)
    if as_json:
        print(json.dumps(asdict(result)))  # noqa: T201
    else:
        print(f"{scenario}: {result.outcome.replace('_', ' ')}. {release.reason}".rstrip())  # noqa: T201
        for name, value in list(asdict(result).items())[2:]:
            print(f"  {name.replace('_', ' '):<24} {'–' if value is None else value}")  # noqa: T201
    return PROMOTED if release.outcome in ("promoted", "fast_promoted") else BROUGHT_BACK


def _why_not(scenario: str | None, headless: bool, as_json: bool) -> str | None:
    names = ", ".join(SCENARIOS)
    if scenario is not None and scenario not in SCENARIOS:
        return f"there is no scenario {scenario!r}. Choose one of {names}."
    if headless and scenario is None:
        return f"--headless runs one scenario: add --scenario with one of {names}."
    if as_json and not headless:
        return "--json prints the outcome of a scenario that runs without a terminal: add --headless."
    if not headless and not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "the demo's screen needs a terminal. Without one: pithead demo --headless --scenario errors"
    return None


def _told(message: str, status: int) -> int:
    print(message, file=sys.stderr)  # noqa: T201
    return status
