"""The demo's folder and its watchdog: whatever becomes of the demo, nothing of it is left, and nothing else is touched."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pithead.console.demo.cleaning import clean, marked
from pithead.console.demo.demo import run_demo
from pithead.console.demo.folder import MARK, demo_folder

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)",
]
HOLDER = """
import subprocess, sys, time
from pithead.console.demo.folder import demo_folder
with demo_folder() as folder:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print(folder, child.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(condition: Callable[[], bool], patience: float = 30.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_is_private_and_told_to_all_that_is_started(tmp_path: Path) -> None:
    with demo_folder() as folder:
        assert folder.parent == tmp_path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert os.environ["PITHEAD_STATE"] == str(folder / "state")
        assert os.environ[MARK] == str(folder)
    assert "PITHEAD_STATE" not in os.environ
    assert MARK not in os.environ
    assert not folder.exists()


def test_what_was_started_ends_with_it_also_when_it_would_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pithead.console.demo.cleaning.END_SECONDS", 0.5)
    environment = {**os.environ, MARK: str(tmp_path / "demo")}
    ours = subprocess.Popen(SLEEPER, env=environment, start_new_session=True)
    stubborn = subprocess.Popen(STUBBORN, env=environment, stdout=subprocess.PIPE)
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    another = subprocess.Popen(SLEEPER, env={**os.environ, MARK: str(tmp_path / "demo2")})
    try:
        assert {process.pid for process in marked(tmp_path / "demo")} == {ours.pid, stubborn.pid}
        (tmp_path / "demo").mkdir()
        assert clean(str(tmp_path / "demo")) == []
        assert list(marked(tmp_path / "demo")) == []
        assert not is_alive(ours.pid)
        assert not is_alive(stubborn.pid)
        assert another.poll() is None
    finally:
        stubborn.stdout.close()
        for process in (ours, stubborn, another):
            process.kill()
            process.wait()


def test_read_only_folders_go_too_and_links_are_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "of-the-user"
    kept.mkdir()
    (kept / "file").write_text("kept")
    with demo_folder() as folder:
        tree = folder / "artifacts" / "tree"
        tree.mkdir(parents=True)
        (tree / "file").write_text("x")
        (tree / "file").chmod(0o400)
        (tree / "link").symlink_to(kept)
        tree.chmod(0o500)
        tree.parent.chmod(0o500)
    assert not folder.exists()
    assert (kept / "file").read_text() == "kept"
    assert stat.S_IMODE(kept.stat().st_mode) & 0o200


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_however_the_demo_ends_nothing_is_left(number: signal.Signals) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert holder.stdout is not None
    folder, pid = holder.stdout.readline().split()
    holder.send_signal(number)
    status = holder.wait(60)
    holder.stdout.close()
    assert status == (128 + number if number in (signal.SIGTERM, signal.SIGHUP) else -number)
    until(lambda: not Path(folder).exists() and not is_alive(int(pid)))


def test_a_fault_in_the_demo_is_told_and_cleaned_up() -> None:
    with pytest.raises(RuntimeError, match="of the test"), demo_folder() as folder:
        raise RuntimeError("of the test")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense", True, True), "there is no scenario 'nonsense'"),
        ((None, True, False), "add --scenario with one of good, errors"),
        (("good", False, True), "add --headless"),
        ((None, False, False), "needs a terminal"),
    ],
)
def test_bad_usage_is_told_with_the_mend(
    arguments: tuple[str | None, bool, bool], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_demo(*arguments) == 2
    told = capfd.readouterr()
    assert words in told.err
    assert told.out == ""


def test_without_git_or_envoy_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert run_demo("good", True, True) == 4
    assert "Install git" in capfd.readouterr().err
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "envoy", None)
        assert run_demo("good", True, True) == 4
    told = capfd.readouterr()
    assert "pithead[local]" in told.err
    assert told.out == ""
    assert not list(tmp_path.glob("pithead-demo-*"))
