"""The contract of `CommandRunner`, and what the guarded runner promises beyond it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from pithead.backends.commands import BATCH_LINES, GuardedCommands
from pithead.backends.output_lines import CUT_MARK, LONGEST_LINE
from pithead.delivery.ports import BackendError, CheckFailed, Command, CommandRunner

Gone = Callable[[Iterable[int]], None]

FAMILY = textwrap.dedent(
    """
    import os, signal, subprocess, sys, time
    # A child, a child in a session of its own, and an orphan that left everything behind.
    if sys.argv[1:] == ["stubborn"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pids = [os.getpid(), subprocess.Popen(["sleep", "300"]).pid]
    pids.append(subprocess.Popen(["sleep", "300"], start_new_session=True).pid)
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        orphan = os.fork()
        if orphan:
            os.write(writing, str(orphan).encode())
            os._exit(0)
        os.dup2(os.open("/dev/null", os.O_RDWR), 1)
        os.dup2(1, 2)
        time.sleep(300)
        os._exit(0)
    pids.append(int(os.read(reading, 20)))
    print("family", *pids, flush=True)
    if sys.argv[1:] != ["leave"]:
        time.sleep(300)
    """
)


@pytest.fixture(params=[GuardedCommands])
def runner(request: pytest.FixtureRequest) -> CommandRunner:
    made: CommandRunner = request.param(grace_seconds=0.5)
    return made


@pytest.fixture
def family(tmp_path: Path) -> str:
    """A command line whose process has three kinds of offspring and prints the pids of all four."""
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    return f"{sys.executable} -S {script}"


def pids_in(lines: Sequence[str]) -> list[int]:
    family = next(line for line in lines if line.startswith("family "))
    return [int(word) for word in family.split()[1:]]


async def has_family(lines: Any) -> list[int]:
    while not any(line.startswith("family ") for line in lines.lines):
        lines.came.clear()
        await asyncio.wait_for(lines.came.wait(), 30)
    return pids_in(lines.lines)


def order(line: str, folder: Path, timeout_seconds: float = 60.0, **environment: str) -> Command:
    return Command(line, folder, timeout_seconds, environment)


@pytest.mark.parametrize(
    ("line", "status"), [("true", 0), ("exit 3", 3), ("kill -9 $$", 128 + signal.SIGKILL), ("sh -c 'kill $$'", 143)]
)
async def test_the_exit_status_is_the_one_a_shell_would_report(
    runner: CommandRunner, lines: Any, tmp_path: Path, line: str, status: int
) -> None:
    assert await runner.run(order(line, tmp_path), lines) == status


async def test_a_command_that_does_not_exist_ends_with_127_and_the_shell_says_so(
    runner: CommandRunner, lines: Any, tmp_path: Path
) -> None:
    assert await runner.run(order("no-such-program --now", tmp_path), lines) == 127
    assert "no-such-program" in str(lines)


async def test_both_outputs_come_in_order_and_the_last_line_needs_no_end(
    runner: CommandRunner, lines: Any, tmp_path: Path
) -> None:
    await runner.run(order("echo one; echo two >&2; printf three", tmp_path), lines)
    assert lines.lines == ["one", "two", "three"]


async def test_a_command_that_prints_nothing_writes_nothing(runner: CommandRunner, lines: Any, tmp_path: Path) -> None:
    await runner.run(order("true", tmp_path), lines)
    assert lines.batches == []


async def test_a_line_is_seen_while_the_command_still_runs(runner: CommandRunner, lines: Any, tmp_path: Path) -> None:
    run = asyncio.create_task(
        runner.run(order("echo waiting; while ! test -e go; do sleep 0.02; done", tmp_path), lines)
    )
    await lines.wait_for("waiting")
    assert not run.done()
    (tmp_path / "go").touch()
    assert await asyncio.wait_for(run, 30) == 0


async def test_it_runs_in_its_folder_with_a_clean_environment_and_its_own_variables(
    runner: CommandRunner, lines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setenv("LANG", "C.UTF-8")
    await runner.run(order("pwd; env", tmp_path, GREETING="hello there"), lines)
    assert lines.lines[0] == str(tmp_path)
    names = {line.partition("=")[0] for line in lines.lines[1:]}
    assert "GREETING=hello there" in lines.lines
    assert "LANG=C.UTF-8" in lines.lines
    assert names <= {"PATH", "HOME", "LANG", "TMPDIR", "USER", "GREETING", "PWD", "OLDPWD", "SHLVL", "_"}


async def test_it_has_no_input_and_no_terminal(runner: CommandRunner, lines: Any, tmp_path: Path) -> None:
    line = "cat; (: </dev/tty) 2>/dev/null || echo no terminal; ps -o sid= -p $$; echo $$"
    await runner.run(order(line, tmp_path), lines)
    assert lines.lines[0] == "no terminal"
    assert lines.lines[1].strip() == lines.lines[2], "the command leads a session of its own"


async def test_a_folder_that_is_gone_is_a_broken_tool(runner: CommandRunner, lines: Any, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="gone"):
        await runner.run(order("true", tmp_path / "gone"), lines)


async def test_time_out_says_no_and_names_the_command_and_the_time(
    runner: CommandRunner, lines: Any, tmp_path: Path, family: str, wait_until_gone: Gone
) -> None:
    with pytest.raises(CheckFailed, match=r"Password: .*` took longer than 1\.5s"):
        await runner.run(order(f"printf 'Password: '; {family}", tmp_path, 1.5), lines)
    assert "Password: family" in str(lines), "what was printed last is not lost"
    wait_until_gone(int(word) for word in str(lines).split()[2:])


async def test_a_time_out_of_the_log_is_not_taken_for_the_commands(runner: CommandRunner, tmp_path: Path) -> None:
    class Broken:
        async def write(self, lines: Sequence[str]) -> None:
            raise TimeoutError("the log's own")

    with pytest.raises(TimeoutError, match="the log's own"):
        await runner.run(order("echo hi; sleep 300", tmp_path), Broken())


async def test_cancellation_ends_the_whole_family(
    runner: CommandRunner, lines: Any, tmp_path: Path, family: str, wait_until_gone: Gone
) -> None:
    run = asyncio.create_task(runner.run(order(family, tmp_path), lines))
    pids = await has_family(lines)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    wait_until_gone(pids)


async def test_who_ignores_sigterm_is_killed_after_the_grace(
    runner: CommandRunner, lines: Any, tmp_path: Path, family: str, wait_until_gone: Gone
) -> None:
    run = asyncio.create_task(runner.run(order(f"{family} stubborn", tmp_path), lines))
    pids = await has_family(lines)
    run.cancel()
    asked = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert time.monotonic() - asked >= 0.45
    wait_until_gone(pids)


async def test_daemons_that_a_command_leaves_behind_are_ended_with_it(
    runner: CommandRunner, lines: Any, tmp_path: Path, family: str, alive: Callable[[int], bool]
) -> None:
    assert await runner.run(order(f"{family} leave", tmp_path), lines) == 0
    assert [pid for pid in pids_in(lines.lines) if alive(pid)] == []


async def test_the_command_ends_when_its_runner_is_killed(tmp_path: Path, family: str, wait_until_gone: Gone) -> None:
    program = tmp_path / "caller.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import asyncio
            from pathlib import Path
            from pithead.backends.commands import GuardedCommands
            from pithead.delivery.ports import Command

            class Printed:
                async def write(self, lines):
                    print(*lines, sep="\\n", flush=True)

            command = Command({family + " stubborn"!r}, Path({str(tmp_path)!r}), 60)
            asyncio.run(GuardedCommands(grace_seconds=0.5).run(command, Printed()))
            """
        )
    )
    caller = await asyncio.create_subprocess_exec(sys.executable, str(program), stdout=subprocess.PIPE)
    assert caller.stdout is not None
    pids = pids_in([(await caller.stdout.readline()).decode()])
    caller.kill()
    await caller.wait()
    wait_until_gone(pids)


async def test_many_commands_at_once_do_not_hold_each_other_up(
    runner: CommandRunner, tmp_path: Path, lines: Any
) -> None:
    names = [f"line-{number}" for number in range(12)]
    statuses = await asyncio.gather(*(runner.run(order(f"echo {name}", tmp_path), lines) for name in names))
    assert statuses == [0] * 12
    assert sorted(lines.lines) == sorted(names)


async def test_odd_output_becomes_whole_bounded_text(runner: CommandRunner, lines: Any, tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(b"10%\r20%\r\nbad \xff\xfe byte\nnul \0 byte\n" + b"\xc3\xa4" * 100_000 + b"\nend\n")
    await runner.run(order("cat odd", tmp_path), lines)
    assert lines.lines[:4] == ["10%", "20%", "bad �� byte", "nul � byte"]
    assert lines.lines[4] == "ä" * LONGEST_LINE + CUT_MARK
    assert lines.lines[5:] == ["end"]


async def test_a_command_may_stop_reading_another_without_complaint(
    runner: CommandRunner, lines: Any, tmp_path: Path
) -> None:
    assert await runner.run(order("yes | head -n 1", tmp_path), lines) == 0
    assert lines.lines == ["y"], "SIGPIPE has its default action"


async def test_a_slow_log_holds_the_command_back(runner: CommandRunner, tmp_path: Path) -> None:
    class Slow:
        def __init__(self) -> None:
            self.begun, self.go = asyncio.Event(), asyncio.Event()
            self.count = 0

        async def write(self, lines: Sequence[str]) -> None:
            self.begun.set()
            await self.go.wait()
            self.count += len(lines)

    slow = Slow()
    run = asyncio.create_task(runner.run(order("seq 3000000; touch printed", tmp_path), slow))
    await slow.begun.wait()
    await asyncio.sleep(0.5)
    assert not (tmp_path / "printed").exists()
    slow.go.set()
    assert await run == 0
    assert slow.count == 3_000_000


async def test_a_gigabyte_of_output_takes_little_memory(
    runner: CommandRunner, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    class Counting:
        def __init__(self) -> None:
            self.count = self.peak = 0
            self.longest = 0

        async def write(self, lines: Sequence[str]) -> None:
            self.count += len(lines)
            self.longest = max(self.longest, len(lines))
            if self.count % (200 * BATCH_LINES) < BATCH_LINES:
                self.peak = max(self.peak, process.memory_info().rss)

    process = psutil.Process()
    log = Counting()
    before, started = process.memory_info().rss, time.monotonic()
    assert await runner.run(order(f"yes {'x' * 99} | head -c 1000000000", tmp_path, 150), log) == 0
    growth = (log.peak - before) / 1e6
    record_property("seconds", round(time.monotonic() - started, 1))
    record_property("megabytes", round(growth, 1))
    assert log.count == 10_000_000
    assert log.longest == BATCH_LINES
    assert growth < 50
