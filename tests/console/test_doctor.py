"""The doctor names what is wrong and the mend, and nothing that it looks at can end it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pithead.console import doctor
from pithead.console.registry import Backends
from pithead.delivery.config import Config, read_config
from pithead.delivery.ports import BackendError, Finding

WELL = Finding("backend", True, "it answers")


class Backend:
    """Stands where only `check` is asked."""

    def __init__(self, answer: Any = (WELL,)) -> None:
        self._answer = answer

    async def check(self) -> Sequence[Finding]:
        if isinstance(self._answer, BaseException):
            raise self._answer
        if self._answer == "hang":
            await asyncio.Event().wait()
        answer: Sequence[Finding] = self._answer
        return answer


def backends(**answers: Any) -> Backends:
    parts: dict[str, Any] = {slot: Backend() for slot in ("source", "builder", "target", "metrics")}
    return Backends(**{**parts, **{slot: Backend(answer) for slot, answer in answers.items()}})


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("PITHEAD_STATE", str(tmp_path / "state"))
    text = "{service: pay, source: {git: }, pipeline: {build: {archive: }}, target: {process: }, metrics: {source: {envoy: }}}"
    return read_config(text, tmp_path / "pithead.yaml")


def of(findings: Sequence[Finding], subject: str) -> Finding:
    (found,) = (finding for finding in findings if finding.subject == subject)
    return found


async def test_all_parts_are_looked_at(config: Config) -> None:
    async def journal() -> Sequence[Finding]:
        return [Finding("journal", True, "12 events")]

    findings = await doctor.examine(config, backends(), journal)
    assert [finding.subject for finding in findings] == [
        "Python",
        "terminal",
        "state folder",
        "disk",
        "git",
        "journal",
        *["backend"] * 4,
    ]
    assert of(findings, "Python").detail == ".".join(map(str, sys.version_info[:3]))
    assert of(findings, "git").is_well
    assert of(findings, "state folder").detail == f"{config.state_folder()}, mode 700"


async def test_whatever_a_backend_does_becomes_a_finding(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PATIENCE_SECONDS", 0.05)
    broken = backends(
        source=BackendError("the remote does not answer.", "Is the network there?"),
        builder=RuntimeError("out\x1b[2J of\nluck"),
        target="hang",
        metrics=None,
    )
    findings = await doctor.examine(config, broken)
    assert of(findings, "source git") == Finding(
        "source git", False, "the remote does not answer.", "Is the network there?"
    )
    assert of(findings, "builder archive").detail == "RuntimeError: out [2J of luck."
    assert of(findings, "target process").detail == "no answer within 50ms"
    assert not of(findings, "metrics envoy").is_well


async def test_a_journal_that_cannot_be_reached_is_a_finding(config: Config) -> None:
    async def journal() -> Sequence[Finding]:
        raise BackendError("no such host.", "Check journal.url.")

    assert of(await doctor.examine(config, backends(), journal), "journal").mend == "Check journal.url."


async def test_a_state_folder_that_cannot_be_made_is_a_finding(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PITHEAD_STATE", str(tmp_path / "file"))
    found = of(await doctor.examine(config, backends()), "state folder")
    assert "cannot be made: " in found.detail
    assert "PITHEAD_STATE" in found.mend
    monkeypatch.setenv("PITHEAD_STATE", "relative")
    found = of(await doctor.examine(config, backends()), "state folder")
    assert (found.detail, found.mend) == ("PITHEAD_STATE: It is not an absolute path.", "Start it with /.")


def test_a_state_folder_that_others_could_read_is_closed(config: Config) -> None:
    config.state_folder().mkdir(parents=True)
    config.state_folder().chmod(0o755)
    assert all(finding.is_well for finding in doctor.state_folder(config))
    assert config.state_folder().stat().st_mode & 0o777 == 0o700


def test_a_disk_that_is_full_is_a_finding(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free=100 * 1024**2))
    found = of(doctor.state_folder(config), "disk")
    assert (found.is_well, found.detail) == (False, "0.1 GiB free")
    assert "Make room" in found.mend


@pytest.mark.parametrize(
    ("script", "is_well", "detail"),
    [
        ("echo git version 2.47.1 '(Apple Git-1)'", True, "2.47.1"),
        ("echo git version 2.9.0", False, "2.9.0"),
        ("echo hello", False, "does not work"),
        ("exit 3", False, "does not work"),
        (None, False, "not found"),
    ],
)
async def test_git_has_to_be_there_and_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, is_well: bool, detail: str
) -> None:
    if script is not None:
        (tmp_path / "git").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = await doctor.git()
    assert (found.is_well, bool(found.mend)) == (is_well, not is_well)
    assert detail in found.detail


class Stream:
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("term", "encoding", "size", "mend"),
    [
        ("xterm-256color", "utf-8", (120, 36), ""),
        ("xterm-256color", "UTF8", (80, 24), ""),
        ("dumb", "utf-8", (120, 36), "export TERM=xterm-256color"),
        ("", "utf-8", (120, 36), "export TERM=xterm-256color"),
        ("xterm", "latin-1", (120, 36), "export LANG=C.UTF-8"),
        ("xterm", None, (120, 36), "export LANG=C.UTF-8"),
        ("xterm", "utf-8", (79, 24), "Enlarge the window to 80×24 or more."),
        ("xterm", "utf-8", (80, 23), "Enlarge the window to 80×24 or more."),
    ],
)
def test_a_terminal_has_to_show_the_console(
    monkeypatch: pytest.MonkeyPatch, term: str, encoding: str, size: tuple[int, int], mend: str
) -> None:
    stream = Stream()
    stream.encoding = encoding
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stdin", stream)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size(size))
    found = doctor.machine()[1]
    assert (found.mend, found.is_well) == (mend, not mend)


def test_without_a_terminal_nothing_is_wrong() -> None:
    assert doctor.machine()[1].is_well


FINDINGS = [Finding("Python", True, "3.11.7"), Finding("state folder", False, "\x1b[2Jfull", "Make room.")]


def test_the_text_gives_the_mend_below_what_is_wrong() -> None:
    assert doctor.to_text(FINDINGS).splitlines() == [
        "✔ Python        3.11.7",
        r"✘ state folder  \x1b[2Jfull",
        "                → Make room.",
        "1 of 2 need mending.",
    ]
    assert doctor.to_text(FINDINGS[:1]).endswith("\nAll is well.")
    assert doctor.to_text([]) == "All is well."


def test_the_json_holds_the_same() -> None:
    assert json.loads(doctor.to_json(FINDINGS)) == {
        "is_well": False,
        "findings": [
            {"subject": "Python", "is_well": True, "detail": "3.11.7", "mend": ""},
            {"subject": "state folder", "is_well": False, "detail": "\x1b[2Jfull", "mend": "Make room."},
        ],
    }
