"""What is typed to stop a bad release must not wait for a library that it does not use. Each in a fresh interpreter."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import pithead.delivery

CLIENTS = {"textual", "docker", "kubernetes", "git", "httpx", "envoy"}
HEAVY = {"textual", "docker", "kubernetes", "numpy", "scipy"}

MODULES = sorted(m.name for m in pkgutil.walk_packages(pithead.delivery.__path__, "pithead.delivery."))

CONFIG = """
service: shop
source:
  git: {repository: %(repository)s, branch: main}
pipeline:
  build:
    archive: {}
target:
  process: {command: "python3 -m http.server $PORT"}
metrics:
  source:
    envoy: {}
"""

TELL = """
import atexit, json, os, sys
atexit.register(lambda: os.write(int(os.environ["TELL_FD"]), json.dumps(sorted(sys.modules)).encode()))
"""


def loaded(*arguments: str, **environment: str) -> tuple[set[str], subprocess.CompletedProcess[str]]:
    """The top-level packages that an interpreter has at its end, and how it ended."""
    reading, writing = os.pipe()
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        pass_fds=[writing],
        env={**os.environ, **environment, "TELL_FD": str(writing)},
    )
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    assert told, done.stderr
    return {name.partition(".")[0] for name in json.loads(told)}, done


def test_all_of_delivery_together_loads_no_terminal_and_no_client() -> None:
    found, done = loaded("-c", TELL + "\n".join(f"import {module}" for module in MODULES))
    assert done.returncode == 0, done.stderr
    assert len(MODULES) > 20
    assert not found & (CLIENTS | {"scipy", "numpy"})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    repository = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", "-b", "main", repository], check=True)
    path = tmp_path / "pithead.yaml"
    path.write_text(CONFIG % {"repository": repository})
    return path


@pytest.mark.parametrize("command", [("status", "--json"), ("history",), ("events",), ("--help",), ("abort", "--help")])
def test_a_command_loads_only_what_it_needs(command: tuple[str, ...], config: Path, tmp_path: Path) -> None:
    """Without any runner: `status` and its like read the journal and nothing else."""
    run = "from pithead.console.cli import main\nmain()"
    flag = [] if command[-1] == "--help" else ["-c", str(config)]
    found, done = loaded("-c", TELL + run, *command, *flag, PITHEAD_STATE=str(tmp_path / "state"))
    assert done.returncode == 0, done.stderr
    assert not found & HEAVY, (command, found & HEAVY)
    if command[-1] == "--help":
        assert "sqlalchemy" not in found
        assert "pydantic" not in found
