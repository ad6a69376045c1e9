"""Pins say that an artifact is in use, so that the builder which made it does not remove it from under an instance.

A pin is a small file beside the artifact's tree that names the holder's state file. It counts for as long as that
file names the artifact's digest: a holder that is gone, state and all, pins nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Final

from pithead.backends.state_files import write_text

FOLDER: Final = "pins"


def pin(location: str, holder: Path) -> None:
    """Pins the artifact at this location for `holder`. Nothing happens to artifacts of builders that know no pins."""
    pins = Path(location).parent / FOLDER
    if pins.is_dir():
        name = hashlib.sha256(bytes(holder)).hexdigest()[:16]
        write_text(pins / name, str(holder))


def is_pinned(artifact: Path) -> bool:
    """Some holder's state still names the digest after which the artifact's folder is called."""
    with contextlib.suppress(OSError):
        return any(_names(Path(pin.read_text("utf-8")), artifact.name) for pin in (artifact / FOLDER).iterdir())
    return False


def _names(holder: Path, digest: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return digest in holder.read_text("utf-8", errors="replace")
    return False
