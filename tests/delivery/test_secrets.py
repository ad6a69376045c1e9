"""A secret is named, never written: its value shows nowhere, and what may not be used is refused with the mend."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from pithead.delivery.config_errors import BadValueError
from pithead.delivery.secrets import Secret, SecretError, SecretOption, parse_secret, reveal_all, secrets_in


def private_file(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_file_is_read_relative_to_the_config_without_its_last_line_end(tmp_path: Path) -> None:
    private_file(tmp_path / "key", b"hunter2\r\n")
    assert Secret(from_file="key").reveal(tmp_path) == "hunter2"
    assert Secret(from_file=str(tmp_path / "key")).reveal(Path("/")) == "hunter2"


def test_a_variable_is_read_when_it_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = Secret(from_env="PITHEAD_TEST_SECRET")
    monkeypatch.setenv("PITHEAD_TEST_SECRET", "hunter2")
    assert reveal_all({"A": secret, "B": "text"}, tmp_path) == {"A": "hunter2", "B": "text"}
    assert "hunter2" not in f"{secret} {secret!r}"
    monkeypatch.setenv("PITHEAD_TEST_SECRET", "")
    with pytest.raises(SecretError, match="PITHEAD_TEST_SECRET is not set"):
        secret.reveal(tmp_path)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    private_file(tmp_path / "key", b"hunter2", mode)
    with pytest.raises(SecretError) as refused:
        Secret(from_file="key").reveal(tmp_path)
    assert "chmod 600 key" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"a\0b", "empty or not text"),
        (b"\xff\xfe", "UTF-8"),
        (b"x" * 70_000, "64 KiB"),
    ],
)
def test_a_file_without_usable_text_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    private_file(tmp_path / "key", content)
    with pytest.raises(SecretError, match=says):
        Secret(from_file="key").reveal(tmp_path)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("pipe", "missing", ".", "a\0b", "~nobody-of-this-name/key", "x" * 5000):
        with pytest.raises(SecretError, match="The secret's file"):
            Secret(from_file=name).reveal(tmp_path)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("hunter2", "by reference, not by value"),
        ({}, "Exactly one of from_env and from_file"),
        ({"from_env": "A", "from_file": "b"}, "Exactly one of from_env and from_file"),
        ({"from_evn": "A"}, "Did you mean 'from_env'?"),
        ({"from_env": "hunter 2"}, "cannot be the name of an environment variable"),
        ({"from_env": 5}, "Expected text."),
        ({"from_file": ""}, "Expected the path of a file."),
        ({5: 5}, "Unknown key."),
        (None, "by reference"),
    ],
)
def test_what_is_no_reference_is_refused(value: object, says: str) -> None:
    with pytest.raises(BadValueError) as refused:
        parse_secret(value)
    assert says in str(refused.value)


def test_a_backends_options_may_hold_references() -> None:
    class Options(BaseModel):
        token: SecretOption

    assert Options.model_validate({"token": {"from_env": "TOKEN"}}).token == Secret(from_env="TOKEN")
    with pytest.raises(ValidationError):
        Options.model_validate({"token": "hunter2"})
    assert Options.model_json_schema()["properties"]["token"]["maxProperties"] == 1


def test_references_are_found_wherever_they_are() -> None:
    tree = {"a": [{"b": {"from_env": "X"}}, {"from_file": "y"}], "c": {"from_env": "X", "other": 1}, "d": Secret("Z")}
    assert list(secrets_in(tree)) == [Secret("X"), Secret(from_file="y"), Secret("Z")]
