"""Reading what git prints: the same commits however the stream is cut, in memory that does not grow with a message."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pithead.backends.git_history import Divergence, LogReader, file_changes, named, oddness, with_mainline
from pithead.delivery.ports import Commit, FileChange

ONE, TWO, THREE = "1" * 40, "2" * 40, "3" * 40
STREAM = (
    b"%s\0%s %s\0Ada\x001700000120\0Merge\0\0\0" % (THREE.encode(), TWO.encode(), ONE.encode())
    + b"\n 2 files changed, 10 insertions(+), 3 deletions(-)\n"
    + b"%s\0%s\0Gr\xc3\xa9ta\x001700000060\0Two\0Why.\n\nAnd how.\n\0\0" % (TWO.encode(), ONE.encode())
    + b"%s\0\0Ada\0\0\xff\0\0\0\n 1 file changed, 1 insertion(+)\n" % ONE.encode()
)
COMMITS = (
    Commit(THREE, (TWO, ONE), "Ada", 1700000120.0, "Merge", "", 10, 3, 2, is_mainline=False),
    Commit(TWO, (ONE,), "Gréta", 1700000060.0, "Two", "Why.\n\nAnd how.", is_mainline=False),
    Commit(ONE, (), "Ada", 0.0, "\ufffd", "", 1, 0, 1, is_mainline=False),
)


@given(st.lists(st.integers(0, len(STREAM))))
def test_a_stream_is_read_the_same_however_it_is_cut(cuts: list[int]) -> None:
    reader = LogReader()
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(edges):
        reader.feed(STREAM[start:end])
    assert reader.commits() == COMMITS


def test_an_empty_stream_is_no_commit() -> None:
    assert LogReader().commits() == ()


def test_a_giant_message_is_not_kept_in_memory() -> None:
    reader = LogReader()
    chunk = b"x" * 65536
    tracemalloc.start()
    try:
        reader.feed(b"%s\0\0Ada\x001\0" % ONE.encode())
        for _ in range(800):
            reader.feed(chunk)
        reader.feed(b"\0body\0\0")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    [commit] = reader.commits()
    assert len(commit.subject) == 300
    assert peak < 1_000_000


def test_the_mainline_follows_first_parents() -> None:
    marks = [commit.is_mainline for commit in with_mainline(COMMITS, THREE)]
    assert marks == [True, True, True]
    side = (Commit(THREE, (ONE, TWO), "Ada", 0.0, "Merge"), *COMMITS[1:])
    assert [commit.is_mainline for commit in with_mainline(side, THREE)] == [True, False, True]


def test_changes_are_read_with_binary_and_renamed_files() -> None:
    output = b"1\t2\ta.txt\0-\t-\tpicture.png\x000\t4\t\0old name\0new\xff\tname\n\0"
    assert file_changes(output) == (
        FileChange("a.txt", 1, 2),
        FileChange("picture.png", 0, 0),
        FileChange("new\ufffd␉name␊", 0, 4),
    )
    assert file_changes(b"") == ()


def test_named_commits_are_read_with_their_subjects() -> None:
    found = named(b"%s\0One\0\0%s\0Two\x1b[2J\0\0" % (ONE.encode(), TWO.encode()))
    assert [(one.sha, one.subject) for one in found] == [(ONE, "One"), (TWO, "Two")]


@pytest.mark.parametrize(
    ("divergence", "is_shallow", "words"),
    [
        (None, False, "is not in this repository"),
        (Divergence(1, 0), False, "1 commit ahead of main"),
        (Divergence(2, 0), True, "2 commits ahead of main"),
        (Divergence(2, 3), False, "takes 2 commits away"),
        (Divergence(2, 3), True, "too shallow"),
    ],
)
def test_each_oddness_has_its_words(divergence: Divergence | None, is_shallow: bool, words: str) -> None:
    note = oddness("main", ONE, divergence, is_shallow=is_shallow)
    assert words in note
    assert ONE[:12] in note
