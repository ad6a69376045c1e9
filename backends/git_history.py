"""Commits as git lists them, read as a stream: a body of 10 MB costs the time to skip it, not the memory to hold it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from pithead.delivery.plain_text import cut, plain, plain_line
from pithead.delivery.ports import Commit, FileChange

SUBJECT_CHARACTERS = 300
BODY_CHARACTERS = 2000
AUTHOR_CHARACTERS = 100

LOG_SETTINGS = (
    # A file above this size counts as binary, so that a commit of huge files is listed as fast as any other.
    "core.bigFileThreshold=8m",
    "diff.renameLimit=400",
)
LOG_FORMAT = (
    "log",
    "-z",
    "--topo-order",
    "--encoding=UTF-8",
    "--format=%H%x00%P%x00%aN%x00%ct%x00%s%x00%b%x00",
)
NAMED_FORMAT = "--format=%H%x00%s%x00"
DIFF_FORMAT = ("--diff-merges=first-parent", "--no-relative", "-M")

_FIELDS = 7
_FIELD_BYTES = 4 * BODY_CHARACTERS + 1024
"""More than the longest text kept, whatever its characters take in UTF-8."""
_COUNTS = (
    re.compile(rb"(\d+) files? changed"),
    re.compile(rb"(\d+) insertions?\(\+\)"),
    re.compile(rb"(\d+) deletions?\(-\)"),
)


class FieldReader:
    """Cuts a stream of bytes at its NULs and hands on each field, shortened to what can matter of it."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._field = bytearray()

    def feed(self, chunk: bytes) -> None:
        *ended, rest = chunk.split(b"\0")
        for part in ended:
            self._keep(part)
            self._end_field()
        self._keep(rest)

    def close(self) -> None:
        """Hands on what came after the last NUL."""
        self._end_field()

    def _keep(self, part: bytes) -> None:
        self._field += part[: max(0, _FIELD_BYTES - len(self._field))]

    def _end_field(self) -> None:
        self._take(bytes(self._field))
        self._field.clear()


class LogReader:
    """Reads the output of `git log` in `LOG_FORMAT`, with or without `--shortstat`, into commits."""

    def __init__(self) -> None:
        self._commits: list[Commit] = []
        self._record: list[bytes] = []
        self._fields = FieldReader(self._take)

    def feed(self, chunk: bytes) -> None:
        self._fields.feed(chunk)

    def commits(self) -> tuple[Commit, ...]:
        """All commits of a stream that came to its end, in git's order."""
        self._fields.close()
        if self._record:
            self._count(self._record[0])
        return tuple(self._commits)

    def _take(self, field: bytes) -> None:
        self._record.append(field)
        if len(self._record) == _FIELDS:
            # git prints a commit's counts behind the NUL that ends it, so they arrive with the next one's sha.
            counts, _, self._record[0] = self._record[0].rpartition(b"\n")
            self._count(counts)
            self._commits.append(_commit(self._record))
            self._record = []

    def _count(self, counts: bytes) -> None:
        if counts.strip():
            files, added, deleted = (int(found[1]) if (found := one.search(counts)) else 0 for one in _COUNTS)
            self._commits[-1] = replace(self._commits[-1], files=files, added=added, deleted=deleted)


def _commit(record: Sequence[bytes]) -> Commit:
    sha, parents, author, committed_at, subject, body, _ = record
    return Commit(
        sha=sha.decode("ascii"),
        parents=tuple(parents.decode("ascii").split()),
        author=plain_line(_text(author), AUTHOR_CHARACTERS),
        committed_at=float(committed_at) if committed_at.isdigit() else 0.0,
        subject=plain_line(_text(subject), SUBJECT_CHARACTERS),
        body=_body(body),
        is_mainline=False,
    )


def _body(body: bytes) -> str:
    text = plain(_text(body)).strip()
    was_shortened = len(body) == _FIELD_BYTES
    return cut(f"{text}…" if was_shortened else text, BODY_CHARACTERS)


def _text(field: bytes) -> str:
    return field.decode("utf-8", "replace")


def with_mainline(commits: Sequence[Commit], head: str) -> tuple[Commit, ...]:
    """The commits, marked where they are reached from `head` by first parents only. They stand newest first."""
    mainline = head
    marked = []
    for commit in commits:
        is_mainline = commit.sha == mainline
        if is_mainline:
            mainline = commit.parents[0] if commit.parents else ""
        marked.append(replace(commit, is_mainline=is_mainline))
    return tuple(marked)


def without_counts(commits: Iterable[Commit], boundary: frozenset[str]) -> tuple[Commit, ...]:
    """The commits, with no size where a shallow clone cut the parent away: git would count the whole tree as added."""
    return tuple(
        replace(commit, files=0, added=0, deleted=0) if commit.sha in boundary else commit for commit in commits
    )


def file_changes(output: bytes) -> tuple[FileChange, ...]:
    """What `git log --format= -z --numstat` printed for one commit. A renamed file is named by its new path."""
    changes = []
    fields = iter(output.lstrip(b"\n").split(b"\0"))
    for field in fields:
        if field.count(b"\t") < 2:
            continue
        added, deleted, path = field.split(b"\t", 2)
        if not path:
            next(fields, b"")
            path = next(fields, b"")
        changes.append(FileChange(_path(path), _number(added), _number(deleted)))
    return tuple(changes)


def _path(path: bytes) -> str:
    return plain(_text(path)).replace("\n", "␊").replace("\t", "␉")


def _number(digits: bytes) -> int:
    """Zero for the `-` of a binary file."""
    return int(digits) if digits.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Divergence:
    """How two commits lie to each other: how many each of them has that the other lacks."""

    lost: int
    gained: int


def oddness(branch: str, base: str, divergence: Divergence | None, *, is_shallow: bool) -> str:
    """In words, what is odd about a live commit that is not an ancestor of the head. No divergence: it is gone."""
    short = base[:12]
    match divergence:
        case None:
            return (
                f"The live commit {short} is not in this repository: {branch} was rewritten, or this is another clone."
            )
        case Divergence(lost, 0):
            return f"The live commit {short} is {_commits(lost)} ahead of {branch}: the branch was moved back."
        case Divergence() if is_shallow:
            return f"The live commit {short} is not seen on {branch}: it was rewritten, or the clone is too shallow."
        case Divergence(lost, _):
            return (
                f"The live commit {short} is not on {branch} any more: the branch was rewritten. "
                f"A release takes {_commits(lost)} away."
            )


def _commits(number: int) -> str:
    return f"{number} commit" if number == 1 else f"{number} commits"


@dataclass(frozen=True, slots=True)
class Named:
    """A commit that a name may stand for."""

    sha: str
    subject: str


def named(output: bytes) -> tuple[Named, ...]:
    """What `git log -z` printed in `NAMED_FORMAT`."""
    fields = _text(output).split("\0")
    return tuple(Named(sha, plain_line(subject, 60)) for sha, subject in zip(fields[::3], fields[1::3], strict=False))
