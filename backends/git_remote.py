"""The remote that a branch is fetched from, and what its failures mean to an operator."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from pithead.backends.git_commands import Answer, GitCommands, TookTooLong, first_line
from pithead.delivery.plain_text import plain
from pithead.delivery.ports import BackendError

_BUSY = ("cannot lock ref", "Unable to create", "unable to update local ref")
_REFUSED = (
    "Authentication failed",
    "could not read Username",
    "could not read Password",
    "Permission denied",
    "Host key verification failed",
    "Invalid username or password",
    "terminal prompts disabled",
)
_PATH = re.compile(r"^(?:file://|/|\.|~)")


@dataclass(frozen=True, slots=True)
class Remote:
    """A configured remote. `is_local`: a folder of this machine, which may be asked as often as one likes."""

    name: str
    is_local: bool
    ssh_command: str = ""

    def tracking(self, branch: str) -> str:
        return f"refs/remotes/{self.name}/{branch}"


async def find_remote(git: GitCommands, wanted: str | None) -> Remote | None:
    """The remote to fetch from: the wanted one, `origin` if there is one when nothing is wanted, None for none.

    BackendError when the wanted one is not configured.
    """
    if wanted == "":
        return None
    answer = await git.ask("config", "-z", "--get-regexp", r"^(remote\..*\.url|core\.sshcommand)$")
    settings = _settings(answer.output)
    name = wanted or "origin"
    if f"remote.{name}.url" in settings:
        url = settings[f"remote.{name}.url"]
        return Remote(name, bool(_PATH.match(url)), settings.get("core.sshcommand", ""))
    if wanted is None:
        return None
    known = [key.removeprefix("remote.").removesuffix(".url") for key in settings if key.startswith("remote.")]
    raise BackendError(
        f"{git.folder} has no remote {name!r}.", _choices("The remotes are", name, known, "It has none.")
    )


def _settings(output: bytes) -> Mapping[str, str]:
    entries = output.decode("utf-8", "replace").split("\0")
    return dict(entry.partition("\n")[::2] for entry in entries if entry)


async def fetch(git: GitCommands, remote: Remote, branch: str, timeout_seconds: float) -> None:
    """Brings the remote-tracking branch up to date, and touches nothing else of the repository.

    BackendError when the remote is away, refuses, or has no such branch.
    """
    arguments = (
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-prune",
        "--no-recurse-submodules",
        "--no-write-fetch-head",
        "--end-of-options",
        remote.name,
        f"+refs/heads/{branch}:{remote.tracking(branch)}",
    )
    answer = await _over_network(git, remote, timeout_seconds, *arguments)
    if not answer.is_good and any(sign in answer.complaint for sign in _BUSY):  # the user fetches at this very moment
        answer = await _over_network(git, remote, timeout_seconds, *arguments)
    if "couldn't find remote ref" in answer.complaint:
        raise missing_branch(branch, f"The remote {remote.name}", await probe(git, remote, timeout_seconds))
    if not answer.is_good:
        raise _away(remote, answer)


async def probe(git: GitCommands, remote: Remote, timeout_seconds: float) -> list[str]:
    """The branches of the remote. BackendError when it is away or refuses."""
    answer = await _over_network(git, remote, timeout_seconds, "ls-remote", "--heads", "--end-of-options", remote.name)
    if not answer.is_good:
        raise _away(remote, answer)
    return [line.partition("\trefs/heads/")[2] for line in answer.words.splitlines()]


async def _over_network(git: GitCommands, remote: Remote, timeout_seconds: float, *arguments: str) -> Answer:
    try:
        return await git.ask(
            *arguments,
            timeout_seconds=timeout_seconds,
            settings=("http.lowSpeedLimit=1", "http.lowSpeedTime=30"),
            environment=_ssh_environment(remote),
            is_guarded=True,
        )
    except TookTooLong as error:
        raise BackendError(
            f"The remote {remote.name} did not answer within {timeout_seconds:g} seconds.",
            "Check the network; if the fetch is just large, fetch once by hand or raise `fetch_timeout_seconds`.",
        ) from error


def _ssh_environment(remote: Remote) -> Mapping[str, str]:
    """Makes ssh fail instead of asking. A command that the operator configured is left as it is: it may not be OpenSSH."""
    if remote.ssh_command or "GIT_SSH_COMMAND" in os.environ or "GIT_SSH" in os.environ:
        return {}
    return {"GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=10"}


def _away(remote: Remote, answer: Answer) -> BackendError:
    reason = first_line(answer.complaint)
    if any(sign in answer.complaint for sign in _REFUSED):
        return BackendError(
            f"The remote {remote.name} refuses: {reason}.",
            "Pithead cannot type a password: give git a key or a credential helper, so that `git fetch` asks nothing.",
        )
    return BackendError(
        f"The remote {remote.name} cannot be reached: {reason}.",
        f"Check the network and `git remote get-url {remote.name}`; it is tried again.",
    )


def missing_branch(branch: str, where: str, branches: list[str]) -> BackendError:
    """The error for a branch that is not there, naming those that are, nearest first."""
    if not branches:
        return BackendError(f"{where} has no commit yet.", f"Commit something to {branch!r} first.")
    return BackendError(f"{where} has no branch {branch!r}.", _choices("The branches are", branch, branches, ""))


def _choices(lead: str, wanted: str, known: list[str], otherwise: str) -> str:
    if not known:
        return otherwise
    near = get_close_matches(wanted, known, n=5, cutoff=0.3)
    ordered = [*near, *(name for name in known if name not in near)]
    more = f" and {len(ordered) - 10} more" if len(ordered) > 10 else ""
    return f"{lead} {plain(', '.join(ordered[:10]))}{more}."
