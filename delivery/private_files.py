"""Files and folders that hold what is nobody else's business, and reading that cannot be made to hang or to swell."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pithead.delivery.ports import BackendError


def read_regular(path: Path, limit_bytes: int) -> tuple[bytes, os.stat_result]:
    """The content, one byte more than the limit at most, and whose it is. OSError if it is no regular file.

    A pipe without a writer, or a device, does not make the caller wait.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(f"{path} is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit_bytes + 1), status
    finally:
        os.close(descriptor)


def make_private_folder(path: Path) -> Path:
    """The folder, made with all that is missing above it, open to its owner only. BackendError if that cannot be."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if status.st_uid != os.geteuid():
            raise BackendError(f"The folder {path} belongs to another user.", "Set PITHEAD_STATE to a folder of yours.")
        if stat.S_IMODE(status.st_mode) & 0o077:
            path.chmod(0o700)
    except OSError as error:
        reason = error.strerror or str(error)
        mend = "Make room for it, or set PITHEAD_STATE to a folder that can be written."
        raise BackendError(f"The folder {path} cannot be made: {reason}.", mend) from error
    return path
