"""Whatever is wrong with a configuration is told with file, line, path and mend, all of it at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from pithead.delivery.config import BackendOptions, ConfigErrors, Slot, load_config, read_config
from pithead.delivery.config_values import Section, option
from pithead.delivery.durations import Duration
from pithead.delivery.ports import BackendError

FILE = Path("config.yaml")

WHOLE = """\
service: checkout
environment: production
source:
  git: {branch: main}
pipeline:
  build:
    archive: {}
  tests:
    - name: unit
      command: make unit
      timeout: 10m
      environment: {KEY: value}
    - name: functional
      command: make functional
  canary:
    steps:
      - {weight: 5, hold: 2m}
      - {weight: 25, hold: 5m}
    interval: 5s
    on_fail: rollback
  rollout: {bake: 5m}
target:
  process:
    command: ./serve
metrics:
  source: {envoy: {}}
  watch:
    - {name: errors, kind: ratio, tolerance: 25%}
    - {name: p99, kind: latency, quantile: 0.99}
"""


def errors_of(text: str, backends: BackendOptions | None = None) -> list[str]:
    with pytest.raises(ConfigErrors) as refused:
        read_config(text, FILE, backends)
    lines = str(refused.value).splitlines()
    assert len(lines) == len(refused.value.errors)
    return lines


def test_the_text_that_these_tests_break_is_right() -> None:
    assert read_config(WHOLE, FILE).service == "checkout"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        # words that are not there, or not known
        ("service: checkout\n", "", "1: service: This key is missing. Write it, for example `service: checkout`."),
        ("      command: make unit\n", "", "9: pipeline.tests[0].command: This key is missing. Write it, for example"),
        ("command: ./serve", "", None),
        ("make functional", "", "14: pipeline.tests[1].command: Nothing is written here. Write it, for example"),
        ("timeout: 10m", "timeuot: 10m", "11: pipeline.tests[0].timeuot: Unknown key. Did you mean 'timeout'?"),
        ("timeout: 10m", "xyzzy: 10m", "Unknown key. Known here: command, environment, name, retries, timeout."),
        ("on_fail: rollback", "on: rollback", "20: pipeline.canary.on: Unknown key. Known here: interval, on_error"),
        ("timeout: 10m", "timeout_seconds: 10m", "timeout_seconds: Unknown key. Did you mean 'timeout'?"),
        ("on_fail: rollback", "on_fail: rolback", "'rolback' is not known here. Did you mean rollback? Write rollback or"),
        ("kind: ratio", "kind: 5", "28: metrics.watch[0].kind: 5 is not known here. Write ratio or latency."),
        # kinds of values
        ("service: checkout", "service: 123", '1: service: Expected text, found 123. Put it in quotes: "123".'),
        ("service: checkout", "service: 1.10", 'Expected text, found 1.1. Put it in quotes: "1.10".'),
        ("service: checkout", "service: true", 'Expected text, found true. Put it in quotes: "true".'),
        ("service: checkout", "service: [a]", "Expected text, found a list. Write one value"),
        ("make functional", "[make, it]", "14: pipeline.tests[1].command: Expected text, found a list."),
        ("    - name: functional", "    - functional\n    - name: functional", "13: pipeline.tests[1]: Expected a group of"),
        ("  canary:", "  canary: no\n  rollout:", "15: pipeline.canary: Expected a group of keys, found 'no'."),
        ("timeout: 10m", "retries: yes", "11: pipeline.tests[0].retries: Expected a whole number, found 'yes'. Write digits"),
        ("timeout: 10m", "retries: 11", "11: pipeline.tests[0].retries: 11 does not fit. It must be at most 10."),
        ("timeout: 10m", "retries: true", "pipeline.tests[0].retries: Expected a whole number, found true."),
        ("timeout: 10m", "retries: 010", "11: pipeline.tests[0].retries: '010' starts with 0: some readers take it for octal"),
        ("kind: ratio", "kind: ratio, critical: maybe", "Expected true or false, found 'maybe'. Write true or false."),
        ("kind: ratio", "kind: ratio, min_samples: 0", "0 does not fit. It must be at least 1."),
        # durations
        ("timeout: 10m", "timeout: 10", "11: pipeline.tests[0].timeout: 10 has no unit. Write 10s for seconds or 10m for"),
        ("timeout: 10m", "timeout: 1:30", "'1:30' has no unit. Write 1m30s or 1h30m."),
        ("timeout: 10m", "timeout: 2026-01-01", "'2026-01-01' is not a duration."),
        ("timeout: 10m", "timeout: 0", "11: pipeline.tests[0].timeout: 0 is too little. It must be more than 0."),
        ("timeout: 10m", "timeout: {a: b}", "Expected a duration. Write a number with its unit"),
        # names
        ("service: checkout", "service: Check out", "1: service: 'Check out' cannot be the name of a service. Use up to 63"),
        ("service: checkout", f"service: {'x' * 64}", "xx …' cannot be the name of a service."),
        ("environment: production", "environment: '[red]x'", "2: environment: '[red]x' is no word for the top line."),
        ("name: functional", "name: Rollout", "13: pipeline.tests[1].name: 'Rollout' is the name of a stage that every"),
        ("name: functional", "name: Unit", "13: pipeline.tests[1].name: 'Unit' is already the name of the test before it."),
        ("name: functional", "name: a/b", "13: pipeline.tests[1].name: 'a/b' cannot be a name here."),
        ("name: p99", "name: errors", "29: metrics.watch[1].name: 'errors' is already the name of the metric before it."),
        ("make unit", "' '", "10: pipeline.tests[0].command: ' ' is no command."),
        # the canary's ladder
        ("weight: 25", "weight: 3", "18: pipeline.canary.steps[1].weight: 3 is below the step before it (5). Steps go up; 0"),
        ("weight: 25", "weight: 5", "18: pipeline.canary.steps[1].weight: 5 repeats the step before it (5)."),
        ("weight: 25", "weight: 0", "18: pipeline.canary.steps[1].weight: 0 is no step. Steps go up from 1; 0 is 'abort'."),
        ("weight: 25", "weight: 100", "100 is no step of the canary. Leave it out: the rollout follows the last step."),
        ("weight: 25", "weight: 2.5", "Expected whole per cent from 1 to 99, found 2.5. Write 5."),
        ("weight: 25", "weight: -1", "-1 is no share of the traffic."),
        ("weight: 25, hold: 5m", "weight: 25", "18: pipeline.canary.steps[1].hold: This key is missing."),
        ("hold: 5m", "hold: 0", "18: pipeline.canary.steps[1].hold: 0 is too little."),
        ("interval: 5s", "interval: 3m", "19: pipeline.canary.interval: A step of 2m would be over before the first look"),
        ("interval: 5s", "interval: 1ms", "19: pipeline.canary.interval: The metrics would be read without pause."),
        # metrics
        ("tolerance: 25%", "tolerance: 25", "28: metrics.watch[0].tolerance: 25 is more than 1. Write 25% for per cent."),
        ("tolerance: 25%", "tolerance: -1", "Expected a share, found -1. Write it as 25% or 0.25."),
        ("tolerance: 25%", "tolerance: 0", "0 is too little. It must be more than 0."),
        ("tolerance: 25%", "limit: 5s", "28: metrics.watch[0].limit: Expected a share, found '5s'."),
        ("tolerance: 25%", "limit: 0", "28: metrics.watch[0].limit: A limit of 0 would fail every release. Write more"),
        ("tolerance: 25%", "quantile: 0.9", "28: metrics.watch[0].quantile: A ratio has no quantile."),
        ("quantile: 0.99", "quantile: 1", "29: metrics.watch[1].quantile: 1 is no quantile."),
        ("quantile: 0.99", "limit: 5%", "29: metrics.watch[1].limit: '5%' is not a duration."),
        ("  source: {envoy: {}}", "  source: {envoy: {}}\n  alpha: 60%", "27: metrics.alpha: 0.6 is no risk to take."),
        # backends
        ("git: {branch: main}", "", "3: source: Nothing is written here. Write it, for example `source: {git: {branch"),
        ("  git: {branch: main}", "  git", "4: source: Expected a backend with its options, found 'git'. Write {git: {}}."),
        ("git: {branch: main}", "git: main", "4: source.git: Expected the backend's options, found 'main'."),
        ("git: {branch: main}", "git: {}\n  hg: {}", "3: source: Names 2 backends: 'git', 'hg'. Keep one"),
        ("  git: {branch: main}", "  {}", "3: source: Names no backend."),
        ("  git: {branch: main}", "  - git", "3: source: Expected a backend with its options, found a list."),
        # variables
        ("{KEY: value}", "{KEY: 5}", "12: pipeline.tests[0].environment.KEY: Expected text, found a number or a true/false."),
        ("{KEY: value}", "{A-B: value}", "12: pipeline.tests[0].environment.A-B: 'A-B' cannot be the name of an environment"),
        ("{KEY: value}", "{KEY: {from_evn: A}}", "environment.KEY.from_evn: Unknown key. Did you mean 'from_env'?"),
        ("{KEY: value}", "[KEY=value]", "12: pipeline.tests[0].environment: Expected a group of variables."),
        # YAML
        ("service: checkout", "service: checkout\nservice: b", "2: service: The key is here a second time. The first is on"),
        ("service: checkout", "service: !!python/name:os.system x", "1: service: The tag 'tag:yaml.org,2002:python/name:os.s"),
        ("service: checkout", "<<: {a: b}", "1: '<<' is not supported."),
        ("service: checkout", '"a\\e[2J": b', r"1: The key 'a\x1b[2J' holds a control character."),
        ("service: checkout", 'service: "\\e[2J"', "1: service: The text holds a control character. Remove it."),
        ("service: checkout", "? [a]\n: b", "1: A key must be a word."),
        ("service: checkout", "service:\n\t- a", "2: A tab stands where spaces must. Indent with spaces."),
        ("service: checkout", "service: a: b", "1: A ':' stands where none can. Put text that holds ': ' in quotes."),
        ("service: checkout", "service: @a", "1: This character cannot start a value. Put the value in quotes."),
        ("git: {branch: main}", "git: {branch: main", "4: A bracket is opened here and not closed."),
        ("command: make unit", 'command: "make unit', "10: A quote is opened here and never closed."),
        ("  canary:", " canary:", "15: This line does not fit those above it. Indent it as its neighbours are."),
        ("service: checkout", "service: *checkout", "1: An alias (*name) stands before its anchor (&name)."),
        ("service: checkout", "service: &a [*a]", "1: An alias stands inside its own anchor."),
        ("environment: production", "---\nenvironment: production", "2: There are several documents in the file."),
        ("make unit", "make\0unit", "10: The character U+0000 may not stand in YAML."),
        ("make unit", '"\\UFFFFFFFF"', "10: An escape in a quoted text stands for no character."),
        ("make unit", '"\\uD800"', "10: pipeline.tests[0].command: The text holds a control character."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line_and_its_mend(old: str, new: str, says: str | None) -> None:
    assert old in WHOLE
    text = WHOLE.replace(old, new, 1)
    if says is None:  # an option of a backend: known only to who knows the backend
        assert read_config(text, FILE).target.options == {}
        return
    told = errors_of(text)
    assert any(line.startswith("config.yaml:") and says in line for line in told), told


def test_a_line_number_is_that_of_an_editor_whatever_ends_the_lines() -> None:
    broken = "# a\u2028b\x85c\nservice: A\n"
    assert [line for line in errors_of(broken) if "service:" in line] == [
        line for line in errors_of(broken) if line.startswith("config.yaml:2: service:")
    ]
    assert errors_of("a: 1\r\rb: [\r")[0].startswith("config.yaml:3:")


def test_a_value_that_was_refused_is_not_called_missing_as_well() -> None:
    told = errors_of(WHOLE.replace("service: checkout", "service: 0123"))
    assert told == [
        "config.yaml:1: service: '0123' starts with 0: some readers take it for octal, others don't."
        " Leave the 0 out, or put it in quotes if it is text."
    ]


def test_all_that_is_wrong_is_told_at_once_in_order_of_the_lines() -> None:
    text = (
        WHOLE.replace("checkout", "Checkout")
        .replace("timeout: 10m", "timeout: 10")
        .replace("on_fail: rollback", "on_fail: x")
        .replace("weight: 25", "weight: 4")
        .replace("tolerance: 25%", "tolerance: 25")
    )
    assert [line.split(": ")[1] for line in errors_of(text)] == [
        "service",
        "pipeline.tests[0].timeout",
        "pipeline.canary.steps[1].weight",
        "pipeline.canary.on_fail",
        "metrics.watch[0].tolerance",
    ]


def test_a_flood_of_errors_is_cut() -> None:
    text = WHOLE + "".join(f"key{number}: 1\n" for number in range(5000))
    told = errors_of(text)
    assert len(told) < 200
    assert any("4900 more places are wrong." in line for line in told)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "config.yaml:1: The file is empty. `pithead init` writes one to start from."),
        ("# only a comment\n", "config.yaml:1: The file is empty."),
        ("- a\n- b\n", "config.yaml:1: Expected a group of keys, found a list. Write `key: value` lines below it."),
        ("text", "config.yaml:1: Expected a group of keys, found 'text'."),
        ("5", "config.yaml:1: Expected a group of keys, found 5."),
        ("~", "config.yaml:1: Expected a group of keys, found nothing."),
        ("[" * 10_000, "config.yaml:1: The file nests too deep. 30 levels are enough."),
        ("- " * 10_000, "config.yaml:1: The file nests too deep."),
        ("a: &a [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1 if i else ''}]\n" for i in range(50)), "config.yaml:29: The file nes"),
        ("".join(f"a{i}: 1\n" for i in range(30_000)), "config.yaml:10001: There are too many values in the file."),
        (
            "a: &a [x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"{k}: &{k} [{', '.join(['*' + p] * 9)}]\n" for p, k in zip("abcdefgh", "bcdefghi", strict=True)),
            "config.yaml:5: There are too many values in the file. 20,000 are enough; aliases count as often as they",
        ),
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_a_text_that_is_no_configuration_at_all_is_refused_soon(text: str, says: str) -> None:
    assert errors_of(text)[0].startswith(says)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    def told(name: str) -> str:
        with pytest.raises(ConfigErrors) as refused:
            load_config(tmp_path / name)
        return str(refused.value).removeprefix(f"{tmp_path}/")

    (tmp_path / "large").write_bytes(b"#" * (1024 * 1024 + 1))
    (tmp_path / "latin").write_bytes("service: a\n# Stra\xdfe\n".encode("latin-1"))
    (tmp_path / "wide").write_bytes("service: a\n".encode("utf-16"))
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    assert told("none") == "none: There is no such file. `pithead init` writes one."
    assert told("large") == "large: The file is larger than 1 MiB. Is it the right file?"
    assert told("latin") == "latin:2: The file is not UTF-8 text. Save it as UTF-8."
    assert told("wide") == "wide:1: The file is not UTF-8 text. Save it as UTF-8."
    assert told("pipe") == "pipe: The file cannot be read: not a file. Name a regular file."
    assert told("loop").startswith("loop: The file cannot be read: ")
    assert told("a\0b").endswith("This cannot be the name of a file. Name a regular file.")
    assert told("x" * 300).endswith("Name a regular file.")
    with pytest.raises(ConfigErrors, match=r"This is a folder\. Name the file in it\."):
        load_config(tmp_path)


def test_a_file_without_permission_is_told_with_the_mend(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.touch(0o000)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(ConfigErrors, match=r"may not be read by this user\. chmod u\+r"):
            load_config(file)
    finally:
        os.seteuid(user)


# ── options of backends ──────────────────────────────────────────────────────────────────────────────────────────


class GitOptions(Section):
    branch: str = option("The branch.", default="main", min_length=2)
    limit: Annotated[int, Field(gt=0)] = 5


class ProcessOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    command: str | list[str]
    ready: Duration = 5.0
    ports: list[int] = []

    @field_validator("ports")
    @classmethod
    def _odd(cls, ports: list[int]) -> list[int]:
        if 7 in ports:
            raise RuntimeError("seven\x1b[2J is not\nallowed")
        assert 8 not in ports, "eight neither"
        return ports


class Fakes:
    def options(self, slot: Slot, name: str) -> type[BaseModel]:
        models: Mapping[str, type[BaseModel]] = {"git": GitOptions, "process": ProcessOptions}
        if slot in ("builder", "metrics"):
            return Section
        if name not in models:
            raise BackendError(f"No backend of the name '{name}' is installed.", "Did you mean 'git'?")
        return models[name]


def test_options_of_backends_are_checked_when_they_are_known() -> None:
    assert read_config(WHOLE, FILE, Fakes()).source.options == {"branch": "main"}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("branch: main", "brunch: main", "4: source.git.brunch: Unknown key. Did you mean 'branch'?"),
        ("branch: main", "branch: 5", '4: source.git.branch: Expected text, found 5. Put it in quotes: "5".'),
        ("branch: main", "branch: a", "4: source.git.branch: Too short. At least 2 characters are needed."),
        ("branch: main", "limit: 0", "4: source.git.limit: 0 does not fit. It must be more than 0."),
        ("git:", "got:", "4: source.got: No backend of the name 'got' is installed. Did you mean 'git'?"),
        ("command: ./serve", "ready: 5s", "23: target.process.command: This key is missing."),
        ("command: ./serve", "command: 5", "24: target.process.command: Expected text or a list, found 5. Put it in quotes"),
        ("command: ./serve", "command: [x, 5]", "24: target.process.command"),
        ("command: ./serve", "command: x\n    ready: 5", "25: target.process.ready: 5 has no unit."),
        ("command: ./serve", "command: x\n    ports: [1, x]", "25: target.process.ports[1]: Expected a whole number, found"),
        ("command: ./serve", "command: x\n    ports: [7]", "23: target.process: The backend fails to check its options: Seve"),
        ("command: ./serve", "command: x\n    ports: [8]", "25: target.process.ports: Eight neither"),
    ],
)  # fmt: skip
def test_options_of_backends_are_told_in_the_same_form(old: str, new: str, says: str) -> None:
    told = errors_of(WHOLE.replace(old, new, 1), Fakes())
    assert any(says in line for line in told), told
    assert all(line.isprintable() and "pydantic" not in line for line in told)


def test_errors_of_backends_come_together_with_all_others() -> None:
    text = (
        WHOLE.replace("branch: main", "brunch: main")
        .replace("checkout", "Checkout")
        .replace("timeout: 10m", "timeout: 10")
    )
    places = [line.split(": ")[1] for line in errors_of(text, Fakes())]
    assert places == ["service", "source.git.brunch", "pipeline.tests[0].timeout"]
