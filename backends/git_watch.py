"""When to look at a branch again: a few `stat` calls tell that a ref cannot have moved, so that waiting costs nothing."""

from __future__ import annotations

import time
from pathlib import Path

_Mark = tuple[int, int, int] | None

_ANYWAY_SECONDS = 60.0


class RefFiles:
    """The files below a repository's common folder that change whenever the ref does: its own, the packed, a reftable."""

    def __init__(self, common_folder: Path, reference: str) -> None:
        places = (reference, "packed-refs", "reftable/tables.list")
        self._paths = tuple(common_folder / place for place in places)
        self._seen: tuple[_Mark, ...] | None = None
        self._looked_at = 0.0

    def may_have_changed(self) -> bool:
        """True at first, after any change of the files, and once a minute for what they do not show (symbolic refs)."""
        marks = tuple(_mark(path) for path in self._paths)
        now = time.monotonic()
        if marks == self._seen and now - self._looked_at < _ANYWAY_SECONDS:
            return False
        self._seen, self._looked_at = marks, now
        return True


def _mark(path: Path) -> _Mark:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
