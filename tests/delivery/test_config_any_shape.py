"""No text of any shape ends in anything but a configuration or `ConfigErrors`, and each error names a line of the text."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from pithead.delivery.config import Config, ConfigErrors, Slot, read_config
from pithead.delivery.config_values import Name, Section, Variables, option
from pithead.delivery.durations import Duration
from pithead.delivery.secrets import TextOrSecret

EXAMPLE = (Path(__file__).parents[2] / "config.example.yaml").read_text()
LENIENT = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(["5m", "25%", "1:30", "010", "on", "0x1F", "2026-01-01", "1e400", ".nan", "<<", "=", "", "git"]),
)
KEYS = st.one_of(
    st.text(max_size=10),
    st.integers(),
    st.none(),
    st.sampled_from(
        ["service", "source", "pipeline", "metrics", "watch", "kind", "limit", "from_env", "from_file", "<<"]
    ),
)
TREES = st.recursive(
    SCALARS,
    lambda children: st.one_of(st.lists(children, max_size=4), st.dictionaries(KEYS, children, max_size=4)),
    max_leaves=12,
)


class AnyOptions(Section):
    command: str | list[str] | None = None
    repository: Path = Path()
    branch: Name = "main"
    count: int | None = Field(default=None, gt=0)
    wait: Duration = option("A time.", default=1.0)
    ratio: float | bool = 0.5
    token: TextOrSecret | None = None
    environment: Variables = option("Variables.", default_factory=dict)


class Fakes:
    def options(self, slot: Slot, name: str) -> type[BaseModel]:
        return AnyOptions


def check(text: str) -> Config | ConfigErrors:
    """What the text leads to, after a look at every error."""
    try:
        return read_config(text, Path("config.yaml"), Fakes())
    except ConfigErrors as refused:
        errors = refused
    lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").count("\n") + 1
    assert errors.errors
    for error in errors.errors:
        assert 1 <= error.line <= lines
        assert str(error).startswith(f"config.yaml:{error.line}: ")
        assert str(error).isprintable()
        assert error.message.strip()
        assert not any(
            word in str(error).lower() for word in ("pydantic", "://errors", "basemodel", "validat", "traceback")
        )
    return errors


def dump(tree: Any) -> str:
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every group or list of the tree with each of its keys or positions."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from places(tree[key])


@st.composite
def broken_examples(draw: st.DrawFn) -> str:
    """The example with up to three places deleted, renamed, doubled or given another value."""
    tree = copy.deepcopy(yaml.safe_load(EXAMPLE))
    for _ in range(draw(st.integers(1, 3))):
        group, key = draw(st.sampled_from(list(places(tree)) or [({"service": "x"}, "service")]))
        match draw(st.sampled_from(["delete", "rename", "replace", "wrap"])):
            case "delete":
                del group[key]
            case "rename" if isinstance(group, dict):
                group[draw(KEYS)] = group.pop(key)
            case "wrap":
                group[key] = draw(st.sampled_from([[group[key]], {"x": group[key]}, str(group[key])]))
            case _:
                group[key] = draw(TREES)
    return dump(tree)


@st.composite
def scratched_examples(draw: st.DrawFn) -> str:
    """The example's text with some of it cut out and something else put in its place."""
    start = draw(st.integers(0, len(EXAMPLE)))
    end = min(len(EXAMPLE), start + draw(st.integers(0, 200)))
    put = draw(st.one_of(st.text(max_size=10), st.sampled_from(list("\t\n\r[]{}:,-?&*!|>'\"%@`#\x00\u2028\ufeff"))))
    return EXAMPLE[:start] + put + EXAMPLE[end:]


def test_the_example_itself_is_right_but_for_its_backends() -> None:
    assert isinstance(read_config(EXAMPLE, Path("config.yaml")), Config)


@given(TREES)
@LENIENT
def test_any_tree(tree: Any) -> None:
    assert isinstance(check(dump(tree)), ConfigErrors)


@given(broken_examples())
@LENIENT
def test_the_example_broken_in_its_structure(text: str) -> None:
    check(text)


@given(scratched_examples())
@LENIENT
def test_the_example_broken_in_its_text(text: str) -> None:
    check(text)


@given(st.one_of(st.text(), st.text(alphabet="ab01:-?[]{},&*!|>'\"% \n\t#~<.")))
@settings(LENIENT, max_examples=300)
def test_any_text(text: str) -> None:
    check(text)


@given(st.binary(max_size=200))
@settings(LENIENT, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    from pithead.delivery.config import load_config

    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigErrors):
        load_config(file)
