"""Single calls of git: each comes to an end in time, with all that it started, and tells why it failed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from repositories import Repository

from pithead.backends.git_commands import GitCommands, TookTooLong
from pithead.delivery.ports import BackendError

COMPLAINT = r"hint: look\nfatal: no such https://ada:s3cret@example.org/\033[2Jx\nhint: again\n"


@pytest.fixture
def git(tmp_path: Path) -> GitCommands:
    return GitCommands(Repository(tmp_path / "repository").path)


@pytest.fixture
def pid_file(tmp_path: Path) -> Iterator[Path]:
    """Where a test's command writes the pid of what it leaves running; ended with the test."""
    file = tmp_path / "pid"
    yield file
    for process in left_running(file):
        process.kill()


def left_running(pid_file: Path) -> list[psutil.Process]:
    try:
        found = psutil.Process(int(pid_file.read_text()))
    except (FileNotFoundError, psutil.NoSuchProcess):
        return []
    return [found] if found.status() != psutil.STATUS_ZOMBIE else []


async def test_a_child_that_keeps_the_pipes_open_does_not_hold_us_up(git: GitCommands, pid_file: Path) -> None:
    """A lasting ssh master of a partial clone does so."""
    async with asyncio.timeout(60):
        answer = await git.ask("x", settings=[f"alias.x=!sleep 600 & echo $! > '{pid_file}'; echo done; :"])
    assert answer.words == "done"
    assert left_running(pid_file) != []


@pytest.mark.parametrize("is_guarded", [False, True])
async def test_a_call_that_takes_too_long_ends_with_all_that_it_started(
    git: GitCommands, pid_file: Path, is_guarded: bool
) -> None:
    alias = f"alias.x=!sleep 600 & echo $! > '{pid_file}'; wait"
    with pytest.raises(TookTooLong, match="more than 1 seconds"):
        await git.ask("x", settings=[alias], timeout_seconds=1.0, is_guarded=is_guarded)
    assert (await asyncio.to_thread(pid_file.read_text)).strip().isdigit()
    psutil.wait_procs(left_running(pid_file), timeout=30)
    assert left_running(pid_file) == []


@pytest.mark.parametrize("is_guarded", [False, True])
async def test_a_call_that_ignores_sigterm_ends_all_the_same(git: GitCommands, is_guarded: bool) -> None:
    with pytest.raises(TookTooLong):
        await git.ask("x", settings=["alias.x=!trap '' TERM; sleep 600; :"], timeout_seconds=0.5, is_guarded=is_guarded)


@pytest.mark.parametrize("is_guarded", [False, True])
async def test_status_output_and_complaint_are_told_apart(git: GitCommands, is_guarded: bool) -> None:
    answer = await git.ask("x", settings=["alias.x=!echo out; echo fatal: why >&2; exit 3; :"], is_guarded=is_guarded)
    assert (answer.status, answer.words, answer.complaint.strip()) == (3, "out", "fatal: why")


async def test_a_flood_of_complaints_neither_blocks_nor_fills_the_memory(git: GitCommands) -> None:
    answer = await git.ask(
        "x", settings=["alias.x=!head -c 5000000 /dev/zero | tr '\\\\0' x >&2; echo fatal: end >&2; exit 1; :"]
    )
    assert answer.complaint.rstrip().endswith("fatal: end")
    assert len(answer.complaint) <= 65536


async def test_a_failure_is_told_in_one_safe_line_without_passwords(git: GitCommands) -> None:
    with pytest.raises(BackendError) as caught:
        await git.run("x", settings=[f"alias.x=!printf '{COMPLAINT}' >&2; exit 1; :"])
    assert "s3cret" not in str(caught.value)
    assert "no such https://example.org/x." in caught.value.message
    assert caught.value.message.isprintable()
