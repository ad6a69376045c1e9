"""What `pithead doctor` finds: whether all that a release needs is there, and the mend for what is not.

It looks at this machine, at the journal and at each backend that the configuration names. Nothing that it meets ends
it: what hangs, breaks or was written badly becomes a finding itself.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pithead.console.registry import Backends
from pithead.delivery.config import SLOTS, Config, ConfigErrors
from pithead.delivery.config_errors import printable
from pithead.delivery.config_words import sentence
from pithead.delivery.durations import format_duration
from pithead.delivery.ports import Finding, PortError
from pithead.delivery.private_files import make_private_folder

PATIENCE_SECONDS: Final = 30.0
OLDEST_PYTHON: Final = (3, 11)
OLDEST_GIT: Final = (2, 20)
SMALLEST_TERMINAL: Final = (80, 24)
LEAST_FREE_BYTES: Final = 1024**3

JournalCheck = Callable[[], Awaitable[Sequence[Finding]]]


async def examine(config: Config, backends: Backends, journal: JournalCheck | None = None) -> list[Finding]:
    """All findings: this machine first, then the journal, then the backends, in the order of a release.

    `journal` says whether the journal can be reached. Everything is asked at once; what does not answer within
    `PATIENCE_SECONDS` is a finding that says so.
    """
    questions: list[tuple[str, Coroutine[Any, Any, Sequence[Finding]]]] = [
        ("this machine", asyncio.to_thread(machine)),
        ("state folder", asyncio.to_thread(state_folder, config)),
        ("git", git()),
    ]
    if journal is not None:
        questions.append(("journal", _awaited(journal)))
    for slot in SLOTS:
        questions.append((f"{slot} {config.choice(slot).name}", _awaited(getattr(backends, slot).check)))
    answers = await asyncio.gather(*(_answer(subject, question) for subject, question in questions))
    return [finding for answer in answers for finding in answer]


async def _awaited(ask: JournalCheck) -> Sequence[Finding]:
    return await ask()


async def _answer(subject: str, question: Coroutine[Any, Any, Sequence[Finding]]) -> Sequence[Finding]:
    try:
        return tuple(await asyncio.wait_for(question, PATIENCE_SECONDS))
    except TimeoutError:
        waited = format_duration(PATIENCE_SECONDS)
        return (Finding(subject, False, f"no answer within {waited}", "Is what it talks to running?"),)
    except PortError as error:
        return (Finding(subject, False, error.message, error.mend),)
    except ConfigErrors as errors:
        return tuple(Finding(subject, False, f"{error.file}: {error.message}", error.mend) for error in errors.errors)
    except Exception as error:  # a stranger's backend may raise what it likes
        detail = sentence(f"{type(error).__name__}: {error}")
        return (Finding(subject, False, detail, "This is a fault of the backend; tell its author."),)


def machine() -> list[Finding]:
    """Python and the terminal."""
    return [_python(), _terminal()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    oldest = ".".join(map(str, OLDEST_PYTHON))
    is_well = sys.version_info[:2] >= OLDEST_PYTHON
    return Finding("Python", is_well, version, "" if is_well else f"Use Python {oldest} or newer.")


def _terminal() -> Finding:
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        return Finding("terminal", True, "none here: commands work, the console needs one")
    columns, rows = shutil.get_terminal_size()
    kind = printable(os.environ.get("TERM", ""))
    detail = f"{kind or 'TERM is not set'}, {columns}×{rows}, {sys.stdout.encoding}"
    if kind in ("", "dumb"):
        return Finding("terminal", False, detail, "export TERM=xterm-256color")
    if not _is_utf8(sys.stdout.encoding):
        return Finding("terminal", False, detail, "export LANG=C.UTF-8")
    if columns < SMALLEST_TERMINAL[0] or rows < SMALLEST_TERMINAL[1]:
        return Finding("terminal", False, detail, "Enlarge the window to 80×24 or more.")
    return Finding("terminal", True, detail)


def _is_utf8(encoding: str | None) -> bool:
    try:
        return codecs.lookup(encoding or "").name == "utf-8"
    except LookupError:
        return False


def state_folder(config: Config) -> list[Finding]:
    """Whether the service's state folder can be written, is private, and has room."""
    folder = make_private_folder(config.state_folder())
    shown = printable(str(folder))
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"pithead")
            file.flush()
        free = shutil.disk_usage(folder).free
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError as error:
        mend = "Make room for it, or set PITHEAD_STATE to a folder that can be written."
        return [Finding("state folder", False, f"{shown} cannot be written: {error.strerror}", mend)]
    is_private = not mode & 0o077
    return [
        Finding("state folder", is_private, f"{shown}, mode {mode:03o}", "" if is_private else f"chmod 700 {shown}"),
        _disk(free, folder),
    ]


def _disk(free_bytes: int, folder: Path) -> Finding:
    is_well = free_bytes >= LEAST_FREE_BYTES
    detail = f"{free_bytes / 1024**3:.1f} GiB free"
    mend = f"Make room on the disk of {printable(str(folder))}; 1 GiB is the least."
    return Finding("disk", is_well, detail, "" if is_well else mend)


async def git() -> list[Finding]:
    """Whether there is a git that is new enough."""
    path = shutil.which("git")
    if path is None:
        return [Finding("git", False, "not found", "Install git, or put it on the PATH.")]
    process = await asyncio.create_subprocess_exec(
        path, "--version", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    version = output.decode(errors="replace").strip().removeprefix("git version ").split(" ")[0]
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if process.returncode or len(numbers) < 2:
        return [Finding("git", False, f"{printable(path)} does not work", "Install git anew.")]
    is_well = numbers >= OLDEST_GIT
    return [Finding("git", is_well, version, "" if is_well else f"Use {'.'.join(map(str, OLDEST_GIT))} or newer.")]


def to_text(findings: Sequence[Finding]) -> str:
    """One line a finding, its mend below it if it is not well, and the count of what is wrong at the end."""
    width = max((len(finding.subject) for finding in findings), default=0)
    lines = []
    for finding in findings:
        mark = "✔" if finding.is_well else "✘"
        lines.append(f"{mark} {printable(finding.subject):{width}}  {printable(finding.detail)}".rstrip())
        if not finding.is_well and finding.mend:
            lines.append(f"  {'':{width}}  → {printable(finding.mend)}")
    wrong = sum(not finding.is_well for finding in findings)
    lines.append("All is well." if not wrong else f"{wrong} of {len(findings)} need mending.")
    return "\n".join(lines)


def to_json(findings: Sequence[Finding]) -> str:
    """`{"is_well": …, "findings": [{"subject", "is_well", "detail", "mend"}, …]}`"""
    is_well = all(finding.is_well for finding in findings)
    content = {"is_well": is_well, "findings": [asdict(finding) for finding in findings]}
    return json.dumps(content, ensure_ascii=False, indent=2)
