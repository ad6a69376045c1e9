"""Makes the demo's git repository: real commits of a small service, their ages counted from this moment.

The user's own git settings, hooks and signing keys have no part in it, and nothing outside the folder is touched.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path

from pithead.console.demo.history import Change, Edit, New, Scenario, history
from pithead.delivery.ports import BackendError

BRANCH = "main"
GIT_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Repository:
    """The folder, and the commits that the scenarios are about."""

    folder: Path
    commits: tuple[str, ...]
    """Full shas, oldest first."""
    released: Mapping[Scenario, str]

    def before(self, sha: str) -> str:
        """The commit before it: what is live when a scenario begins."""
        return self.commits[self.commits.index(sha) - 1]


def make_repository(folder: Path, now: float) -> Repository:
    """The repository with the whole history. BackendError when git is missing or fails."""
    folder.mkdir(mode=0o700)
    _git(folder, "init", "--quiet", "--template=", f"--initial-branch={BRANCH}")
    by_subject: dict[str, str] = {}
    released: dict[Scenario, str] = {}
    for change in history():
        sha = _commit(folder, change, now - 3600 * change.hours_ago, by_subject.get(change.reverts))
        by_subject[change.subject] = sha
        if change.scenario is not None:
            released[change.scenario] = sha
    return Repository(folder, tuple(by_subject.values()), released)


def _commit(folder: Path, change: Change, at: float, reverted: str | None) -> str:
    message = f"{change.subject}\n"
    if reverted is not None:
        _git(folder, "revert", "--no-commit", reverted)
        message += f"\nThis reverts commit {reverted}.\n"
    for edit in change.edits:
        _make(folder, edit)
    if change.body:
        message += f"\n{change.body}\n"
    _git(folder, "add", "--all")
    _git(folder, "commit", "--quiet", "--message", message, who=change.author, at=at)
    return _git(folder, "rev-parse", "HEAD").strip()


def _make(folder: Path, edit: New | Edit) -> None:
    path = folder / edit.path
    match edit:
        case New(_, text):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
        case Edit(_, before, after):
            text = path.read_text("utf-8")
            if text.count(before) != 1:
                raise ValueError(f"{edit.path}: {before!r} is there {text.count(before)} times")
            path.write_text(text.replace(before, after), "utf-8")


def _git(folder: Path, *arguments: str, who: str = "Pithead demo <demo@checkout.example>", at: float = 0) -> str:
    command = ["git", "-c", "commit.gpgSign=false", "-c", "core.hooksPath=/dev/null", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=_environment(who, at),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_PATIENCE_SECONDS,
            check=True,
        )
    except FileNotFoundError:
        raise BackendError(
            "The demo needs git, and there is none on the PATH.", "Install git, then try again."
        ) from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip() or f"exit status {error.returncode}"
        # `--initial-branch` came with git 2.28 of July 2020.
        raise BackendError(f"git {arguments[0]} failed: {said}", "The demo needs git 2.28 or newer.") from None
    except subprocess.TimeoutExpired:
        raise BackendError(
            f"git {arguments[0]} took longer than {GIT_PATIENCE_SECONDS:.0f} s.", "Is the disk well?"
        ) from None
    return done.stdout.decode()


def _environment(who: str, at: float) -> dict[str, str]:
    """None of the user's settings: neither files nor the `GIT_…` variables of a hook that we may be called from."""
    kept = {name: value for name, value in os.environ.items() if not re.match("GIT_|EMAIL$", name)}
    name, address = parseaddr(who)
    person = {
        f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in _facts(name, address, at)
    }
    return {**kept, **person, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}


def _facts(name: str, address: str, at: float) -> tuple[tuple[str, str], ...]:
    return ("NAME", name), ("EMAIL", address), ("DATE", f"{at:.0f} +0000")
