"""One git process: started through GitPython, read in bounded memory, ended with all that it started.

GitPython's object layer asks a `cat-file` process per object and leaks it, and its own time-out signals processes one
by one. So only its command layer is used: it finds git, gives it a C locale and keeps passwords out of its log.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from pithead.backends.git_guard import Guarded
from pithead.delivery.ports import BackendError

Sink = Callable[[bytes], None]

_CHUNK_BYTES = 65536
_COMPLAINT_BYTES = 65536
_TICK_SECONDS = 0.2
_GRACE_SECONDS = 2.0
_PATIENCE_SECONDS = 10.0
"""What a guard gets to end what it guards, grace included, before it is ended itself."""
_FOREIGN = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
"""Variables that git sets for its hooks and aliases. Left in, they turn a command to another repository or index."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended. `complaint` is the end of its standard error, `timed_out` that it was ended for its slowness."""

    status: int
    complaint: bytes
    timed_out: bool = False


class GitProcess:
    """One call of git. `run` blocks and belongs into a thread, `end` may be called from any other one, at any time.

    A guarded one ends with us even when we are killed with SIGKILL, and so does all that it started. That costs 20 ms;
    the others are so short, or so sure to end when nobody reads them, that it is not needed.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        timeout_seconds: float,
        sink: Sink,
        *,
        is_guarded: bool = False,
    ) -> None:
        self._arguments = arguments
        self._is_guarded = is_guarded
        self._environment = environment
        self._timeout_seconds = timeout_seconds
        self._sink = sink
        self._complaint = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ended = False
        self._lock = threading.Lock()

    def run(self) -> Ending:
        """Starts git, feeds its output to the sink piece by piece, and waits for its end.

        BackendError when there is no git.
        """
        with ExitStack() as stack:
            guard = stack.enter_context(Guarded()) if self._is_guarded else None
            with self._lock:
                if self._is_ended:
                    return Ending(-signal.SIGTERM, b"")
                process = self._process = _start(self._arguments, self._environment, guard)
            try:
                is_late = self._drain(process)
            finally:
                _finish(process, _PATIENCE_SECONDS if guard else _GRACE_SECONDS)
            status = guard.status() if guard else process.returncode
        return Ending(status, bytes(self._complaint), is_late)

    def end(self) -> None:
        """Ends git and all that it started. It gets the time to take its lock files away."""
        with self._lock:
            self._is_ended = True
            if self._process is not None and self._process.returncode is None:
                _signal_group(self._process, signal.SIGTERM)

    def _drain(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + self._timeout_seconds
        with selectors.DefaultSelector() as selector:
            for stream, sink in ((process.stdout, self._sink), (process.stderr, self._complain)):
                if stream is not None:
                    selector.register(stream, selectors.EVENT_READ, sink)
            while selector.get_map():
                has_exited = process.poll() is not None
                ready = selector.select(_TICK_SECONDS)
                for key, _ in ready:
                    _feed(selector, key)
                # A lasting ssh master (ControlPersist) inherits standard error and never closes it.
                if self._is_ended or (has_exited and not ready):
                    return False
                if time.monotonic() > deadline:
                    return True
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        return process.returncode is None

    def _complain(self, chunk: bytes) -> None:
        self._complaint += chunk
        del self._complaint[:-_COMPLAINT_BYTES]


def _start(arguments: Sequence[str], environment: Mapping[str, str], guard: Guarded | None) -> subprocess.Popen[bytes]:
    try:
        from git.cmd import Git
        from git.exc import GitCommandNotFound
    except ImportError as error:  # GitPython does not even import where there is no git
        raise _no_git(str(error)) from error
    command = _command(Git.GIT_PYTHON_GIT_EXECUTABLE or "git", arguments)
    try:
        # "/" is always there. The current folder may be gone, and GitPython swaps a folder it cannot enter for that one.
        handle = Git("/").execute(
            guard.command(command) if guard else command,
            as_process=True,
            env=environment,
            start_new_session=True,
            pass_fds=guard.passed if guard else (),
        )
    except (OSError, GitCommandNotFound) as error:
        raise _no_git(str(error)) from error
    if guard:
        guard.has_started()
    process, handle.proc = handle.proc, None  # the handle's destructor would end what `_finish` ends better
    if process is None:
        raise _no_git("it was never there")
    return process


def _command(git: str, arguments: Sequence[str]) -> list[str]:
    program = shutil.which(git)
    if program is None:
        raise _no_git(f"there is no {git}")
    # GitPython adds to the environment but takes nothing away.
    foreign = [part for name in _FOREIGN if name in os.environ for part in ("-u", name)]
    cleaning = [shutil.which("env") or "/usr/bin/env", *foreign] if foreign else []
    return [*cleaning, program, *arguments]


def _no_git(reason: str) -> BackendError:
    first_line = reason.strip().partition("\n")[0]
    return BackendError(
        f"git could not be started: {first_line}.", "Install git 2.31 or later, and see that it is on PATH."
    )


def _feed(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    chunk = os.read(key.fd, _CHUNK_BYTES)
    if chunk:
        key.data(chunk)
    else:
        selector.unregister(key.fileobj)


def _finish(process: subprocess.Popen[bytes], patience_seconds: float) -> None:
    """Leaves nothing running and nothing open; a process that came to its end by itself is left its lasting children."""
    if process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_seconds)
        _signal_group(process, signal.SIGKILL)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
