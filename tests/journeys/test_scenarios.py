"""Each scenario of the demo, as somebody would run it: through the command line, with everything real.

The runs are started together, two at a time, and each test asks what became of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

COMMAND = (sys.executable, "-m", "pithead.console.cli", "demo", "--headless")
PATIENCE_SECONDS = 160.0
SCENARIOS = ("good", "errors", "slow", "crash", "failing-test")
AT_ONCE = 2


@dataclass
class Run:
    """One demo from its start to its end. `place` is the folder that its own folder is made in."""

    scenario: str
    place: Path
    began: float = 0.0
    ended: float = 0.0
    status: int | None = None
    output: str = ""
    progress: list[str] = field(default_factory=list)
    left_folders: list[str] = field(default_factory=list)
    left_processes: list[list[str]] = field(default_factory=list)

    @property
    def result(self) -> dict[str, Any]:
        assert self.output, "\n".join(self.progress)
        found: dict[str, Any] = json.loads(self.output)
        return found

    def __str__(self) -> str:
        return "\n".join([f"status {self.status}", self.output, *self.progress])


def play(run: Run, when: str = "", act: Callable[[subprocess.Popen[str]], None] = lambda _: None) -> Run:
    """Runs it; with the first line of progress that holds `when`, acts on the process."""
    run.place.mkdir()
    run.began = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, "--json", "--scenario", run.scenario],
        env={**os.environ, "TMPDIR": str(run.place)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    guard = threading.Timer(PATIENCE_SECONDS, process.kill)
    guard.start()
    assert process.stderr is not None
    assert process.stdout is not None
    try:
        for line in process.stderr:
            run.progress.append(line.rstrip())
            if when and when in line:
                act(process)
                when = ""
        run.output = process.stdout.read()
        run.status = process.wait()
    finally:
        guard.cancel()
    run.ended = time.monotonic()
    wait_until_gone(run)
    return run


def wait_until_gone(run: Run) -> None:
    """What is left a while after the end is noted, and then ended here, for the tests that follow."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        run.left_folders = [folder.name for folder in run.place.glob("pithead-demo-*")]
        run.left_processes = [process.cmdline() for process in processes_of(run.place)]
        if not run.left_folders and not run.left_processes:
            return
        time.sleep(0.1)
    for process in processes_of(run.place):
        with contextlib.suppress(psutil.Error):
            process.kill()


def processes_of(place: Path) -> Iterator[psutil.Process]:
    """All that work in the place, were started with it in their command line, or carry it in their environment."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            words = [process.cwd(), *process.cmdline(), *process.environ().values()]
            if any(str(place) in word for word in words):
                yield process


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield threads


@pytest.fixture(scope="module")
def runs(pool: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[Run]]:
    place = tmp_path_factory.mktemp("scenarios")
    return {scenario: pool.submit(play, Run(scenario, place / scenario)) for scenario in SCENARIOS}


@pytest.fixture(scope="module")
def ended(runs: dict[str, Future[Run]]) -> Callable[[str], Run]:
    return lambda scenario: runs[scenario].result(timeout=4 * PATIENCE_SECONDS)


@pytest.mark.timeout(400)
def test_a_good_commit_is_promoted_and_no_request_fails(ended: Callable[[str], Run]) -> None:
    run = ended("good")
    assert run.status == 0, run
    result = run.result
    assert (result["outcome"], result["failed_requests"]) == ("promoted", 0), run
    assert 0 < result["canary_requests"] < result["requests"]
    assert (result["detected_after_seconds"], result["rolled_back_in_seconds"]) == (None, None)


@pytest.mark.parametrize("scenario", ["errors", "slow"])
@pytest.mark.timeout(400)
def test_a_bad_commit_is_found_and_brought_back_by_the_program_itself(
    ended: Callable[[str], Run], scenario: str
) -> None:
    run = ended(scenario)
    assert run.status == 1, run
    result = run.result
    assert result["outcome"] == "rolled_back", run
    assert 0 < result["canary_requests"] < result["requests"] / 4, run
    assert 0 < result["detected_after_seconds"] < 6, "found on the first step already"
    assert 0 <= result["rolled_back_in_seconds"] < 3, run
    assert result["failed_requests"] <= result["canary_requests"], "nobody but the canary's users was served badly"
    assert (result["failed_requests"] > 0) == (scenario == "errors"), run


@pytest.mark.timeout(400)
def test_a_commit_that_does_not_start_is_brought_back_before_any_user_meets_it(ended: Callable[[str], Run]) -> None:
    run = ended("crash")
    assert run.status == 1, run
    result = run.result
    assert result["outcome"] == "rolled_back", run
    assert (result["canary_requests"], result["failed_requests"]) == (0, 0), run
    assert result["detected_after_seconds"] is not None
    assert result["rolled_back_in_seconds"] is not None


@pytest.mark.timeout(400)
def test_a_commit_that_fails_its_test_moves_no_traffic(ended: Callable[[str], Run]) -> None:
    run = ended("failing-test")
    assert run.status == 1, run
    result = run.result
    assert result["outcome"] == "failed", run
    assert (result["canary_requests"], result["failed_requests"]) == (0, 0), run
    assert result["requests"] > 0
    assert not any("of the traffic" in line and "release 2" in line for line in run.progress), run


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.timeout(400)
def test_nothing_is_left_of_a_demo_that_ended(ended: Callable[[str], Run], scenario: str) -> None:
    run = ended(scenario)
    assert (run.left_folders, run.left_processes) == ([], []), run


@pytest.mark.timeout(400)
def test_two_demos_run_at_once(ended: Callable[[str], Run]) -> None:
    one, other = ended("good"), ended("errors")
    assert max(one.began, other.began) < min(one.ended, other.ended), "the two did not overlap"
    addresses = {line.split()[-1] for run in (one, other) for line in run.progress if "users ask" in line}
    assert len(addresses) == 2, addresses


@pytest.mark.timeout(400)
def test_a_demo_that_is_killed_in_its_canary_is_cleaned_up(
    pool: ThreadPoolExecutor, runs: dict[str, Future[Run]], tmp_path: Path
) -> None:
    def kill(process: subprocess.Popen[str]) -> None:
        assert list(processes_of(tmp_path / "place")), "there is something to be cleaned up"
        process.send_signal(signal.SIGKILL)

    # In the same pool: no more than two at once, and after those that were there before.
    run = pool.submit(play, Run("good", tmp_path / "place"), "traffic reaches release 2", kill).result(400)
    assert run.status == -signal.SIGKILL, run
    assert (run.left_folders, run.left_processes) == ([], []), run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.timeout(400)
def test_a_demo_that_is_asked_to_end_cleans_up_and_says_by_its_status_why(
    pool: ThreadPoolExecutor, runs: dict[str, Future[Run]], tmp_path: Path, number: signal.Signals
) -> None:
    def ask(process: subprocess.Popen[str]) -> None:
        process.send_signal(number)

    run = pool.submit(play, Run("good", tmp_path / "place"), "entered functional", ask).result(400)
    assert run.status == 128 + number, run
    assert run.output == ""
    assert "Traceback" not in str(run), run
    assert (run.left_folders, run.left_processes) == ([], []), run
