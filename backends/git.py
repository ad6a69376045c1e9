"""The `git` source: what is on a branch and not live, read from the user's own clone and never changing it.

With a remote, the branch is what the remote has, and a fetch moves the remote-tracking branch alone; without one it is
the local branch. Any history will do: linear or merged, bare or shallow, rewritten behind our back.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pithead.backends.git_commands import GitCommands
from pithead.backends.git_doctor import examine, look_at_branch, look_at_git, look_at_remote, look_at_repository
from pithead.backends.git_history import oddness
from pithead.backends.git_remote import Remote, fetch, find_remote, missing_branch
from pithead.backends.git_repository import GitRepository
from pithead.backends.git_watch import RefFiles
from pithead.backends.git_worktree import Worktrees
from pithead.delivery.plain_text import plain_line
from pithead.delivery.ports import CheckFailed, Context, FileChange, Finding, Pending

NETWORK_POLL_SECONDS = 15.0
"""A remote over the network is not asked more often than this unless the operator says so: hosts throttle clients."""

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{6,64}")
# git-check-ref-format(1), and no leading dash: a name can never be taken for an option.
_NOT_A_NAME = re.compile(r"^$|^[-/.]|[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)|[./]$|^@$")


class GitOptions(BaseModel):
    """The options of the `git` source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repository: Path = Field(
        default=Path(), description="The clone, or any folder in it; relative to the folder of the config file."
    )
    branch: str = Field(default="main", description="The branch that is released.")
    remote: str | None = Field(
        default=None,
        description="The remote to fetch the branch from. Not set: `origin` if there is one. Empty: never fetch.",
    )
    poll_seconds: float = Field(
        default=2.0, ge=0.05, le=86400, description="How often the branch is looked at in the clone, in seconds."
    )
    fetch_seconds: float | None = Field(
        default=None,
        ge=0.05,
        le=86400,
        description="How often the remote is asked, in seconds. Not set: as often as the clone is looked at, "
        "but at most every 15 seconds over a network.",
    )
    fetch_timeout_seconds: float = Field(
        default=120.0, gt=0, le=86400, description="How long one fetch may take, in seconds."
    )
    limit: int = Field(default=200, ge=1, le=10000, description="How many pending commits are listed at most.")

    @field_validator("branch", "remote")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value and _NOT_A_NAME.search(value):
            raise ValueError(f"{value!r} is not a name that git accepts.")
        return value

    @field_validator("branch")
    @classmethod
    def _is_a_short_name(cls, value: str) -> str:
        if not value:
            raise ValueError("A branch is needed; most repositories call it 'main'.")
        return value.removeprefix("refs/heads/")


class GitSource:
    """The release branch of a git repository."""

    Options: ClassVar[type[GitOptions]] = GitOptions

    def __init__(self, options: GitOptions, context: Context) -> None:
        self._options = options
        folder = (context.config_folder / options.repository.expanduser()).absolute()
        self._git = GitCommands(folder)
        self._repository = GitRepository(self._git)
        self._worktrees = Worktrees(self._git, context.state_folder.absolute() / "checkouts")
        self._fetching = asyncio.Lock()

    async def head(self) -> str:
        """The head of the remote's branch after a fetch, or of the local branch. BackendError when it can't be had."""
        return await self._fetched_head(await self._remote())

    async def commits(self, base: str | None, head: str) -> Pending:
        """What `head` has and `base` lacks, newest first, in topological order; `note` tells what is odd about it."""
        await self._present(head)
        if base == head:
            return Pending(base, head, (), 0, note=await self._shallow_note())
        known_base = await self._repository.commit_at(_full_sha(base)) if base else None
        total, commits, is_ancestor = await asyncio.gather(
            self._repository.count(known_base, head),
            self._repository.log(known_base, head, self._options.limit),
            self._contains_base(head, base, known_base),
        )
        notes = [await self._note(base, known_base, head)] if base and not is_ancestor else []
        notes.append(await self._shallow_note())
        return Pending(base, head, commits, total, is_ancestor, " ".join(note for note in notes if note))

    async def changes(self, sha: str) -> Sequence[FileChange]:
        """The files that the commit touches against its first parent. CheckFailed when there is no such commit."""
        return await self._repository.changes(await self._present(sha))

    async def resolve(self, name: str) -> str:
        """The full sha for six or more digits of it, or for a ref whose commit is on the branch."""
        prefix = name.strip().lower()
        if _PREFIX.fullmatch(prefix):
            match await self._repository.named(prefix):
                case [only]:
                    return only.sha
                case [_, *_] as several:
                    listing = ", ".join(f"{one.sha[:12]} ({one.subject})" for one in several[:5])
                    raise CheckFailed(f"{prefix} may be any of {listing}.", "Give more digits.")
        return await self._resolve_ref(name.strip())

    def checkout(self, sha: str) -> AbstractAsyncContextManager[Path]:
        """A folder with the commit's tree, a detached git worktree below the state folder.

        CheckFailed when there is no such commit, BackendError when the tree cannot be written.
        """
        return self._checkout(sha)

    async def watch(self) -> AsyncGenerator[str, None]:
        """The head at once and at every change. BackendError ends the stream; the caller calls again when it likes."""
        remote = await self._remote()
        known = await self._fetched_head(remote)
        yield known
        reference = self._reference(remote)
        files = RefFiles((await self._repository.facts()).common_folder, reference)
        fetched_at = time.monotonic()
        while True:
            await asyncio.sleep(self._options.poll_seconds)
            if remote and time.monotonic() - fetched_at >= self._fetch_seconds(remote):
                await self._fetch(remote)
                fetched_at = time.monotonic()
            if await asyncio.to_thread(files.may_have_changed):
                head = await self._local_head(remote)
                if head != known:
                    known = head
                    yield head

    async def check(self) -> Sequence[Finding]:
        """What `pithead doctor` says about git, the repository, the branch and the remote."""

        async def remote() -> str:
            return await look_at_remote(self._git, await self._remote(), self._options.fetch_timeout_seconds)

        async def branch() -> str:
            return await look_at_branch(self._repository, await self.head())

        return await examine(
            (
                ("git", look_at_git),
                ("repository", lambda: look_at_repository(self._git, self._repository)),
                ("remote", remote),
                (f"branch {self._options.branch}", branch),
            )
        )

    @asynccontextmanager
    async def _checkout(self, sha: str) -> AsyncIterator[Path]:
        async with self._worktrees.checkout(await self._present(sha)) as folder:
            yield folder

    async def _remote(self) -> Remote | None:
        return await find_remote(self._git, self._options.remote)

    def _reference(self, remote: Remote | None) -> str:
        branch = self._options.branch
        return remote.tracking(branch) if remote else f"refs/heads/{branch}"

    def _fetch_seconds(self, remote: Remote) -> float:
        polled = self._options.poll_seconds
        return self._options.fetch_seconds or (polled if remote.is_local else max(polled, NETWORK_POLL_SECONDS))

    async def _fetch(self, remote: Remote) -> None:
        async with self._fetching:
            await fetch(self._git, remote, self._options.branch, self._options.fetch_timeout_seconds)

    async def _fetched_head(self, remote: Remote | None) -> str:
        if remote:
            await self._fetch(remote)
        return await self._local_head(remote)

    async def _local_head(self, remote: Remote | None) -> str:
        head = await self._repository.commit_at(self._reference(remote))
        if head is None:
            branches = await self._repository.branches()
            raise missing_branch(self._options.branch, f"The repository {self._git.folder}", branches)
        return head

    async def _present(self, sha: str) -> str:
        if await self._repository.commit_at(_full_sha(sha)) != sha:
            raise CheckFailed(
                f"There is no commit {sha[:12]} in {self._git.folder}.",
                "It may be gone since the branch was rewritten, or the clone may be too shallow: fetch it.",
            )
        return sha

    async def _contains_base(self, head: str, base: str | None, known_base: str | None) -> bool:
        if known_base is None:
            return base is None
        return await self._repository.contains(head, known_base)

    async def _note(self, base: str, known_base: str | None, head: str) -> str:
        divergence = await self._repository.divergence(known_base, head) if known_base else None
        is_shallow = bool(await self._repository.shallow_boundary())
        return oddness(self._options.branch, base, divergence, is_shallow=is_shallow)

    async def _shallow_note(self) -> str:
        if not await self._repository.shallow_boundary():
            return ""
        return "The clone is shallow: older commits are not known here; `git fetch --unshallow` gets them."

    async def _resolve_ref(self, name: str) -> str:
        head = await self._local_head(await self._remote())
        found = {head} if name == self._options.branch else {sha async for sha in self._commits_of(name)}
        shown = plain_line(name, 80)
        match sorted(found):
            case []:
                raise CheckFailed(
                    f"There is no commit {shown!r} in {self._git.folder}.",
                    "Give six digits of its sha or more, or a tag; `pithead pending` lists what there is.",
                )
            case [sha]:
                if not await self._repository.contains(head, sha):
                    raise CheckFailed(
                        f"{shown!r} is {sha[:12]}, and that is not on {self._options.branch}.",
                        "Merge it first, or name a commit of that branch.",
                    )
                return sha
            case several:
                listing = ", ".join(sha[:12] for sha in several)
                raise CheckFailed(f"{shown!r} may be any of {listing}.", "Give the sha, or refs/tags/… in full.")

    async def _commits_of(self, name: str) -> AsyncIterator[str]:
        if _NOT_A_NAME.search(name):
            return
        for reference in ["HEAD"] if name == "HEAD" else await self._repository.references(name):
            sha = await self._repository.commit_at(reference)
            if sha:
                yield sha


def _full_sha(sha: str) -> str:
    if not _SHA.fullmatch(sha):
        raise CheckFailed(f"{plain_line(sha, 80)!r} is not a full sha.", "Resolve it first.")
    return sha
