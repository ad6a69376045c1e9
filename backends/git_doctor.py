"""What `pithead doctor` looks at in a git source, in the order in which one thing needs the other."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from pithead.backends.git_commands import GitCommands
from pithead.backends.git_remote import Remote, probe
from pithead.backends.git_repository import GitRepository
from pithead.delivery.ports import BackendError, Finding

Look = Callable[[], Awaitable[str]]

MINIMUM_VERSION = (2, 31)

_VERSION = re.compile(r"(\d+)\.(\d+)")


async def examine(looks: Sequence[tuple[str, Look]]) -> Sequence[Finding]:
    """One finding per look, none after the first that is not well: those could only fail for the same reason.

    A look returns what it found in words, or raises BackendError.
    """
    findings: list[Finding] = []
    for subject, look in looks:
        try:
            findings.append(Finding(subject, True, await look()))
        except BackendError as error:
            findings.append(Finding(subject, False, error.message, error.mend))
            break
    return findings


async def look_at_git() -> str:
    """The version of git, if it is new enough."""
    words = (await GitCommands(Path("/")).run("version")).words.removeprefix("git version ")
    found = _VERSION.search(words)
    if found is None or (int(found[1]), int(found[2])) < MINIMUM_VERSION:
        raise BackendError(f"git {words} is too old.", "Install git {}.{} or later.".format(*MINIMUM_VERSION))
    return words


async def look_at_repository(git: GitCommands, repository: GitRepository) -> str:
    """Where the repository is, and what is special about it."""
    is_bare = (await repository.facts()).is_bare
    is_shallow = bool(await repository.shallow_boundary())
    kinds = [word for word, applies in (("bare", is_bare), ("shallow", is_shallow)) if applies]
    return " ".join((str(git.folder), *(f"({kind})" for kind in kinds)))


async def look_at_remote(git: GitCommands, remote: Remote | None, timeout_seconds: float) -> str:
    """Which remote answered."""
    if remote is None:
        return "none: the local branch is released"
    await probe(git, remote, timeout_seconds)
    return f"{remote.name} answers"


async def look_at_branch(repository: GitRepository, head: str) -> str:
    """The head of the branch, and what a checkout of it will lack."""
    lacks = (
        "; its submodules are left empty: `git submodule update --init` belongs into the build"
        if await repository.has_submodules(head)
        else ""
    )
    return f"at {head[:12]}{lacks}"
