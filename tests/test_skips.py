"""Skipped tests are listed, and where the services are meant to be there, they fail. Tried with a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
OF_A_SERVICE = """
import pytest

@pytest.mark.needs_postgres
def test_asks_the_server():
    pytest.skip("no server here")

def test_is_well():
    pass
"""
OF_ANOTHER_KIND = """
import pytest

@pytest.mark.skip(reason="not on this system")
def test_is_of_another_system():
    pass

def test_is_well():
    pass
"""
OF_A_MODULE = 'import pytest\npytest.skip("no server here", allow_module_level=True)\n'

Try = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def try_out(tmp_path: Path) -> Try:
    """Runs pytest on a test module with the project's conftest; only the variables that are given reach it."""
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text("utf-8"), "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = needs_postgres: needs a server\n", "utf-8")

    def run(source: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_tried.py").write_text(source, "utf-8")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_skip_is_listed_with_its_reason_and_allowed_at_home(try_out: Try) -> None:
    run = try_out(OF_A_SERVICE)
    assert run.returncode == 0
    assert "1 skipped" in run.stdout
    assert "test_tried.py::test_asks_the_server: no server here" in run.stdout


@pytest.mark.parametrize("variable", ["CI=true", "PITHEAD_NO_SKIPS=1"])
@pytest.mark.parametrize("arguments", [(), ("--numprocesses=1",)], ids=["here", "in a worker"])
def test_a_skip_for_want_of_a_service_fails_where_it_is_meant_to_be(
    try_out: Try, variable: str, arguments: tuple[str, ...]
) -> None:
    name, _, value = variable.partition("=")
    run = try_out(OF_A_SERVICE, *arguments, **{name: value})
    assert run.returncode == 1
    assert "NOT ALLOWED HERE  test_tried.py::test_asks_the_server: no server here" in run.stdout


def test_a_skip_for_another_reason_is_listed_and_allowed_everywhere(try_out: Try) -> None:
    run = try_out(OF_ANOTHER_KIND, CI="true")
    assert run.returncode == 0
    assert "test_tried.py::test_is_of_another_system: not on this system" in run.stdout


def test_a_module_that_skips_itself_fails_where_services_are_meant_to_be(try_out: Try) -> None:
    assert "test_tried.py: no server here" in try_out(OF_A_MODULE).stdout
    assert try_out(OF_A_MODULE, CI="true").returncode == 1
    assert try_out(OF_A_MODULE, "--numprocesses=1", CI="true").returncode == 1
