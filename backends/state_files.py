"""Small state files and locks: how several processes share a state folder without ever reading half a file.

Files are written beside their place and renamed into it, readable by their owner only. Locks are the kernel's
(`flock`): they are free again the moment their holder is gone, however it went.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Any

from pithead.delivery.ports import BackendError


def write_json(path: Path, value: Any) -> None:
    """Puts the value in the file's place as a whole. BackendError when the disk is full or the folder read-only."""
    write_text(path, json.dumps(value, indent=1))


def write_text(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    with _told(path):
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            beside.replace(path)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """What the file holds; None where there is no file. BackendError when it cannot be read or is damaged."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BackendError(f"{path} could not be read: {error.strerror}.", "Check who owns it.") from error
    except ValueError as error:
        raise BackendError(f"{path} is damaged: {error}.", "Remove it; it is written anew.") from error


@contextlib.asynccontextmanager
async def locked(
    path: Path, *, poll_seconds: float = 0.02, while_waiting: Callable[[], None] | None = None
) -> AsyncIterator[None]:
    """Holds the lock. Waiting can be cancelled, also by what `while_waiting` raises; it takes no thread."""
    with _lock_file(path) as file:
        while not _is_taken(file):
            if while_waiting is not None:
                while_waiting()
            await asyncio.sleep(poll_seconds)
        yield


@contextlib.contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Holds the lock and gives True, or gives False at once when somebody else holds it."""
    with _lock_file(path) as file:
        yield _is_taken(file)


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[IO[bytes]]:
    with _told(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        yield file


def _is_taken(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackendError(
            f"{path} could not be written: {error.strerror}.",
            "Free some space on its disk and check that its folder belongs to you.",
        ) from error
