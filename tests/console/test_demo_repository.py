"""The demo's repository: a past that one can believe, whose faults are faults of its code and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from pithead.console.demo.history import SCENARIOS, Scenario, history
from pithead.console.demo.repository import Repository, make_repository
from pithead.delivery.ports import BackendError


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return make_repository(tmp_path_factory.mktemp("demo") / "repository", time.time())


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def tree(repository: Repository, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "tree"
    git(repository.folder, "worktree", "add", "--quiet", "--detach", str(folder))
    yield folder
    git(repository.folder, "worktree", "remove", "--force", str(folder))


def passes(tree: Path, folder: str) -> bool:
    command = [sys.executable, "-B", "-m", "unittest", "discover", "-t", ".", "-s", folder]
    return subprocess.run(command, cwd=tree, capture_output=True).returncode == 0


@contextmanager
def serving(tree: Path) -> Iterator[HTTPConnection]:
    command = [sys.executable, "-B", "server.py", "--port", "0"]
    environment = {**os.environ, "PITHEAD_COMMIT": "of the test"}
    server = subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        connection = HTTPConnection("127.0.0.1", int(server.stdout.readline().split()[-1]), timeout=10)
        yield connection
        connection.close()
    finally:
        server.kill()
        server.communicate()


def ask(connection: HTTPConnection, **cart: Any) -> tuple[int, dict[str, Any], float]:
    """(status, answer, seconds)."""
    began = time.monotonic()
    connection.request("POST", "/total", json.dumps({"lines": [{"sku": "tea", "quantity": 1}], **cart}))
    response = connection.getresponse()
    answer = json.loads(response.read())
    assert response.headers["x-commit"] == "of the test"
    return response.status, answer, time.monotonic() - began


def test_the_history_is_believable(repository: Repository) -> None:
    rows = [line.split("|") for line in git(repository.folder, "log", "--format=%an|%at|%ct|%G?").splitlines()]
    assert len(rows) == len(history()) >= 12
    assert len({author for author, *_ in rows}) >= 3
    times = [int(at) for _, at, _, _ in rows]
    assert times == sorted(times, reverse=True)
    assert len({at // 86400 for at in times}) >= 4
    assert all(at == committed for _, at, committed, _ in rows)
    assert time.time() - 3600 < times[0] < time.time()
    assert git(repository.folder, "status", "--porcelain") == ""
    assert git(repository.folder, "rev-parse", "main") == repository.commits[-1]


def test_one_commit_is_taken_back_by_a_real_revert(repository: Repository) -> None:
    (sha,) = git(repository.folder, "log", "--format=%H", '--grep=^Revert "').splitlines()
    body = git(repository.folder, "log", "-1", "--format=%b", sha)
    reverted = body.removeprefix("This reverts commit ").split(".")[0]
    assert reverted in repository.commits
    assert git(repository.folder, "diff", "--stat", f"{reverted}^", sha, "--", "server.py") == ""


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_only_the_commit_that_is_to_fail_its_tests_fails_them(
    repository: Repository, tree: Path, scenario: Scenario
) -> None:
    bad = repository.released[scenario]
    for sha, expected in ((repository.before(bad), True), (bad, scenario != "failing-test")):
        git(tree, "checkout", "--quiet", sha)
        assert (passes(tree, "tests"), passes(tree, "functional")) == (expected, True), sha


def test_the_errors_are_carts_that_the_change_forgot(repository: Repository, tree: Path) -> None:
    bad = repository.released["errors"]
    for sha, status in ((repository.before(bad), 200), (bad, 500), (repository.commits[-1], 200)):
        git(tree, "checkout", "--quiet", sha)
        with serving(tree) as connection:
            assert ask(connection, country="NO")[0] == status
            assert ask(connection, country="DE")[0] == 200


def test_the_slow_answers_are_coupons_that_have_run_out(repository: Repository, tree: Path) -> None:
    bad = repository.released["slow"]
    for sha, is_slow in ((repository.before(bad), False), (bad, True), (repository.commits[-1], False)):
        git(tree, "checkout", "--quiet", sha)
        with serving(tree) as connection:
            ask(connection)
            fastest = min(ask(connection, coupon="WINTER23")[2] for _ in range(5))
            assert (fastest > 0.05) == is_slow, fastest
            assert min(ask(connection, coupon="SPRING10")[2] for _ in range(5)) < 0.05


def test_the_crash_is_a_key_that_only_the_tests_have(repository: Repository, tree: Path) -> None:
    git(tree, "checkout", "--quiet", repository.released["crash"])
    command = [sys.executable, "-B", "server.py", "--port", "0"]
    ended = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert "KeyError: 'CHECKOUT_KEY'" in ended.stderr


def test_the_users_own_git_settings_have_no_part_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = tmp_path / "hooks" / "pre-commit"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o700)
    settings = tmp_path / "gitconfig"
    settings.write_text(
        f"[core]\n hooksPath = {hook.parent}\n[commit]\n gpgSign = true\n template = /nowhere\n"
        "[user]\n name = Somebody Else\n[init]\n defaultBranch = trunk\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another.git"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody Else")
    made = make_repository(tmp_path / "repository", time.time())
    monkeypatch.undo()
    assert "Somebody Else" not in git(made.folder, "log", "--format=%an %cn")
    assert git(made.folder, "branch", "--format=%(refname:short)") == "main"


def test_without_git_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match="Install git"):
        make_repository(tmp_path / "repository", time.time())
