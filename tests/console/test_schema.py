"""The schema that editors use says the same as the checks: what loads is valid, and every option is in the example."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pithead.console.registry import Registry
from pithead.console.schema import DIALECT, json_schema

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json_schema(Registry())


def faults(value: Any, rule: Any, root: dict[str, Any], where: str = "") -> Iterator[str]:
    """What the value has against the part of JSON Schema that ours uses. A keyword unknown to it is a fault as well."""
    if "$ref" in rule:
        rule = {
            **root["$defs"][rule["$ref"].removeprefix("#/$defs/")],
            **{k: v for k, v in rule.items() if k != "$ref"},
        }
    for keyword, wanted in rule.items():
        yield from (f"{where}: {fault}" for fault in _faults(keyword, wanted, value, rule, root, where))


def _faults(keyword: str, wanted: Any, value: Any, rule: Any, root: dict[str, Any], where: str) -> Iterator[str]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match keyword:
        case "title" | "description" | "default" | "examples" | "$defs" | "$schema" | "format":
            pass
        case "type":
            fits = isinstance(value, TYPES[wanted]) and (wanted == "boolean" or not isinstance(value, bool))
            if not fits:
                yield f"{value!r} is no {wanted}"
        case "properties":
            for key in wanted.keys() & (value.keys() if isinstance(value, dict) else set()):
                yield from faults(value[key], wanted[key], root, f"{where}.{key}")
        case "additionalProperties":
            for key in value.keys() - rule.get("properties", {}).keys() if isinstance(value, dict) else ():
                if wanted is False:
                    yield f"unknown key {key}"
                elif wanted is not True:
                    yield from faults(value[key], wanted, root, f"{where}.{key}")
        case "required":
            yield from (f"missing key {key}" for key in wanted if isinstance(value, dict) and key not in value)
        case "items":
            for place, item in enumerate(value if isinstance(value, list) else ()):
                yield from faults(item, wanted, root, f"{where}[{place}]")
        case "anyOf":
            if not any(next(faults(value, form, root), None) is None for form in wanted):
                yield f"{value!r} has none of the forms"
        case "const" | "enum":
            if value not in (wanted if keyword == "enum" else [wanted]):
                yield f"{value!r} is not {wanted}"
        case "pattern":
            if isinstance(value, str) and not re.search(wanted, value):
                yield f"{value!r} is not like {wanted}"
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" if is_number:
            fits = value >= wanted if "min" in keyword.lower() else value <= wanted
            if not fits or ("exclusive" in keyword and value == wanted):
                yield f"{value} is beyond the {keyword} {wanted}"
        case "minLength" | "minItems" | "minProperties":
            if hasattr(value, "__len__") and len(value) < wanted:
                yield f"{value!r} has less than {wanted}"
        case "maxLength" | "maxItems" | "maxProperties":
            if hasattr(value, "__len__") and len(value) > wanted:
                yield f"{value!r} has more than {wanted}"
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            pass
        case _:
            yield f"the keyword {keyword} is not known to this test"


def example() -> Any:
    return yaml.safe_load(EXAMPLE.read_text())


def test_the_example_is_valid(schema: dict[str, Any]) -> None:
    assert list(faults(example(), schema, schema)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("service: checkout ", "service: Check out "),
        ("on_fail: rollback", "on_fail: rolback"),
        ("timeout: 10m", "timeout: 10"),
        ("weight: 25", "weight: 100"),
        ("kind: ratio", "knid: ratio"),
        ("alpha: 1%", "alpha: 2"),
        ("{from_env: USER}", "{from_evn: USER}"),
        ("  git:", "  got:"),
        ("branch: main", "brunch: main"),
        ("instances: 4", "instances: 0"),
    ],
)
def test_what_is_refused_is_not_valid(schema: dict[str, Any], old: str, new: str) -> None:
    text = EXAMPLE.read_text()
    assert old in text
    assert list(faults(yaml.safe_load(text.replace(old, new, 1)), schema, schema))


def test_it_is_plain_json_that_names_its_dialect_and_resolves(schema: dict[str, Any]) -> None:
    text = json.dumps(schema, allow_nan=False)
    assert schema["$schema"] == DIALECT
    references = set(re.findall(r'"\$ref": "#/\$defs/([^"]+)"', text))
    assert references <= schema["$defs"].keys()
    assert "metrics.source" not in references


def test_every_option_is_described_and_stands_in_the_example(schema: dict[str, Any]) -> None:
    options = list(every_option(schema, [example()], schema, ""))
    assert len(options) > 40
    assert [where for where, _, is_there in options if not is_there] == []
    assert [where for where, is_described, _ in options if not is_described] == []


def every_option(rule: Any, values: list[Any], root: dict[str, Any], where: str) -> Iterator[tuple[str, bool, bool]]:
    """The path of each option, whether it is described, and whether it stands in one of the values.

    Of a backend's slot the options of the backend that is used there are asked for, not the other backends themselves.
    """
    rule = resolved(rule, root)
    is_slot = rule.get("maxProperties") == 1
    for key, inner in rule.get("properties", {}).items():
        found = [value[key] for value in values if isinstance(value, dict) and key in value]
        if not is_slot:
            yield f"{where}.{key}", bool(resolved(inner, root).get("description")), bool(found)
        if found:
            yield from every_option(inner, found, root, f"{where}.{key}")
    if "items" in rule:
        items = [item for value in values if isinstance(value, list) for item in value]
        yield from every_option(rule["items"], items, root, f"{where}[]")
    for form in rule.get("anyOf", ()):
        yield from every_option(form, values, root, where)


def resolved(rule: Any, root: dict[str, Any]) -> Any:
    if "$ref" not in rule:
        return rule
    return {**root["$defs"][rule["$ref"].removeprefix("#/$defs/")], **{k: v for k, v in rule.items() if k != "$ref"}}


def test_options_of_the_installed_backends_are_in_it(schema: dict[str, Any]) -> None:
    git = schema["properties"]["source"]["properties"]["git"]
    assert "branch" in json.dumps(git)
    assert schema["properties"]["source"]["additionalProperties"] is False


def test_a_backend_that_cannot_be_loaded_takes_any_options() -> None:
    from importlib.metadata import EntryPoint

    broken = Registry([EntryPoint("broken", "pithead_test_nowhere:Source", "pithead.sources")])
    schema = json_schema(broken)
    assert list(faults({"broken": {"any": 1}}, schema["properties"]["source"], schema)) == []
    assert list(faults({"other": {}}, schema["properties"]["source"], schema))
