"""How soon a key is a journalled command and its answer stands on the screen, while 5,000 log lines arrive each second;
and what an idle console costs. The real program in a real pseudo-terminal, with a real runner beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from terminal import Terminal

from benchmarks.figures import Figure, distribution, quantile
from pithead.delivery.events import Paused, PauseRequested, Resumed, ResumeRequested
from pithead.delivery.journal import Journal
from pithead.delivery.logbook import LogBook

PRESSES = 40
PRESS_EVERY_SECONDS = 0.9
IDLE_SECONDS = 30.0
LOUD = """\
import sys, time
n, begin = 0, time.monotonic()
while True:
    due = int((time.monotonic() - begin) * 5000)
    while n < due:
        print(f"test {n:08d} of a suite that says what it does, as they do ... ok")
        n += 1
    sys.stdout.flush()
    time.sleep(0.02)
"""
CONFIG = """\
service: checkout
source: {git: {repository: ., branch: main}}
pipeline:
  build: {archive: {}}
  tests: [{name: unit, command: "python3 loud.py", timeout: 30m}]
target: {process: {command: "sleep 1"}}
metrics: {source: {envoy: {}}}
"""


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="pithead-bench-") as name:
        folder = Path(name)
        _repository(folder)
        environment = {"PITHEAD_STATE": str(folder / "state"), "PITHEAD_OPERATOR": "bench"}
        command = [sys.executable, "-m", "pithead.console.cli", "-c", str(folder / "pithead.yaml")]
        _pithead(folder, environment, "pending")
        try:
            figures = _idle(command, environment)
            _pithead(folder, environment, "start")
            figures += _keys(folder, command, environment)
            _pithead(folder, environment, "abort")
            _pithead(folder, environment, "wait", status=1)
        finally:
            _pithead(folder, environment, "runner", "--stop", status=None)
        return figures


def _repository(folder: Path) -> None:
    (folder / "pithead.yaml").write_text(CONFIG)
    (folder / "loud.py").write_text(LOUD)
    git = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=Bench", "-c", "user.email=bench@example.invalid"]
    for words in (["init", "-q", "-b", "main"], ["add", "loud.py"], [*who, "commit", "-q", "-m", "Print a lot"]):
        subprocess.run(["git", *words], cwd=folder, env=git, check=True)


def _pithead(folder: Path, environment: Mapping[str, str], *words: str, status: int | None = 0) -> None:
    command = [sys.executable, "-m", "pithead.console.cli", *words, "-c", str(folder / "pithead.yaml")]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)
    if status is not None and done.returncode != status:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")


def _idle(command: list[str], environment: Mapping[str, str]) -> list[Figure]:
    with Terminal(command, (120, 36), environment) as terminal:
        terminal.wait_for(lambda text: "Print a lot" in text)
        time.sleep(3.0)
        count, cpu = terminal.bytes_read, terminal.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        return [
            Figure(
                f"bytes to the terminal in {IDLE_SECONDS:.0f} idle seconds", terminal.bytes_read - count, "bytes", 0.0
            ),
            Figure("CPU of the idle console", (terminal.cpu_seconds() - cpu) / IDLE_SECONDS * 100, "% core", 1.0),
        ]


def _keys(folder: Path, command: list[str], environment: Mapping[str, str]) -> list[Figure]:
    journal = Journal(f"sqlite:///{folder}/state/checkout/journal.db", "checkout")
    book = LogBook(journal)
    to_journal, to_answer, to_screen = [], [], []
    with Terminal(command, (120, 36), environment) as terminal:
        terminal.wait_for(lambda text: "of a suite that says" in text)
        first, began = book.count(1, "unit", 1), time.time()
        for turn in range(PRESSES):
            is_pause = turn % 2 == 0
            seq, pressed = journal.head(), time.time()
            terminal.press(" ")
            # The log goes on in either case: what changes on the screen is the key's word and the why-line.
            seen = terminal.wait_for(_is_shown if is_pause else lambda text: not _is_shown(text), 10.0)
            to_screen.append(seen * 1000)
            for event in journal.read(seq):
                if isinstance(event.payload, PauseRequested if is_pause else ResumeRequested):
                    to_journal.append((event.at - pressed) * 1000)
                if isinstance(event.payload, Paused if is_pause else Resumed):
                    to_answer.append((event.at - pressed) * 1000)
            time.sleep(max(0.0, pressed + PRESS_EVERY_SECONDS - time.time()))
        rate = (book.count(1, "unit", 1) - first) / (time.time() - began)
        cpu = terminal.cpu_seconds()
    journal.close()
    return [
        Figure("log lines arriving meanwhile", rate, "lines/s", 4500.0, is_least=True),
        *distribution("key press to journalled command", to_journal, "ms"),
        *distribution("key press to the runner's answer in the journal", to_answer, "ms"),
        *distribution("key press to the runner's answer on the screen", to_screen, "ms"),
        Figure("key press to the answer on the screen, p95 again", quantile(to_screen, 0.95), "ms", 150.0),
        Figure("CPU of the console meanwhile", cpu / (time.time() - began) * 100, "% core"),
    ]


def _is_shown(text: str) -> bool:
    return "space resume" in text
