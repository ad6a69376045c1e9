"""Runs the operator's own command lines: builds, tests, hooks.

Each runs under a guard process (`guard.py`), so that nothing of it is left when it ends, times out, is cancelled, or
when Pithead itself is killed. Its output is handed on in batches and no faster than the log takes it: a command that
prints 1 GB waits for the disk, in a pipe, not in our memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Final

from pithead.backends.clean_environment import clean_environment
from pithead.backends.finishing import finish
from pithead.backends.output_lines import OutputLines
from pithead.delivery.durations import format_duration
from pithead.delivery.plain_text import plain_line
from pithead.delivery.ports import BackendError, CheckFailed, Command, Log

SHELL: Final = "/bin/sh"
BATCH_LINES: Final = 500
BATCH_SECONDS: Final = 0.1
GRACE_SECONDS: Final = 3.0

_GUARD: Final = Path(__file__).with_name("guard.py")
_CHUNK_BYTES: Final = 256 * 1024
_PIPE_BYTES: Final = 1024 * 1024
_GUARD_PATIENCE_SECONDS: Final = 15.0
"""Beyond the grace: longer than the guard itself repeats SIGKILL."""


class GuardedCommands:
    """The `CommandRunner` of every stage.

    `run` returns the exit status as a shell reports it: 127 for a command that does not exist, 128+n for one that
    signal n ended.
    """

    def __init__(self, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._grace_seconds = grace_seconds

    async def run(self, command: Command, log: Log) -> int:
        """CheckFailed on time-out, BackendError if no shell could be started, never because of the exit status."""
        async with _guarded(command, self._grace_seconds) as guard:
            relay = _Relay(log)
            clock = asyncio.timeout(command.timeout_seconds)
            try:
                async with clock:
                    await relay.run(guard.output)
                    return _status(await guard.report.read())
            except TimeoutError:
                if not clock.expired():
                    raise
                await relay.finish()
                raise CheckFailed(
                    f"`{_shown(command)}` took longer than {format_duration(command.timeout_seconds)} and was ended.",
                    "Give it more time with `timeout`, or find out what it waits for.",
                ) from None


class _Guard:
    """A running guard: the command's output, and the report, whose end is the end of the guard."""

    def __init__(self, process: subprocess.Popen[bytes], output: asyncio.StreamReader, report: asyncio.StreamReader):
        self.process = process
        self.output = output
        self.report = report

    async def end(self, patience_seconds: float) -> None:
        """Waits until the guard, whose lifeline was cut, has ended the command; kills a guard that is stuck."""
        try:
            async with asyncio.timeout(patience_seconds):
                while await self.report.read(_CHUNK_BYTES):
                    pass
        except TimeoutError:
            self.process.kill()
        await asyncio.to_thread(self.process.wait)


@contextlib.asynccontextmanager
async def _guarded(command: Command, grace_seconds: float) -> AsyncIterator[_Guard]:
    with contextlib.ExitStack() as stack:
        lifeline_end, lifeline = _pipe(stack)
        report, report_end = _pipe(stack)
        output, output_end = _pipe(stack)
        _widen(output)
        passed = (lifeline_end.fileno(), report_end.fileno())
        process = _start_guard(command, output_end, passed, grace_seconds)
        # From here on the guard must be ended, also if we are cancelled while its pipes are being connected.
        for ours in (lifeline_end, report_end, output_end):
            ours.close()
        guard: _Guard | None = None
        try:
            guard = _Guard(process, await _reader(output, stack), await _reader(report, stack))
            yield guard
        finally:
            lifeline.close()
            if guard is not None:
                await finish(guard.end(grace_seconds + _GUARD_PATIENCE_SECONDS))
            else:
                await finish(asyncio.to_thread(process.wait))


def _start_guard(
    command: Command, output: IO[bytes], passed: tuple[int, int], grace_seconds: float
) -> subprocess.Popen[bytes]:
    lifeline, report = passed
    try:
        return subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", str(_GUARD)),
                *(str(lifeline), str(report), str(grace_seconds)),
                *(SHELL, "-c", command.line),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=passed,
            cwd=command.folder,
            env=clean_environment(command.environment),
            start_new_session=True,
        )
    except OSError as error:
        raise BackendError(
            f"`{_shown(command)}` could not be started in {command.folder}: {error.strerror}.",
            "Check that the folder is there and that this machine has memory and processes to spare.",
        ) from error


def _shown(command: Command) -> str:
    return plain_line(command.line, 120)


def _pipe(stack: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    try:
        reading, writing = os.pipe()
    except OSError as error:
        raise BackendError(f"No pipe for a command: {error.strerror}.", "Raise the limit of open files.") from error
    return (
        stack.enter_context(os.fdopen(reading, "rb", buffering=0)),
        stack.enter_context(os.fdopen(writing, "wb", buffering=0)),
    )


def _widen(pipe: IO[bytes]) -> None:
    """Fewer wake-ups for commands that print a lot. Past its quota, a user is refused; the pipe works all the same."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


async def _reader(pipe: IO[bytes], stack: contextlib.ExitStack) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=_CHUNK_BYTES)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    stack.callback(transport.close)
    return reader


class _Relay:
    """Hands output on to a log, in batches; a line waits for others for `BATCH_SECONDS` at most."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._splitter = OutputLines()
        self._waiting: list[str] = []

    async def run(self, output: asyncio.StreamReader) -> None:
        """Until the end of the output. What is still waiting when this is cancelled can be had with `finish`."""
        loop = asyncio.get_running_loop()
        due = 0.0
        while True:
            try:
                async with asyncio.timeout_at(due if self._waiting else None):
                    chunk = await output.read(_CHUNK_BYTES)
            except TimeoutError:
                await self._write(len(self._waiting))
                continue
            if not chunk:
                return await self.finish()
            if not self._waiting:
                due = loop.time() + BATCH_SECONDS
            self._waiting += self._splitter.feed(chunk)
            await self._write(len(self._waiting) - len(self._waiting) % BATCH_LINES)

    async def finish(self) -> None:
        self._waiting += self._splitter.rest()
        await self._write(len(self._waiting))

    async def _write(self, count: int) -> None:
        """Lines leave `_waiting` before they are written, so that none is written twice."""
        lines, self._waiting = self._waiting[:count], self._waiting[count:]
        for start in range(0, count, BATCH_LINES):
            await self._log.write(lines[start : start + BATCH_LINES])


def _status(report: bytes) -> int:
    match report.decode().split():
        case ["exited", code, *_]:
            return int(code)
        case ["killed", number, *_]:
            return 128 + int(number)
        case ["unstartable", number, *_]:
            raise BackendError(f"{SHELL} could not be started: {os.strerror(int(number))}.")
        case _:
            raise BackendError(
                "The guard of a command ended without saying what became of it.",
                "Something killed it, perhaps for want of memory; try again.",
            )
