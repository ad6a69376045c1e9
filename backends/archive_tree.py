"""Packs a folder into a content-addressed tree and tells whether a packed one is still what it was.

The digest is the SHA-256 of a canonical listing: every entry's kind, path and content, sorted by path; nothing of times,
owners or the umask. The same tree has the same digest on every machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pithead.delivery.plain_text import plain_line
from pithead.delivery.ports import CheckFailed

Kind = Literal["file", "program", "folder", "link"]

_CHUNK_BYTES: Final = 1024 * 1024
_MODES: Final[dict[Kind, int]] = {"file": 0o444, "program": 0o555, "folder": 0o555}
_LEFT_OUT: Final = ".git"
"""A checkout's link to its repository, at any depth: it names a folder of this machine that is gone tomorrow."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a tree. `content` is a file's SHA-256, a link's target, and empty for a folder."""

    path: str
    kind: Kind
    content: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """A whole tree, sorted by path."""

    entries: tuple[Entry, ...]

    @property
    def digest(self) -> str:
        summary = hashlib.sha256()
        for entry in self.entries:
            for field in (entry.kind, entry.path, entry.content):
                summary.update(os.fsencode(field) + b"\0")
        return summary.hexdigest()

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def file_count(self) -> int:
        return sum(entry.kind in ("file", "program") for entry in self.entries)

    def to_json(self) -> list[list[Any]]:
        return [[entry.path, entry.kind, entry.content, entry.size_bytes] for entry in self.entries]

    @classmethod
    def from_json(cls, rows: Iterable[Iterable[Any]]) -> Listing:
        return cls(tuple(Entry(*row) for row in rows))


def pack(source: Path, tree: Path) -> Listing:
    """Copies `source` to `tree`, which must not exist, and makes the copy read-only.

    CheckFailed for what cannot be packed: links that lead out of the tree, sockets, devices, unreadable files.
    """
    tree.mkdir(mode=0o700)
    root = source.resolve()
    entries = sorted((_copy(root, path, tree) for path in _walk(root)), key=lambda entry: os.fsencode(entry.path))
    _close_folders(tree, entries)
    return Listing(tuple(entries))


def is_intact(tree: Path, listing: Listing) -> bool:
    """Everything that was packed is there unchanged. What a service wrote beside it since does not count."""
    try:
        return all(_is_unchanged(tree, entry) for entry in listing.entries)
    except OSError:
        return False


def remove(folder: Path) -> None:
    """Removes a folder that holds read-only ones."""
    for path, _, _ in os.walk(folder):
        Path(path).chmod(0o700)
    shutil.rmtree(folder)


def _walk(root: Path) -> Iterator[str]:
    """Paths below `root`, folders before what is in them."""
    queue = [""]
    while queue:
        above = queue.pop()
        with os.scandir(root / above) as found:
            for item in found:
                if item.name == _LEFT_OUT:
                    continue
                path = f"{above}/{item.name}" if above else item.name
                yield path
                if item.is_dir(follow_symlinks=False):
                    queue.append(path)


def _copy(root: Path, path: str, tree: Path) -> Entry:
    source, copy = root / path, tree / path
    status = source.lstat()
    match stat.S_IFMT(status.st_mode):
        case stat.S_IFDIR:
            copy.mkdir(mode=0o700)
            return Entry(path, "folder", "")
        case stat.S_IFLNK:
            target = _target_inside(root, path)
            copy.symlink_to(target)
            return Entry(path, "link", target)
        case stat.S_IFREG:
            kind: Kind = "program" if status.st_mode & stat.S_IXUSR else "file"
            content, size = _copy_file(source, copy, path)
            copy.chmod(_MODES[kind])
            return Entry(path, kind, content, size)
        case _:
            raise CheckFailed(
                f"{_shown(path)} is neither a file, a folder nor a link, so it cannot be packed.",
                "Have the build command remove it.",
            )


def _copy_file(source: Path, copy: Path, path: str) -> tuple[str, int]:
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    except PermissionError as error:
        raise CheckFailed(
            f"{_shown(path)} may not be read, so it cannot be packed.", "Have the build command make it readable."
        ) from error
    summary = hashlib.sha256()
    size = 0
    with os.fdopen(descriptor, "rb", buffering=0) as reading, copy.open("xb", buffering=0) as writing:
        while chunk := reading.read(_CHUNK_BYTES):
            summary.update(chunk)
            writing.write(chunk)
            size += len(chunk)
    return summary.hexdigest(), size


def _target_inside(root: Path, path: str) -> str:
    link = root / path
    target = os.readlink(link)  # noqa: PTH115 - Path would tidy it
    # The real path and not the written one: a chain of links, each of them harmless, can lead out.
    if os.path.isabs(target) or not Path(os.path.realpath(link)).is_relative_to(root):  # noqa: PTH117
        raise CheckFailed(
            f"{_shown(path)} is a link to {_shown(target)}, which lies outside the tree.",
            "An artifact must hold all that it needs: copy the file there, or remove the link.",
        )
    return target


def _close_folders(tree: Path, entries: Iterable[Entry]) -> None:
    for entry in entries:
        if entry.kind == "folder":
            (tree / entry.path).chmod(_MODES["folder"])
    tree.chmod(_MODES["folder"])


def _is_unchanged(tree: Path, entry: Entry) -> bool:
    path = tree / entry.path
    status = path.lstat()
    match entry.kind:
        case "folder":
            return stat.S_ISDIR(status.st_mode)
        case "link":
            return stat.S_ISLNK(status.st_mode) and os.readlink(path) == entry.content  # noqa: PTH115 - as written
        case "file" | "program":
            is_program = bool(status.st_mode & stat.S_IXUSR)
            if not stat.S_ISREG(status.st_mode) or is_program != (entry.kind == "program"):
                return False
            if status.st_size != entry.size_bytes:
                return False
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == entry.content


def _shown(path: str) -> str:
    return plain_line(os.fsencode(path).decode("utf-8", "replace"), 120)
