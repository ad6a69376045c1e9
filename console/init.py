"""What `pithead init` writes: a commented configuration for the repository that it stands in.

Every guess says what it rests on, and the text always loads, whatever the repository looks like. A file that exists
is never touched.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pithead.console.guesses import Folder, Guess, build_command, exposed_port, start_command, test_commands
from pithead.delivery.config_errors import ConfigError, ConfigErrors, printable

GIT_PATIENCE_SECONDS: Final = 10.0
_NO_START: Final = "./serve --port $PORT"
_SPECIAL_WORDS: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off"})
_REMOTE_NAME: Final = re.compile(r"[/:]([^/:@]+?)(?:\.git)?/*$")


def write_proposal(file: Path) -> str:
    """Writes a configuration for the file's folder into it and returns the text. ConfigErrors if the file exists."""

    def unusable(message: str, mend: str) -> ConfigErrors:
        return ConfigErrors([ConfigError(str(file), 0, "", message, mend)])

    text = propose(file.parent)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise unusable("The file exists and stays as it is.", "Move it away first, or name another.") from None
    except OSError as error:
        raise unusable(f"The file cannot be written: {error.strerror}.", "Name a place that can be written.") from None
    return text


def propose(folder: Path) -> str:
    """The text of a configuration for the repository at or above `folder`."""
    folder = folder.absolute()
    files = Folder(folder)
    top = _git(folder, "rev-parse", "--show-toplevel")
    prefix = _prefix(folder)
    build, start = build_command(files), start_command(files)
    return "\n".join(
        (
            *_opening(folder, top),
            *_source(folder, top),
            "",
            "pipeline:",
            *_build(build and _inside(prefix, build)),
            *_tests({name: _inside(prefix, guess) for name, guess in test_commands(files).items()}),
            *_CANARY,
            "",
            *_target(start and _inside(prefix, start), exposed_port(files)),
            "",
            *_METRICS,
            "",
        )
    )


_CANARY: Final = (
    "  canary:                     # weight: per cent of the traffic; hold: how long it is judged there",
    "    steps:",
    "      - {weight: 5, hold: 2m}",
    "      - {weight: 25, hold: 5m}",
    "    on_fail: rollback         # when it is worse than the baseline: rollback or pause",
    "    on_error: pause           # when it could not be judged: pause or rollback",
    "    undecided: pause          # when a step ends without a decision: pause, fail or continue",
    "  rollout:",
    "    bake: 5m                  # judged with all of the traffic before the release is done",
)
_METRICS: Final = (
    "metrics:",
    "  source:",
    "    envoy: {}                 # Envoy stands in front of the instances and counts",
    "  watch:",
    "    - {name: errors, kind: ratio, tolerance: 25%, min_samples: 50}",
    "    - {name: p99, kind: latency, quantile: 0.99, tolerance: 25%}",
)


def _opening(folder: Path, top: str | None) -> Iterator[str]:
    yield "# How Pithead releases this service. `pithead doctor` checks it, `pithead` opens the console."
    yield "# Guesses say what they rest on: correct what is wrong. `pithead schema` lists every option."
    yield ""
    service = _service(folder, top)
    yield f"service: {_quoted(service.value)}{_because(service)}"
    yield "# environment: production   # a word for the top line; production is shown loudly"
    yield ""


def _source(folder: Path, top: str | None) -> Iterator[str]:
    yield "source:"
    yield "  git:"
    if _git(folder, "rev-parse", "--git-dir") is None:
        yield "    repository: .             # no git repository is here yet: `git init` makes one"
    else:
        yield f"    repository: {_quoted(_repository(folder, top or str(folder)))}"
    branch = _branch(folder)
    yield f"    branch: {_quoted(branch.value)}{_because(branch)}"


def _build(guess: Guess | None) -> Iterator[str]:
    yield "  build:"
    if guess is None:
        yield "    archive: {}               # packs the commit's tree as it is; add `command: make build` to build"
        return
    yield "    archive:"
    yield f"      command: {_quoted(guess.value)}{_because(guess)}"
    yield "      timeout: 10m"


def _tests(guesses: dict[str, Guess]) -> Iterator[str]:
    if not guesses:
        yield "  # tests:                    # no test was recognised; each is a stage of its own"
        yield "  #   - {name: unit, command: make test, timeout: 10m}"
        return
    yield "  tests:"
    for name, guess in guesses.items():
        yield f"    - name: {name}"
        yield f"      command: {_quoted(guess.value)}{_because(guess)}"
        yield "      timeout: 10m"


def _target(guess: Guess | None, port: str | None) -> Iterator[str]:
    yield "target:"
    yield "  process:"
    if guess is None:
        yield f"    command: {_quoted(_NO_START)}   # write how an instance is started: nothing here says it"
    else:
        yield f"    command: {_quoted(guess.value)}{_because(guess)}"
    yield "    # Each instance has to listen on 127.0.0.1 and the port in $PORT, which is another for each."
    if port is not None:
        yield f"    # The Dockerfile exposes {port}: make sure that the command above obeys $PORT instead."
    yield "    instances: 2"


def _service(folder: Path, top: str | None) -> Guess:
    remote = _REMOTE_NAME.search(_git(folder, "config", "--get", "remote.origin.url") or "")
    if remote is not None and (name := _slug(remote[1])):
        return Guess(name, "the name of the remote 'origin'")
    if name := _slug(Path(top).name if top is not None else folder.name):
        return Guess(name, "the folder's name")
    return Guess("service", "the folder's name has no letter that could be used")


def _prefix(folder: Path) -> str:
    """Where the folder is below the top of its repository: commands are run at the top."""
    prefix = (_git(folder, "rev-parse", "--show-prefix") or "").removesuffix("/")
    return prefix if _is_plain(prefix) else ""


def _inside(prefix: str, guess: Guess) -> Guess:
    return Guess(f"cd {shlex.quote(prefix)} && {guess.value}", guess.reason) if prefix else guess


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-")


def _branch(folder: Path) -> Guess:
    default = _git(folder, "symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")
    if default is not None and _is_plain(default):
        return Guess(default.removeprefix("origin/"), "the default branch of 'origin'")
    current = _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    if current is not None and _is_plain(current):
        return Guess(current, "the branch that is checked out")
    return Guess("main", "no branch is checked out here")


def _repository(folder: Path, top: str) -> str:
    relative = os.path.relpath(top, folder.resolve())
    return relative if _is_plain(relative) else "."


def _is_plain(text: str) -> bool:
    return bool(text) and text.isprintable() and len(text) < 1000


def _quoted(text: str) -> str:
    """The text as a YAML value, in quotes unless it is a plain word to every reader of YAML."""
    is_word = re.fullmatch(r"[a-z][a-z-]*[a-z]|\.{1,2}(/\.\.)*", text) and text not in _SPECIAL_WORDS
    return text if is_word else json.dumps(text, ensure_ascii=False)


def _because(guess: Guess) -> str:
    return f"   # {printable(guess.reason)}"


def _git(folder: Path, *arguments: str) -> str | None:
    """One line from git about the folder; None if it has none to give."""
    # A repository's own settings may name programs to run; these commands need none of them.
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_PATIENCE_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    text = done.stdout.decode("utf-8", errors="surrogateescape").removesuffix("\n")
    return text if done.returncode == 0 and text else None
