"""What a repository tells about how it is built, tested and started, from the files that lie in its top folder.

Each guess carries the reason that it rests on, so that an operator can judge it. Files are read with a bound and only
parsed, never run; what cannot be read or holds odd characters gives no guess.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pithead.delivery.private_files import read_regular

LARGEST_BYTES: Final = 256 * 1024
LONGEST_COMMAND: Final = 500

_MAKE_TARGET: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9_.-]*)(?: +[A-Za-z0-9_.-]+)*[ \t]*:(?!:?=)", re.MULTILINE)
_NO_NPM_TEST: Final = "no test specified"


@dataclass(frozen=True, slots=True)
class Guess:
    """A value for the configuration and what it rests on."""

    value: str
    reason: str


@dataclass(frozen=True)
class Folder:
    """The files of a repository's top folder, as far as they can be read."""

    path: Path

    def has(self, name: str) -> bool:
        try:
            return (self.path / name).exists()
        except OSError:
            return False

    def text(self, name: str) -> str:
        try:
            return read_regular(self.path / name, LARGEST_BYTES)[0].decode("utf-8", errors="replace")
        except OSError:
            return ""

    @cached_property
    def make_targets(self) -> frozenset[str]:
        text = next(filter(None, map(self.text, ("GNUmakefile", "makefile", "Makefile"))), "")
        return frozenset(_MAKE_TARGET.findall(text))

    @cached_property
    def npm_scripts(self) -> Mapping[str, str]:
        scripts = _group(_json(self.text("package.json")), "scripts")
        return {name: line for name, line in scripts.items() if isinstance(line, str)}

    @cached_property
    def npm(self) -> str:
        """The package manager that the lock file belongs to."""
        if self.has("pnpm-lock.yaml"):
            return "pnpm"
        return "yarn" if self.has("yarn.lock") else "npm"

    @cached_property
    def pyproject(self) -> Mapping[str, Any]:
        return _toml(self.text("pyproject.toml"))

    @cached_property
    def cargo(self) -> Mapping[str, Any]:
        return _toml(self.text("Cargo.toml"))


def build_command(folder: Folder) -> Guess | None:
    """How the commit's tree becomes something that can be started; None: it is fit to run as it is."""
    return _first(folder, _make("dist", "build"), _npm_build, _go_build, _cargo_build)


def start_command(folder: Folder) -> Guess | None:
    """How one instance is started, listening on $PORT."""
    starts = (_procfile, _npm_start, _django_start, _python_start, _go_start, _cargo_start)
    return _first(folder, *starts, _make("serve", "run", "start"))


def test_commands(folder: Folder) -> dict[str, Guess]:
    """The tests by the names of their stages, in the order to run them."""
    found = {name: _make(name)(folder) for name in ("lint", "unit", "functional", "integration")}
    named = {name: guess for name, guess in found.items() if guess is not None}
    if named.keys() - {"lint"}:
        return named
    whole = _first(folder, _make("test", "check"), _npm_test, _django_test, _pytest, _go_test, _cargo_test)
    return named | ({"test": whole} if whole is not None else {})


def exposed_port(folder: Folder) -> str | None:
    """The first port that the Dockerfile exposes."""
    match = re.search(r"^\s*EXPOSE\s+([0-9]{1,5})\b", folder.text("Dockerfile"), re.MULTILINE | re.IGNORECASE)
    return match[1] if match else None


Rule = Callable[[Folder], Guess | None]


def _first(folder: Folder, *rules: Rule) -> Guess | None:
    guesses = (rule(folder) for rule in rules)
    return next((guess for guess in guesses if guess is not None and _is_plain(guess.value)), None)


def _is_plain(value: str) -> bool:
    return 0 < len(value) <= LONGEST_COMMAND and value.isprintable()


def _make(*targets: str) -> Rule:
    def rule(folder: Folder) -> Guess | None:
        target = next((name for name in targets if name in folder.make_targets), None)
        return Guess(f"make {target}", f"the Makefile has a target '{target}'") if target else None

    return rule


def _npm_build(folder: Folder) -> Guess | None:
    if "build" not in folder.npm_scripts:
        return None
    install = {"npm": "npm ci", "yarn": "yarn install --frozen-lockfile", "pnpm": "pnpm install --frozen-lockfile"}
    return Guess(f"{install[folder.npm]} && {folder.npm} run build", "package.json has a script 'build'")


def _npm_test(folder: Folder) -> Guess | None:
    line = folder.npm_scripts.get("test", _NO_NPM_TEST)
    return None if _NO_NPM_TEST in line else Guess(f"{folder.npm} test", "package.json has a script 'test'")


def _npm_start(folder: Folder) -> Guess | None:
    return Guess(f"{folder.npm} start", "package.json has a script 'start'") if "start" in folder.npm_scripts else None


def _go_build(folder: Folder) -> Guess | None:
    return Guess("go build -o bin/service .", "there is a go.mod") if _is_go_program(folder) else None


def _go_start(folder: Folder) -> Guess | None:
    return Guess("./bin/service", "that is what the build makes of go.mod") if _is_go_program(folder) else None


def _go_test(folder: Folder) -> Guess | None:
    return Guess("go test ./...", "there is a go.mod") if folder.has("go.mod") else None


def _is_go_program(folder: Folder) -> bool:
    return folder.has("go.mod") and folder.has("main.go")


def _cargo_build(folder: Folder) -> Guess | None:
    return Guess("cargo build --release", "there is a Cargo.toml") if folder.has("Cargo.toml") else None


def _cargo_start(folder: Folder) -> Guess | None:
    name = _group(folder.cargo, "package").get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return None
    return Guess(f"./target/release/{name}", "that is what the build makes of Cargo.toml")


def _cargo_test(folder: Folder) -> Guess | None:
    return Guess("cargo test", "there is a Cargo.toml") if folder.has("Cargo.toml") else None


def _procfile(folder: Folder) -> Guess | None:
    match = re.search(r"^web:[ \t]*(\S.*?)[ \t\r]*$", folder.text("Procfile"), re.MULTILINE)
    return Guess(match[1], "the Procfile starts 'web' so") if match else None


def _django_start(folder: Folder) -> Guess | None:
    if not folder.has("manage.py"):
        return None
    return Guess("python manage.py runserver --noreload 127.0.0.1:$PORT", "there is a manage.py")


def _django_test(folder: Folder) -> Guess | None:
    return Guess("python manage.py test", "there is a manage.py") if folder.has("manage.py") else None


def _python_start(folder: Folder) -> Guess | None:
    name = next((name for name in ("server.py", "app.py", "main.py") if folder.has(name)), None)
    return Guess(f"python {name}", f"there is a {name}") if name else None


def _pytest(folder: Folder) -> Guess | None:
    reason = next(_signs_of_pytest(folder), None)
    return Guess("python -m pytest", reason) if reason else None


def _signs_of_pytest(folder: Folder) -> Iterator[str]:
    if _group(_group(folder.pyproject, "tool"), "pytest"):
        yield "pyproject.toml sets up pytest"
    for name in ("pytest.ini", "conftest.py", "tests/conftest.py"):
        if folder.has(name):
            yield f"there is a {name}"
    if folder.has("tests") and (folder.has("pyproject.toml") or folder.has("setup.py")):
        yield "it is a Python project with a folder 'tests'"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}


def _toml(text: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}


def _group(value: Any, key: str) -> Mapping[str, Any]:
    inner = value.get(key) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}
