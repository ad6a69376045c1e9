"""A journal of 1,000,000 events and 10,000,000 log lines on disk: how soon the console is there, and whether it follows."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from terminal import Terminal

from benchmarks.figures import Figure
from pithead.delivery import events as e
from pithead.delivery.events import NewEvent
from pithead.delivery.journal import Journal
from pithead.delivery.logbook import LogBook
from pithead.delivery.ports import Artifact, Commit

EVENTS = int(os.environ.get("PITHEAD_BENCH_EVENTS", "1000000"))
LINES = int(os.environ.get("PITHEAD_BENCH_LINES", "10000000"))
CONFIG = """\
service: checkout
source: {git: {repository: .}}
pipeline: {build: {archive: {}}}
target: {process: {command: "sleep 1"}}
metrics: {source: {envoy: {}}}
"""


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="pithead-bench-") as name:
        folder = Path(name)
        (folder / "pithead.yaml").write_text(CONFIG)
        journal = Journal(f"sqlite:///{folder}/state/checkout/journal.db", "checkout")
        figures = [_fill_events(journal), _fill_lines(journal)]
        size = sum(f.stat().st_size for f in (folder / "state" / "checkout").iterdir()) / 1e6
        figures.append(Figure("journal on disk", size, "MB"))
        figures += _open(folder, journal)
        journal.close()
        return figures


def _fill_events(journal: Journal) -> Figure:
    begin = time.perf_counter()
    batch: list[NewEvent] = []
    for event in believable(EVENTS):
        batch.append(event)
        if len(batch) == 2000:
            journal.append(batch)
            batch = []
    journal.append(batch)
    return Figure(f"appending {EVENTS:,} events with checkpoints", EVENTS / (time.perf_counter() - begin), "ev/s")


def believable(count: int) -> Iterator[NewEvent]:
    """Releases one after another, each of some thirty events, the last one left in flight in its first test."""
    made, number = 0, 0
    while made < count:
        number += 1
        sha = f"{number:040x}"
        for payload in _release(number, sha, count - made):
            release = None if isinstance(payload, e.PendingObserved) else number
            yield NewEvent("runner", payload, release)
            made += 1
            if made == count:
                return


def _release(number: int, sha: str, left: int) -> Iterator[e.Payload]:
    commit = Commit(sha, (), "Ana Lima", 1.7e9 + number, f"Change number {number}")
    yield e.PendingObserved(None, sha, (commit,), 1)
    stages = (
        e.StagePlan("build", "build"),
        e.StagePlan("unit", "test"),
        e.StagePlan("canary", "canary"),
        e.StagePlan("rollout", "rollout"),
    )
    steps = (e.StepPlan(5, 60.0), e.StepPlan(25, 60.0))
    yield e.ReleaseStarted("forward", sha, commit.subject, None, (sha,), stages, steps, 60.0)
    yield e.StageEntered("build", 1)
    artifact = Artifact(f"sha256:{number:064x}", sha, "/artifacts")
    yield e.ArtifactBuilt(artifact)
    yield e.StageEnded("build", 1, "passed")
    yield e.StageEntered("unit", 1)
    if left < 60:
        while True:  # the last release stays where its log is followed
            yield e.VerdictReached("errors", "inconclusive", "20 of at least 50 canary requests so far.")
    yield e.StageEnded("unit", 1, "passed")
    yield e.StageEntered("canary", 1)
    for step, plan in enumerate(steps):
        yield e.StepEntered(step, plan.weight, plan.hold_seconds)
        yield e.TrafficShifted(step, plan.weight)
        for scrape in range(8):
            yield e.VerdictReached("errors", "pass" if scrape % 2 else "inconclusive", f"scrape {scrape}")
    yield e.StageEnded("canary", 1, "passed")
    yield e.StageEntered("rollout", 1)
    yield e.StepEntered(2, 100, 60.0)
    yield e.TrafficShifted(2, 100)
    yield e.StageEnded("rollout", 1, "passed")
    yield e.WentLive(artifact)
    yield e.ReleaseEnded("promoted")


def _fill_lines(journal: Journal) -> Figure:
    book, per_row = LogBook(journal), 500
    state = journal.fold()
    number = state.last_release
    lines = [
        f"2026-01-01 12:00:00 test_{i:03d} a line of a log such as a test run writes it … ok" for i in range(per_row)
    ]
    begin = time.perf_counter()
    for first in range(0, LINES, per_row):
        # Spread over many releases, as years of them would be; the last tenth belongs to the one in flight.
        release = number if first >= LINES * 0.9 else 1 + first * number // LINES
        at = first - int(LINES * 0.9) if release == number else first
        book.write(release, "unit", 1, max(0, at), lines)
    return Figure(
        f"writing {LINES:,} log lines in batches of {per_row}", LINES / (time.perf_counter() - begin), "lines/s"
    )


def _holds(mark: str, text: str) -> bool:
    return mark in text


def _open(folder: Path, journal: Journal) -> list[Figure]:
    book, number = LogBook(journal), journal.fold().last_release
    environment = {"PITHEAD_STATE": str(folder / "state"), "PITHEAD_NO_RUNNER": "1"}
    command = [sys.executable, "-m", "pithead.console.cli", "-c", str(folder / "pithead.yaml")]
    opened, delays = [], []
    for attempt in range(3):
        begin = time.perf_counter()
        with Terminal(command, (120, 36), environment) as terminal:
            terminal.wait_for(lambda text: f"{number:,}" in text or str(number) in text, 60.0)
            opened.append(time.perf_counter() - begin)
            for turn in range(5):
                mark = f"mark-{attempt}-{turn}-here"
                book.write(number, "unit", 1, book.count(number, "unit", 1), [mark])
                delays.append(terminal.wait_for(partial(_holds, mark)))
    return [
        Figure("console open to first full screen, median of 3", statistics.median(opened), "s", 2.0),
        Figure("a new log line to the screen, median", statistics.median(delays) * 1000, "ms"),
        Figure("a new log line to the screen, maximum", max(delays) * 1000, "ms", 500.0),
    ]
