"""What a demo plays on: a repository, the config of its service, a desk to give commands from, and users who ask it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from pithead.console.demo.folder import CONFIG, demo_folder
from pithead.console.demo.repository import BRANCH, Repository, make_repository
from pithead.console.desk import Desk
from pithead.console.registry import Registry, open_backends
from pithead.console.station import open_desk
from pithead.delivery.config import SLOTS, Config, load_config
from pithead.delivery.ports import BackendError

RATE: Final = 150
LOAD_PATIENCE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the canary's steps and the bake are, as a config writes them: a tour is watched, a test is not."""

    step: str = "6s"
    bake: str = "4s"


class Users:
    """The stream of requests, a process of its own. `tally` is what became of them so far, `log` has a line for each if
    that is wanted."""

    def __init__(self, folder: Path, address: str, *, keeps_log: bool) -> None:
        self.log = folder / "requests.tsv"
        self._tally = folder / "requests.json"
        with (folder / "load.log").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "pithead.console.demo.load", "--address", address, "--rate", str(RATE)),
                    *("--out", str(self._tally), *(("--log", str(self.log)) if keeps_log else ())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
            )

    @property
    def are_gone(self) -> bool:
        """They do not ask for ever, lest a forgotten demo keep a machine busy."""
        return self._process.poll() is not None

    def tally(self) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = json.loads(self._tally.read_text("utf-8"))
        except FileNotFoundError:
            return {"requests": 0, "failed_requests": 0}
        return found

    def wait_for(self, requests: int) -> None:
        """Until so many were answered. BackendError when the stream has ended or nothing comes."""
        deadline = time.monotonic() + LOAD_PATIENCE_SECONDS
        while (count := self.tally()["requests"]) < requests:
            if self.are_gone or time.monotonic() > deadline:
                raise BackendError(f"the stream of requests stands still after {count}.", "See load.log beside it.")
            time.sleep(0.05)

    def end(self) -> Mapping[str, Any]:
        """Stops the stream in order; the final tally."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)
        self._process.wait(LOAD_PATIENCE_SECONDS)
        return self.tally()


@dataclass(frozen=True, slots=True)
class Setting:
    folder: Path
    repository: Repository
    config: Config
    desk: Desk


@contextlib.contextmanager
def open_setting(pace: Pace) -> Iterator[Setting]:
    """Everything but the users, who need an address first. BackendError when this machine lacks something, with the
    mend. All of it is gone afterwards."""
    with demo_folder() as folder:
        repository = make_repository(folder / "repository", time.time())
        path = folder / CONFIG
        path.write_text(yaml.safe_dump(_config(pace), sort_keys=False), "utf-8")
        config = load_config(path, Registry())
        asyncio.run(_examine(config))
        with open_desk(config) as desk:
            yield Setting(folder, repository, config, desk)


async def _examine(config: Config) -> None:
    """BackendError with all that `pithead doctor` would find wrong with the backends."""
    backends = open_backends(config)
    answers = await asyncio.gather(*(getattr(backends, slot).check() for slot in SLOTS))
    wrong = [finding for answer in answers for finding in answer if not finding.is_well]
    if wrong:
        words = "; ".join(f"{finding.subject}: {finding.detail}" for finding in wrong)
        raise BackendError(f"the demo cannot run here: {words}.", " ".join(finding.mend for finding in wrong))


def _config(pace: Pace) -> dict[str, Any]:
    python = shlex.quote(sys.executable)
    unittest = f"{python} -B -m unittest discover -v -t . -s"
    return {
        "service": "checkout",
        "environment": "demo",
        "source": {"git": {"repository": "repository", "branch": BRANCH}},
        "pipeline": {
            "build": {"archive": {}},
            "tests": [
                {"name": "unit", "command": f"{unittest} tests", "timeout": "60s"},
                {"name": "functional", "command": f"{unittest} functional", "timeout": "60s"},
            ],
            "canary": {
                "steps": [{"weight": 10, "hold": pace.step}, {"weight": 50, "hold": pace.step}],
                "interval": "500ms",
            },
            "rollout": {"bake": pace.bake},
        },
        "target": {
            "process": {
                "command": f"exec {python} -B server.py --port $PORT",
                "readiness": {"path": "/health"},
                "drain": "500ms",
            }
        },
        "metrics": {
            "source": {"envoy": {}},
            "watch": [
                {"name": "errors", "kind": "ratio", "min_samples": 20},
                # One in twenty and not one in a hundred: a busy laptop makes one in a hundred wait by itself.
                {"name": "p95", "kind": "latency", "quantile": 0.95, "tolerance": "50%", "min_samples": 20},
            ],
        },
    }
