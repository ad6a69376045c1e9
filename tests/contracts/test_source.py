"""What every source promises, tried on each of them through a world in which commits can be made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

import pytest
from repositories import FIRST_COMMIT_AT, Repository

from pithead.backends.git import GitOptions, GitSource
from pithead.delivery.ports import CheckFailed, Context, Source

ABSENT = "0123456789" * 4


class World(Protocol):
    """A place where commits are made, and the source that looks at it."""

    source: Source

    def commit(
        self, subject: str, body: str = "", files: Mapping[str, str | None] | None = None, author: str = "Ada"
    ) -> str:
        """Makes a commit where the world stands. It writes these files, or one of its own; None deletes one."""

    def fork(self, name: str, at: str) -> None:
        """Stands at the beginning of a side line."""

    def back(self) -> None:
        """Stands at the head of the released branch again."""

    def merge(self, name: str) -> str:
        """Brings a side line in."""

    def rewrite(self, to: str) -> None:
        """Moves the released branch to another commit."""

    def state(self) -> str:
        """All that a source must leave as it is."""


class GitWorld:
    """A work tree without a remote, in the middle of somebody's work."""

    def __init__(self, folder: Path) -> None:
        self._repository = Repository(folder / "repository")
        state = folder / "state"
        state.mkdir(mode=0o700)
        context = Context("shop", state, self._repository.path)
        self.source: Source = GitSource(GitOptions(poll_seconds=0.05), context)
        self.commit = self._repository.commit
        self.merge = self._repository.merge
        self.state = self._repository.state

    def fork(self, name: str, at: str) -> None:
        self._repository.switch(name, at)

    def back(self) -> None:
        self._repository.switch("main")

    def rewrite(self, to: str) -> None:
        self._repository.git("reset", "--quiet", "--hard", to)


class ClonedGitWorld(GitWorld):
    """A clone whose remote is where the commits are made."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._repository.commit("First")
        clone = self._repository.clone(folder / "clone")
        context = Context("shop", folder / "state", clone.path)
        self.source = GitSource(GitOptions(poll_seconds=0.05), context)
        self.state = clone.state


WORLDS: Mapping[str, Callable[[Path], World]] = {"git": GitWorld, "git with a remote": ClonedGitWorld}


@pytest.fixture(params=list(WORLDS.values()), ids=list(WORLDS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    made: World = request.param(tmp_path)
    return made


async def next_of(heads: AsyncIterator[str]) -> str:
    return await asyncio.wait_for(anext(heads), 30)


async def test_head_is_the_newest_commit(world: World) -> None:
    world.commit("One")
    two = world.commit("Two")
    assert await world.source.head() == two


async def test_pending_commits_come_newest_first_with_all_that_is_shown_of_them(world: World) -> None:
    live = world.commit("Live", files={"a.txt": "1\n2\n"})
    one = world.commit("Add b", body="Because of\n\ntwo things.", files={"b.txt": "1\n2\n3\n"}, author="Grace Hopper")
    two = world.commit("Change a", files={"a.txt": "1\nzwei\n"})

    pending = await world.source.commits(live, await world.source.head())

    assert (pending.base, pending.head, pending.total) == (live, two, 2)
    assert (pending.base_is_ancestor, pending.note) == (True, "")
    assert [commit.sha for commit in pending.commits] == [two, one]
    change, add = pending.commits
    assert (add.subject, add.body, add.author) == ("Add b", "Because of\n\ntwo things.", "Grace Hopper")
    assert (add.added, add.deleted, add.files) == (3, 0, 1)
    assert (change.added, change.deleted, change.files) == (1, 1, 1)
    assert (add.parents, change.parents) == ((live,), (one,))
    assert FIRST_COMMIT_AT < add.committed_at < change.committed_at
    assert add.is_mainline
    assert change.is_mainline


async def test_nothing_is_pending_when_the_head_is_live(world: World) -> None:
    live = world.commit("Live")
    pending = await world.source.commits(live, await world.source.head())
    assert (pending.commits, pending.total, pending.base_is_ancestor, pending.note) == ((), 0, True, "")


async def test_all_of_the_history_is_pending_when_nothing_is_live(world: World) -> None:
    world.commit("One")
    world.commit("Two")
    pending = await world.source.commits(None, await world.source.head())
    assert pending.base is None
    assert pending.base_is_ancestor
    assert [commit.subject for commit in pending.commits][:2] == ["Two", "One"]
    assert pending.commits[-1].parents == ()
    assert len(pending.commits) == pending.total


async def test_merged_history_has_children_before_parents_and_marks_the_mainline(world: World) -> None:
    live = world.commit("Live")
    world.fork("side", live)
    world.commit("Side 1")
    world.commit("Side 2")
    world.back()
    world.commit("Main 1")
    merged = world.merge("side")
    world.commit("Main 2")

    pending = await world.source.commits(live, await world.source.head())

    places = {commit.sha: place for place, commit in enumerate(pending.commits)}
    assert all(places[parent] > places[c.sha] for c in pending.commits for parent in c.parents if parent in places)
    mainline = {commit.subject for commit in pending.commits if commit.is_mainline}
    assert mainline == {"Main 2", "Merge side", "Main 1"}
    assert {commit.subject for commit in pending.commits} - mainline == {"Side 1", "Side 2"}
    merge = pending.commits[places[merged]]
    assert len(merge.parents) == 2
    assert merge.files == 2, "a merge brings in what its first parent lacks"


async def test_a_live_commit_of_a_merged_side_line_leaves_the_rest_pending(world: World) -> None:
    root = world.commit("Root")
    world.fork("side", root)
    live = world.commit("Side 1")
    world.back()
    main = world.commit("Main 1")
    merged = world.merge("side")
    pending = await world.source.commits(live, await world.source.head())
    assert {commit.sha for commit in pending.commits} == {main, merged}
    assert pending.base_is_ancestor


async def test_a_live_commit_that_left_the_branch_is_told_in_words(world: World) -> None:
    root = world.commit("Root")
    live = world.commit("Live, and rewritten")
    assert await world.source.head() == live
    world.rewrite(root)
    other = world.commit("Instead")
    pending = await world.source.commits(live, await world.source.head())
    assert not pending.base_is_ancestor
    assert [commit.sha for commit in pending.commits] == [other]
    assert "rewritten" in pending.note


async def test_a_branch_that_was_moved_back_behind_the_live_commit_is_told_in_words(world: World) -> None:
    root = world.commit("Root")
    live = world.commit("Live")
    assert await world.source.head() == live
    world.rewrite(root)
    pending = await world.source.commits(live, await world.source.head())
    assert (pending.commits, pending.total, pending.base_is_ancestor) == ((), 0, False)
    assert "moved back" in pending.note


async def test_a_live_commit_that_is_nowhere_is_told_in_words(world: World) -> None:
    world.commit("One")
    two = world.commit("Two")
    pending = await world.source.commits(ABSENT, await world.source.head())
    assert not pending.base_is_ancestor
    assert pending.commits[0].sha == two
    assert ABSENT[:12] in pending.note


async def test_changes_are_the_files_against_the_first_parent(world: World) -> None:
    world.commit("Root", files={"a.txt": "1\n2\n", "old/name.txt": "one\ntwo\nthree\nfour\n", "gone.txt": "x\n"})
    sha = world.commit(
        "All sorts",
        files={
            "a.txt": "1\n",
            "gone.txt": None,
            "old/name.txt": None,
            "new/name.txt": "one\ntwo\nthree\nfour\n",
            "tab\tand\nline.txt": "1\n",
            "ümläut.txt": "1\n",
        },
    )
    await world.source.head()
    changes = {change.path: (change.added, change.deleted) for change in await world.source.changes(sha)}
    assert changes == {
        "a.txt": (0, 1),
        "gone.txt": (0, 1),
        "new/name.txt": (0, 0),
        "tab␉and␊line.txt": (1, 0),
        "ümläut.txt": (1, 0),
    }


async def test_changes_of_a_root_commit_are_all_of_its_files(world: World) -> None:
    world.commit("First")
    pending = await world.source.commits(None, await world.source.head())
    [change] = await world.source.changes(pending.commits[-1].sha)
    assert (change.path, change.added, change.deleted) == ("First.txt", 1, 0)


async def test_six_digits_name_a_commit(world: World) -> None:
    sha = world.commit("One")
    await world.source.head()
    assert await world.source.resolve(sha[:6]) == sha
    assert await world.source.resolve(sha.upper()) == sha
    assert await world.source.resolve("main") == sha


@pytest.mark.parametrize(
    "name", ["abc", "no-such-thing", "--help", "-h", "", "a b", ABSENT, "main..main", ":/One", "\x1b[2J"]
)
async def test_a_name_of_nothing_is_refused_with_a_mend(world: World, name: str) -> None:
    world.commit("One")
    await world.source.head()
    with pytest.raises(CheckFailed) as caught:
        await world.source.resolve(name)
    assert caught.value.mend
    assert "\x1b" not in str(caught.value)


async def test_a_checkout_holds_the_commits_tree_and_is_gone_afterwards(world: World) -> None:
    one = world.commit("One", files={"a.txt": "one\n", "run.sh": "#!/bin/sh\n"})
    world.commit("Two", files={"a.txt": "two\n", "b.txt": "two\n"})
    await world.source.head()
    async with world.source.checkout(one) as folder:
        assert (folder / "a.txt").read_text() == "one\n"
        assert not (folder / "b.txt").exists()
    assert not folder.exists()


async def test_a_checkout_leaves_the_users_tree_untouched(world: World) -> None:
    one = world.commit("One", files={"a.txt": "one\n"})
    world.commit("Two", files={"a.txt": "two\n"})
    await world.source.head()
    before = world.state()
    async with world.source.checkout(one) as folder:
        (folder / "a.txt").write_text("scribbled over by a build\n")
        (folder / "built").mkdir()
        (folder / "built" / "thing.o").write_text("made by a build\n")
    assert world.state() == before


async def test_the_same_commit_is_checked_out_twice_at_once(world: World) -> None:
    sha = world.commit("One", files={"a.txt": "one\n"})
    await world.source.head()
    async with world.source.checkout(sha) as first, world.source.checkout(sha) as second:
        assert first != second
        (first / "a.txt").write_text("other\n")
        assert (second / "a.txt").read_text() == "one\n"
    assert not first.exists()
    assert not second.exists()


async def test_a_checkout_is_gone_when_its_user_failed(world: World) -> None:
    sha = world.commit("One")
    await world.source.head()
    with pytest.raises(RuntimeError, match="the build broke"):
        async with world.source.checkout(sha) as folder:
            raise RuntimeError("the build broke")
    assert not folder.exists()


@pytest.mark.parametrize("sha", [ABSENT, "main", "--help", "abc123"])
async def test_what_is_no_commits_full_sha_is_refused_everywhere(world: World, sha: str) -> None:
    world.commit("One")
    head = await world.source.head()
    with pytest.raises(CheckFailed):
        async with world.source.checkout(sha):
            pass
    with pytest.raises(CheckFailed):
        await world.source.changes(sha)
    with pytest.raises(CheckFailed):
        await world.source.commits(head, sha)


async def test_watch_tells_the_head_at_once_and_at_every_change(world: World) -> None:
    one = world.commit("One")
    heads = world.source.watch()
    async with aclosing(heads):  # type: ignore[type-var]
        assert await next_of(heads) == one
        two = world.commit("Two")
        assert await next_of(heads) == two
        world.rewrite(one)
        assert await next_of(heads) == one


async def test_check_finds_nothing_wrong(world: World) -> None:
    world.commit("One")
    findings = await world.source.check()
    assert len(findings) > 2
    assert all(finding.is_well for finding in findings), findings
