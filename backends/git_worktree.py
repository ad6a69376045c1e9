"""A commit's tree in a folder of its own, and no folder left behind by a run that crashed.

It is a git worktree rather than an export: `git archive` leaves out what `export-ignore` names, often the tests that a
release is to run, and a build that asks `git describe` for its version needs a repository around it. The worktree shares
the repository's objects; its folder, index and HEAD are its own, so the user's are never touched. It appears in
`git worktree list` while it is in use.

Smudge filters run as the user configured them (with Git LFS the real files are there; without it its pointer files are).
Submodules are left empty: a build that needs them runs `git submodule update --init` first. No hook is run.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pithead.backends.git_commands import GitCommands
from pithead.delivery.ports import BackendError

CHECKOUT_TIMEOUT_SECONDS = 900.0

_SETTINGS = (
    "core.sparseCheckout=false",  # a build gets the whole tree, whatever part of it the user looks at
    "checkout.workers=0",
    "advice.detachedHead=false",
)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A folder that is in use for as long as this process holds its lock; the kernel lets go of it when we die."""

    folder: Path
    lock: IO[bytes]

    @property
    def lock_path(self) -> Path:
        return _lock_path(self.folder)


class Worktrees:
    """The worktrees of one service, below `folder` (made private)."""

    def __init__(self, git: GitCommands, folder: Path) -> None:
        self._git = git
        self._folder = folder

    @asynccontextmanager
    async def checkout(self, sha: str) -> AsyncIterator[Path]:
        """The tree of a commit that is in the repository, by its full sha; gone when the context ends.

        BackendError when the tree cannot be written.
        """
        await self.sweep()
        claim = await asyncio.to_thread(_claim, self._folder, sha)
        try:
            await self._git.run(
                *("worktree", "add", "--detach", "--", str(claim.folder), sha),
                settings=_SETTINGS,
                timeout_seconds=CHECKOUT_TIMEOUT_SECONDS,
                is_guarded=True,
            )
            yield claim.folder
        finally:
            # Shielded: a cancelled build has to be cleaned up like any other.
            await asyncio.shield(asyncio.ensure_future(self._discard(claim)))

    async def sweep(self) -> None:
        """Removes the folders whose owner is gone, and git's record of them. The user's own worktrees are left alone."""
        for claim in await asyncio.to_thread(lambda: list(_abandoned(self._folder))):
            await self._discard(claim)

    async def _discard(self, claim: _Claim) -> None:
        try:
            await asyncio.to_thread(_remove_tree, claim.folder)
            # Not `git worktree prune`: it would also forget the user's worktrees on a disk that is not mounted now.
            # It fails where git never got to record the folder, and then there is nothing to forget.
            with suppress(BackendError):
                await self._git.ask("worktree", "remove", "--force", "--force", "--", str(claim.folder))
        finally:
            if not claim.folder.exists():
                claim.lock_path.unlink(missing_ok=True)
            claim.lock.close()


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _claim(parent: Path, sha: str) -> _Claim:
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            folder = parent / f"{sha[:12]}-{secrets.token_hex(4)}"
            lock = _hold(_lock_path(folder))
            if lock is not None:
                return _Claim(folder, lock)
    except OSError as error:
        raise BackendError(
            f"No folder for a checkout can be made in {parent}: {error.strerror}.",
            "See that it is writable and its disk not full.",
        ) from error


def _abandoned(parent: Path) -> Iterator[_Claim]:
    for folder in sorted({path.with_suffix("") for path in parent.glob("*")}):
        lock = _hold(_lock_path(folder))
        if lock is not None:
            yield _Claim(folder, lock)


def _hold(path: Path) -> IO[bytes] | None:
    """The open lock file, or None when another process holds it or has just taken it away."""
    lock = path.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(path, lock):
            return lock
    except BlockingIOError:
        pass
    lock.close()
    return None


def _is_still(path: Path, lock: IO[bytes]) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(lock.fileno()))
    return False


def _remove_tree(folder: Path) -> None:
    """Removes what can be removed. What a build left that is not ours to delete stays, and the next sweep tries again."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # Go's module cache, for one, makes its folders read-only
        _unlock(folder)
        for place, names, _ in os.walk(folder):
            for name in names:
                _unlock(Path(place, name))
        shutil.rmtree(folder, ignore_errors=True)


def _unlock(folder: Path) -> None:
    with suppress(OSError):
        if not folder.is_symlink():
            folder.chmod(0o700)
