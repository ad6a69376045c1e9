"""Our side of a guard (guard.py), for the calls of git that may take long: they must not outlive us."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pithead.delivery.ports import BackendError

GRACE_SECONDS = 1.0

_GUARD = Path(__file__).with_name("guard.py")


class Guarded:
    """The two pipes of one guard: the lifeline, whose other end it watches, and its report. A context that closes them."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self._lifeline_end, self._lifeline = _pipe(stack)
            self._report, self._report_end = _pipe(stack)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def passed(self) -> tuple[int, int]:
        """The descriptors that the guard inherits."""
        return self._lifeline_end.fileno(), self._report_end.fileno()

    def command(self, program: Sequence[str]) -> list[str]:
        """The command that runs this program, named by its full path, under a guard."""
        return [sys.executable, "-I", "-S", str(_GUARD), *map(str, self.passed), str(GRACE_SECONDS), *program]

    def has_started(self) -> None:
        """Lets go of what the guard inherited: it has to be the only one that holds its ends."""
        self._lifeline_end.close()
        self._report_end.close()

    def status(self) -> int:
        """The program's exit status, negative for a signal. To be asked when the guard has ended."""
        match self._report.read().split():
            case [b"exited", code, *_]:
                return int(code)
            case [b"killed", number, *_]:
                return -int(number)
            case _:  # the guard was killed before it could tell
                return -signal.SIGKILL


def _pipe(stack: ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    try:
        reading, writing = os.pipe()
    except OSError as error:
        raise BackendError(f"No pipe for git: {error.strerror}.", "Raise the limit of open files.") from error
    return stack.enter_context(os.fdopen(reading, "rb")), stack.enter_context(os.fdopen(writing, "wb"))
