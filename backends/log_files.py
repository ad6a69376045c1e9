"""The output of instances and of Envoy: files that are bounded in size, and whose last lines say what went wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

from pithead.delivery.plain_text import plain_line

LARGEST_BYTES: Final = 10 * 1024 * 1024

_TAIL_BYTES: Final = 16 * 1024
_LONGEST_LINE: Final = 300


def tail(path: Path, count: int) -> list[str]:
    """The last lines, made safe for a screen; none when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            data = file.read(_TAIL_BYTES)
    except OSError:
        return []
    lines = [plain_line(line, _LONGEST_LINE) for line in data.decode("utf-8", "replace").splitlines()]
    return [line for line in lines if line][-count:]


def bound(path: Path) -> None:
    """Moves what a file holds aside when it has grown too large, so that it and the part before take 20 MB at most.

    The writer has it open for appending, so it goes on at the start. Lines written during the copy are lost.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size > LARGEST_BYTES:
            aside = path.with_name(f"{path.name}.1")
            with path.open("rb") as full, aside.open("wb") as kept:
                aside.chmod(0o600)
                full.seek(-LARGEST_BYTES, os.SEEK_END)
                shutil.copyfileobj(full, kept)
            os.truncate(path, 0)
