"""`pithead init` proposes a configuration that loads whatever the repository looks like, and says what each guess rests on."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pithead.console.init import propose, write_proposal
from pithead.console.registry import Registry
from pithead.delivery.config import Config, ConfigErrors, load_config, read_config


@pytest.fixture(autouse=True)
def _git_without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of this machine's reaches git, and no repository above the test's folder is found."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Ana", "-c", "user.email=ana@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def repository(folder: Path, files: dict[str, str] | None = None, branch: str = "main") -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "-b", branch)
    for name, text in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "--allow-empty", "-m", "Start")
    return folder


def proposed(folder: Path) -> Config:
    return read_config(propose(folder), folder / "pithead.yaml")


def commands(config: Config) -> tuple[str | None, dict[str, str], str]:
    """The commands that build, test and start."""
    tests = {test.name: test.command for test in config.pipeline.tests}
    return config.builder.options.get("command"), tests, config.target.options["command"]


KINDS: dict[str, tuple[dict[str, str], tuple[str | None, dict[str, str], str]]] = {
    "make": (
        {"Makefile": "X := 1\nall: dist\ndist build: src\n\tcp\nunit:\nfunctional : unit\ntest:\nserve:\n"},
        ("make dist", {"unit": "make unit", "functional": "make functional"}, "make serve"),
    ),
    "make-check": (
        {"GNUmakefile": "build:\nlint:\ncheck: lint\nrun::\nNOT ::= x\n"},
        ("make build", {"lint": "make lint", "test": "make check"}, "make run"),
    ),
    "npm": (
        {"package.json": json.dumps({"scripts": {"build": "tsc", "test": "jest", "start": "node ."}})},
        ("npm ci && npm run build", {"test": "npm test"}, "npm start"),
    ),
    "yarn-untested": (
        {
            "package.json": json.dumps({"scripts": {"test": 'echo "Error: no test specified" && exit 1', "start": "x"}}),
            "yarn.lock": "",
        },
        (None, {}, "yarn start"),
    ),
    "django": (
        {"manage.py": ""},
        (None, {"test": "python manage.py test"}, "python manage.py runserver --noreload 127.0.0.1:$PORT"),
    ),
    "pytest": (
        {"pyproject.toml": "[tool.pytest.ini_options]\nminversion = '8'\n", "server.py": ""},
        (None, {"test": "python -m pytest"}, "python server.py"),
    ),
    "go": (
        {"go.mod": "module x\n", "main.go": "package main\n"},
        ("go build -o bin/service .", {"test": "go test ./..."}, "./bin/service"),
    ),
    "go-library": ({"go.mod": "module x\n"}, (None, {"test": "go test ./..."}, "./serve --port $PORT")),
    "cargo": (
        {"Cargo.toml": '[package]\nname = "pay"\n'},
        ("cargo build --release", {"test": "cargo test"}, "./target/release/pay"),
    ),
    "procfile": (
        {"Procfile": 'worker: x\nweb: gunicorn app:app --bind "0.0.0.0:$PORT" # \\d\n', "app.py": ""},
        (None, {}, 'gunicorn app:app --bind "0.0.0.0:$PORT" # \\d'),
    ),
    "nothing": ({"README": "hello"}, (None, {}, "./serve --port $PORT")),
    "broken": (
        {"package.json": "[" * 5000, "pyproject.toml": "\0", "Cargo.toml": "[package]\nname = 5", "Procfile": "web: \x1b[2J\n"},
        ("cargo build --release", {"test": "cargo test"}, "./serve --port $PORT"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_commands_are_guessed_from_what_is_there(tmp_path: Path, kind: str) -> None:
    files, wanted = KINDS[kind]
    folder = repository(tmp_path / kind, files)
    assert commands(proposed(folder)) == wanted


def test_each_guess_says_what_it_rests_on(tmp_path: Path) -> None:
    text = propose(repository(tmp_path / "pay", {"Makefile": "dist:\n", "Dockerfile": "FROM x\nEXPOSE 8080/tcp\n"}))
    assert "service: pay   # the folder's name" in text
    assert "branch: main   # the branch that is checked out" in text
    assert "command: \"make dist\"   # the Makefile has a target 'dist'" in text
    assert "# The Dockerfile exposes 8080" in text
    assert "nothing here says it" in text
    assert "no test was recognised" in text


def test_the_remote_gives_the_name_and_its_default_branch(tmp_path: Path) -> None:
    upstream = repository(tmp_path / "Check_Out.git", branch="trunk")
    git(tmp_path, "clone", str(upstream), "work")
    git(tmp_path / "work", "checkout", "-b", "feature")
    config = proposed(tmp_path / "work")
    assert config.service == "check-out"
    assert config.source.options == {"repository": ".", "branch": "trunk"}


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("git@example.org:team/pay.git", "pay"),
        ("https://example.org/team/Pay-Service/", "pay-service"),
        ("https://user:hunter2@example.org", "folder"),
        ("https://user:hunter2@example.org/team/pay", "pay"),
        ("ssh://git@example.org:2222/~ana/pay.git", "pay"),
    ],
)
def test_a_remotes_url_gives_its_last_word_and_never_a_password(tmp_path: Path, url: str, service: str) -> None:
    folder = repository(tmp_path / "folder")
    git(folder, "remote", "add", "origin", url)
    assert proposed(folder).service == service
    assert "hunter2" not in propose(folder)


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("Checkout Service", "checkout-service"),
        ("ümläut", "ml-ut"),
        ("日本", "service"),
        ("'\"#: {[&*!|>%@`\\", "service"),
        ("-_-", "service"),
        ("x" * 200, "x" * 63),
        ("a\nb\x1b[2J", "a-b-2j"),
        ("true", "true"),
        ("123", "123"),
        ("~", "service"),
        ("a\u2028b", "a-b"),
        ("\U0001f600x", "x"),
    ],
)
def test_odd_folder_names_give_names_that_may_be_used(tmp_path: Path, name: str, service: str) -> None:
    assert proposed(repository(tmp_path / name, {"Makefile": "unit:\n"})).service == service


@pytest.mark.parametrize("branch", ["true", "no", "release/1.0", "a#b", "ünïcode", "1e5", "123"])
def test_odd_branches_stay_what_they_are(tmp_path: Path, branch: str) -> None:
    assert proposed(repository(tmp_path / "x", branch=branch)).source.options["branch"] == branch


def test_a_folder_inside_a_repository_points_to_its_top(tmp_path: Path) -> None:
    top = repository(tmp_path / "mono", {"pay me/Makefile": "dist:\nunit:\n"})
    config = proposed(top / "pay me")
    assert config.source.options["repository"] == ".."
    assert commands(config)[0] == "cd 'pay me' && make dist"
    assert commands(config)[1] == {"unit": "cd 'pay me' && make unit"}


def test_repositories_without_a_checked_out_commit_load_as_well(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-b", "trunk")
    assert proposed(tmp_path / "empty").source.options["branch"] == "trunk"
    git(tmp_path, "init", "--bare", "-b", "trunk", "bare.git")
    assert proposed(tmp_path / "bare.git").service == "bare-git"
    assert "git init" not in propose(tmp_path / "bare.git")
    detached = repository(tmp_path / "detached")
    git(detached, "checkout", "--detach")
    assert proposed(detached).source.options["branch"] == "main"
    (tmp_path / "none").mkdir()
    assert "no git repository is here yet" in propose(tmp_path / "none")
    assert proposed(tmp_path / "none").source.options["branch"] == "main"


def test_without_git_it_still_proposes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository(tmp_path / "pay")
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert proposed(folder).service == "pay"


LINES = st.text(st.characters(codec="utf-8"), max_size=40)


@given(line=LINES, script=LINES, target=LINES, crate=LINES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_files_hold_the_result_loads(
    tmp_path_factory: pytest.TempPathFactory, line: str, script: str, target: str, crate: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "Procfile").write_text(f"web: {line}\n")
    (folder / "package.json").write_text(json.dumps({"scripts": {"test": script, script: line}}))
    (folder / "Makefile").write_text(f"{target}: x\n")
    (folder / "Cargo.toml").write_text(f'[package]\nname = "{crate}"\n')
    (folder / "Dockerfile").write_text(f"EXPOSE {line}\n")
    proposed(folder)


def test_the_proposal_fits_the_backends_that_are_installed(tmp_path: Path) -> None:
    folder = repository(tmp_path / "pay", KINDS["make"][0])
    write_proposal(folder / "pithead.yaml")
    assert load_config(folder / "pithead.yaml", Registry()).service == "pay"


def test_a_file_that_exists_is_never_touched(tmp_path: Path) -> None:
    file = repository(tmp_path / "pay") / "pithead.yaml"
    file.write_text("mine")
    with pytest.raises(ConfigErrors, match=r"pithead\.yaml: The file exists and stays as it is\. Move it away first"):
        write_proposal(file)
    assert file.read_text() == "mine"
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigErrors, match="The file exists"):
        write_proposal(file)
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="The file cannot be written: No such file or directory"):
        write_proposal(tmp_path / "none" / "pithead.yaml")
