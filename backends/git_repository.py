"""What a repository can be asked, one git command per question, with shas and refs that were validated before."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from pithead.backends import git_history as history
from pithead.backends.git_commands import GitCommands, TookTooLong, first_line
from pithead.delivery.ports import BackendError, Commit, FileChange

SIZES_TIMEOUT_SECONDS = 20.0
"""After this long the commits are listed without their sizes: counting lines reads every file that they touch."""

_MANY_OBJECTS = 50


@dataclass(frozen=True, slots=True)
class Facts:
    """What stays as it is while a repository is open. `common_folder` is where its refs lie, for all its worktrees."""

    common_folder: Path
    is_bare: bool


class GitRepository:
    """The read side of a repository."""

    def __init__(self, git: GitCommands) -> None:
        self._git = git
        self._facts: Facts | None = None

    async def facts(self) -> Facts:
        """BackendError when there is no repository, or none that git would use."""
        if self._facts is None:
            answer = await self._git.run(
                "rev-parse", "--path-format=absolute", "--is-bare-repository", "--git-common-dir"
            )
            bare, _, common_folder = answer.words.partition("\n")
            self._facts = Facts(Path(common_folder), bare == "true")
        return self._facts

    async def shallow_boundary(self) -> frozenset[str]:
        """The commits whose parents a shallow clone left out; empty for a whole one."""
        path = (await self.facts()).common_folder / "shallow"
        try:
            return frozenset((await asyncio.to_thread(path.read_text, "ascii")).split())
        except FileNotFoundError:
            return frozenset()
        except (OSError, UnicodeDecodeError) as error:
            raise BackendError(f"{path} cannot be read: {error}.", "See who may read it.") from error

    async def commit_at(self, name: str) -> str | None:
        """The full sha of the commit that a ref or sha stands for; None when there is no such commit here."""
        answer = await self._git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        return answer.words if answer.is_good else None

    async def branches(self) -> list[str]:
        """The local branches, the one with the newest commit first."""
        answer = await self._git.run(
            "for-each-ref", "--sort=-committerdate", "--format=%(refname:lstrip=2)", "refs/heads/"
        )
        return answer.words.splitlines()

    async def references(self, name: str) -> list[str]:
        """The refs in full that a short name may stand for: tags, branches, remote branches, or the full name itself."""
        places = [f"{place}{name}" for place in ("refs/tags/", "refs/heads/", "refs/remotes/")]
        wanted = [name] if name.startswith("refs/") else places
        found = (await self._git.run("for-each-ref", "--format=%(refname)", *wanted)).words.splitlines()
        return [reference for reference in found if reference in wanted]  # git lists what lies below a name as well

    async def contains(self, head: str, sha: str) -> bool:
        """Whether `sha` is `head` or an ancestor of it."""
        answer = await self._git.ask("merge-base", "--is-ancestor", sha, head)
        if answer.status not in (0, 1):
            raise BackendError(f"git cannot compare commits in {self._git.folder}: {first_line(answer.complaint)}.")
        return answer.is_good

    async def divergence(self, base: str, head: str) -> history.Divergence:
        answer = await self._git.run("rev-list", "--left-right", "--count", f"{base}...{head}", "--")
        lost, gained = answer.words.split()
        return history.Divergence(int(lost), int(gained))

    async def count(self, base: str | None, head: str) -> int:
        """How many commits `head` has that `base` lacks."""
        return int((await self._git.run("rev-list", "--count", *_range(base, head))).words)

    async def log(self, base: str | None, head: str, limit: int) -> tuple[Commit, ...]:
        """The newest of those commits, children before parents. Their sizes are 0 if counting them takes too long."""
        try:
            commits = await self._log(base, head, limit, ("--shortstat", *history.DIFF_FORMAT), SIZES_TIMEOUT_SECONDS)
        except TookTooLong:
            commits = await self._log(base, head, limit)
        commits = history.without_counts(commits, await self.shallow_boundary())
        return history.with_mainline(commits, head)

    async def _log(
        self, base: str | None, head: str, limit: int, diff: tuple[str, ...] = (), timeout_seconds: float = 120.0
    ) -> tuple[Commit, ...]:
        reader = history.LogReader()
        await self._git.run(
            *(*history.LOG_FORMAT, *diff, f"--max-count={limit}", *_range(base, head)),
            sink=reader.feed,
            settings=history.LOG_SETTINGS,
            timeout_seconds=timeout_seconds,
        )
        return reader.commits()

    async def named(self, prefix: str) -> tuple[history.Named, ...]:
        """The commits whose sha begins with these hexadecimal digits."""
        objects = (await self._git.ask("rev-parse", f"--disambiguate={prefix}")).words.split()[:_MANY_OBJECTS]
        if not objects:
            return ()
        answer = await self._git.ask("log", "--no-walk=unsorted", "-z", history.NAMED_FORMAT, *objects, "--")
        return history.named(answer.output)

    async def changes(self, sha: str) -> tuple[FileChange, ...]:
        """The files that the commit touches against its first parent; none where a shallow clone cut that away."""
        if sha in await self.shallow_boundary():
            return ()
        answer = await self._git.run(
            *("log", "-1", "-z", "--format=", "--numstat", *history.DIFF_FORMAT, sha, "--"),
            settings=history.LOG_SETTINGS,
        )
        return history.file_changes(answer.output)

    async def has_submodules(self, sha: str) -> bool:
        return (await self._git.ask("cat-file", "-e", f"{sha}:.gitmodules")).is_good


def _range(base: str | None, head: str) -> tuple[str, ...]:
    return (head, *((f"^{base}",) if base else ()), "--")
