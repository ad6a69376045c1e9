"""Git, asked politely: no prompt, no pager, no hook, a time-out on everything, and an answer that an operator can use.

`ask` returns what git said, `run` raises BackendError unless it went well. Both end the process when they are
cancelled, and a guarded one even ends when we are killed. Names and shas from outside are the caller's to validate
before they become arguments.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pithead.backends.git_process import Ending, GitProcess, Sink
from pithead.delivery.plain_text import cut, plain
from pithead.delivery.ports import BackendError

READ_TIMEOUT_SECONDS = 120.0

_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PAGER": "cat",
    "GIT_EDITOR": "false",
    "GCM_INTERACTIVE": "never",
}
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "log.showSignature=false",
    "log.showRoot=true",
    "diff.ignoreSubmodules=none",
    "gc.auto=0",
    "maintenance.auto=false",
)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_LEAD = re.compile(r"^(?:fatal|error|remote|ssh): ?", re.IGNORECASE)
_COMPLAINT_CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class Answer:
    """What git said: exit status, standard output (empty when a sink took it), and its complaint as safe text."""

    status: int
    output: bytes
    complaint: str

    @property
    def is_good(self) -> bool:
        return self.status == 0

    @property
    def words(self) -> str:
        """The output as one trimmed string, for the commands that print a sha or a number."""
        return self.output.decode("utf-8", "replace").strip()


class TookTooLong(BackendError):
    """Git was ended because it did not come to an end by itself."""


class GitCommands:
    """Git in one repository. `folder` is where it is, or lies within, in absolute form."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def run(
        self,
        *arguments: str,
        sink: Sink | None = None,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
        settings: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        is_guarded: bool = False,
    ) -> Answer:
        """The answer to a command that has to go well: BackendError when it does not."""
        answer = await self.ask(
            *arguments,
            sink=sink,
            timeout_seconds=timeout_seconds,
            settings=settings,
            environment=environment,
            is_guarded=is_guarded,
        )
        if not answer.is_good:
            raise BackendError(
                f"git {arguments[0]} in {self.folder} failed: {first_line(answer.complaint)}.", "See `pithead doctor`."
            )
        return answer

    async def ask(
        self,
        *arguments: str,
        sink: Sink | None = None,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
        settings: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        is_guarded: bool = False,
    ) -> Answer:
        """The answer, whatever the exit status. BackendError when git or the repository cannot be used at all."""
        output = bytearray()
        options = [part for setting in (*_SETTINGS, *settings) for part in ("-c", setting)]
        process = GitProcess(
            ["-C", str(self.folder), *options, *arguments],
            {**_ENVIRONMENT, **(environment or {})},
            timeout_seconds,
            sink or output.extend,
            is_guarded=is_guarded,
        )
        ending = await _in_thread(process)
        if ending.timed_out:
            raise TookTooLong(
                f"git {arguments[0]} in {self.folder} took more than {timeout_seconds:g} seconds.",
                "Is its disk slow, or away?",
            )
        answer = Answer(ending.status, bytes(output), _readable(ending.complaint))
        if not answer.is_good:
            _refuse_unusable(answer.complaint, self.folder)
        return answer


def first_line(complaint: str) -> str:
    """The line of git's complaint that says why, without git's own prefix."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    telling = (
        [line for line in lines if line.startswith(("fatal:", "error:", "ssh:"))] or lines or ["it did not say why"]
    )
    return cut(_LEAD.sub("", telling[0]), _COMPLAINT_CHARACTERS)


async def _in_thread(process: GitProcess) -> Ending:
    thread = asyncio.ensure_future(asyncio.to_thread(process.run))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        process.end()
        await asyncio.wait([thread])
        thread.exception()  # asked for, so that asyncio does not report it
        raise


def _readable(complaint: bytes) -> str:
    return _CREDENTIALS.sub("", plain(complaint.decode("utf-8", "replace")))


def _refuse_unusable(complaint: str, folder: Path) -> None:
    """BackendError when the complaint is about the repository as a whole, whatever was asked of it."""
    if "dubious ownership" in complaint:
        found = re.search(r"safe\.directory (\S.*)", complaint)
        place = found[1].strip() if found else str(folder)
        raise BackendError(
            f"git does not trust {folder}: it belongs to another user.",
            f"If you trust it: git config --global --add safe.directory {place}",
        )
    if "not a git repository" in complaint:
        raise BackendError(
            f"{folder} is not in a git repository.",
            "Point the source's `repository` at a clone, or run `git init` there.",
        )
    if "cannot change to" in complaint:
        raise BackendError(
            f"{folder}: {first_line(complaint)}.", "Point the source's `repository` at a folder that is there."
        )
    if "No space left on device" in complaint:
        raise BackendError(f"git in {folder}: the disk is full.", "Free some space, then try again.")
