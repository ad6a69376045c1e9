"""A configuration that is right becomes frozen, typed parts, with units in their names and secrets by reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from pithead.delivery.config import BackendChoice, Config, ConfigErrors, load_config, read_config
from pithead.delivery.ports import MetricSpec
from pithead.delivery.secrets import Secret, SecretError

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"

SMALLEST = """
service: checkout
source: {git: }
pipeline: {build: {archive: {}}}
target: {process: {command: ./serve}}
metrics: {source: {envoy: {}}}
"""


def config_of(text: str, file: Path = Path("/srv/checkout/config.yaml")) -> Config:
    return read_config(text, file)


def test_the_example_loads_into_typed_parts() -> None:
    config = load_config(EXAMPLE)
    assert (config.service, config.environment) == ("checkout", "production")
    assert (config.source.name, config.source.options["branch"]) == ("git", "main")
    assert config_of(SMALLEST).source == BackendChoice("git", {})
    assert (config.builder.name, config.target.name, config.metrics_source.name) == ("archive", "process", "envoy")
    functional = config.pipeline.tests[1]
    assert (functional.name, functional.command, functional.timeout_seconds, functional.retries) == (
        "functional",
        "make functional",
        1200,
        1,
    )
    assert functional.environment == {
        "BASE_URL": "http://127.0.0.1",
        "API_TOKEN": Secret(from_env="CHECKOUT_API_TOKEN"),
        "CERTIFICATE": Secret(from_file="secrets/checkout.pem"),
    }
    assert [(step.weight_percent, step.hold_seconds) for step in config.pipeline.canary.steps] == [
        (1, 120),
        (5, 300),
        (25, 600),
    ]
    assert config.pipeline.canary.interval_seconds == 5
    assert config.pipeline.rollout.bake_seconds == 300
    assert config.operator == Secret(from_env="USER")
    assert config.folder == EXAMPLE.parent


def test_what_is_left_out_has_its_default() -> None:
    config = config_of(SMALLEST)
    canary = config.pipeline.canary
    assert config.environment is None
    assert config.pipeline.tests == ()
    assert canary.steps == ()
    assert (canary.interval_seconds, canary.on_fail, canary.on_error, canary.undecided) == (
        5,
        "rollback",
        "pause",
        "pause",
    )
    assert config.pipeline.rollout.bake_seconds == 300
    assert config.metrics.watch == ()
    assert config.operator is None


def test_a_key_with_nothing_behind_it_counts_as_left_out() -> None:
    config = config_of(SMALLEST.replace("{archive: {}}}", "{archive: {command: }}, canary: , tests: , rollout: }"))
    assert config.pipeline.canary.steps == ()
    assert config.builder.options == {}


def test_metrics_share_the_false_alarm_budget() -> None:
    text = SMALLEST.replace(
        "{source: {envoy: {}}}",
        "{alpha: 2%, source: {envoy: {}}, watch: [{name: errors, kind: ratio, limit: 5%, tolerance: 0.5, critical: no},"
        " {name: p95, kind: latency, quantile: 95%, limit: 800ms, min_samples: 7, options: {path: /pay}}]}",
    )
    assert config_of(text).metrics.watch == (
        MetricSpec("errors", "ratio", tolerance=0.5, alpha=0.01, is_critical=False, limit=0.05),
        MetricSpec("p95", "latency", alpha=0.01, quantile=0.95, limit=0.8, min_samples=7, options={"path": "/pay"}),
    )


def test_words_that_older_yaml_takes_for_something_else_stay_words() -> None:
    text = SMALLEST.replace(
        "{archive: {}}}", "{archive: {}}, tests: [{name: on, command: no, environment: {ON: off, T: 1:30}}]}"
    )
    test = config_of(text).pipeline.tests[0]
    assert (test.name, test.command, test.environment) == ("on", "no", {"ON": "off", "T": "1:30"})


def test_an_alias_stands_for_its_anchor() -> None:
    tests = "tests: [{name: a, command: x, environment: &e {K: v}}, {name: b, command: x, environment: *e}]"
    config = config_of(SMALLEST.replace("{archive: {}}}", f"{{archive: {{}}}}, {tests}}}"))
    assert config.pipeline.tests[1].environment == {"K": "v"}


def test_nothing_in_it_can_be_changed() -> None:
    config = config_of(SMALLEST)
    with pytest.raises(ValidationError):
        config.service = "other"
    with pytest.raises(ValidationError):
        config.pipeline.canary.interval_seconds = 1.0


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + SMALLEST.replace("\n", "\r\n").encode())
    assert load_config(file).service == "checkout"


# ── state and journal ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_state_folder_is_the_users_own_unless_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = config_of(SMALLEST)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("PITHEAD_STATE", raising=False)
    assert config.state_folder().parts[-2:] == ("pithead", "checkout")
    monkeypatch.setenv("PITHEAD_STATE", str(tmp_path))
    assert config.state_folder() == tmp_path / "checkout"
    assert config.journal_url() == f"sqlite:///{tmp_path}/checkout/journal.db"
    monkeypatch.setenv("PITHEAD_STATE", "somewhere")
    with pytest.raises(ConfigErrors, match=r"^PITHEAD_STATE: It is not an absolute path\."):
        config.state_folder()


def with_journal(url: str) -> Config:
    return config_of(f"{SMALLEST}\njournal: {{url: {url}}}\n")


@pytest.mark.parametrize("name", ["a?b", "50%41"])
def test_the_journals_path_survives_odd_characters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    from sqlalchemy import make_url

    monkeypatch.setenv("PITHEAD_STATE", str(tmp_path / name))
    url = config_of(SMALLEST).journal_url()
    assert make_url(url).database == str(tmp_path / name / "checkout" / "journal.db")


def test_a_relative_sqlite_path_starts_at_the_configs_folder() -> None:
    assert (
        with_journal('"sqlite:///state/j.db?timeout=3"').journal_url() == "sqlite:////srv/checkout/state/j.db?timeout=3"
    )
    assert with_journal('"sqlite:////var/j.db"').journal_url() == "sqlite:////var/j.db"


def test_the_journals_url_is_looked_up_late(monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_journal("{from_env: PITHEAD_TEST_JOURNAL}")
    monkeypatch.delenv("PITHEAD_TEST_JOURNAL", raising=False)
    with pytest.raises(SecretError, match="PITHEAD_TEST_JOURNAL is not set"):
        config.journal_url()
    monkeypatch.setenv("PITHEAD_TEST_JOURNAL", "postgresql+psycopg://u:hunter2@db/pithead")
    assert config.journal_url() == "postgresql+psycopg://u:hunter2@db/pithead"
    assert "hunter2" not in repr(config)
    monkeypatch.setenv("PITHEAD_TEST_JOURNAL", "u:hunter2@db")
    with pytest.raises(SecretError) as refused:
        config.journal_url()
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:hunter2@db/x", "postgresql://u:hun/ter2@db", "postgresql://db/x?user=u&password=hunter2"],
)
def test_a_password_in_the_file_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigErrors) as refused:
        with_journal(f'"{url}"')
    assert "journal.url: A password stands in the URL." in str(refused.value)
    assert "{from_env: PITHEAD_JOURNAL}" in str(refused.value)
    assert "hun" not in str(refused.value)


@pytest.mark.parametrize("url", ["sqlite://", '"sqlite:///:memory:"', "sqlite:///", "journal.db", '""'])
def test_a_url_that_cannot_hold_a_journal_is_refused(url: str) -> None:
    with pytest.raises(ConfigErrors, match=r"journal\.url: .*Write sqlite:////folder/journal\.db"):
        with_journal(url)


def test_every_reference_to_a_secret_is_found_for_masking() -> None:
    text = SMALLEST.replace("command: ./serve", "command: x, nested: [{key: {from_file: key.pem}}]")
    config = config_of(f"{text}\njournal: {{url: {{from_env: JOURNAL}}}}\n")
    assert config.secrets() == (Secret(from_file="key.pem"), Secret(from_env="JOURNAL"))


# ── what it costs ────────────────────────────────────────────────────────────────────────────────────────────────


def test_importing_it_loads_no_terminal_and_no_client_library() -> None:
    program = (
        "import sys, pathlib\n"
        "from pithead.delivery.config import load_config\n"
        f"load_config(pathlib.Path({str(EXAMPLE)!r}))\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    heavy = {
        "textual",
        "docker",
        "kubernetes",
        "numpy",
        "scipy",
        "sqlalchemy",
        "httpx",
        "git",
        "rich",
        "click",
        "asyncio",
    }
    assert not heavy & set(done.stdout.split())
