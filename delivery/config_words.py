"""Pydantic's findings in an operator's words: where in the file, what is wrong, and the mend.

Nothing of the library shows through: no class names, no links, no tags of unions. Options of a stranger's backend are
told in the same words, since they come through here as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pithead.delivery.config_errors import BadValueError, BadValuesError, ConfigError, Where, nearest, shown, suggestion
from pithead.delivery.config_yaml import Document

MOST_TOLD: Final = 100

_KINDS: Final = {
    "true or false": ("bool_type", "bool_parsing"),
    "a whole number": ("int_type", "int_parsing", "int_from_float", "int_parsing_size"),
    "a number": ("float_type", "float_parsing", "decimal_type", "decimal_parsing", "finite_number"),
    "text": ("string_type", "string_sub_type", "bytes_type", "path_type", "url_type", "string_unicode"),
    "a list": ("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"),
    "a group of keys": ("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"),
    "nothing": ("none_required",),
}
_KIND_OF: Final = {name: kind for kind, names in _KINDS.items() for name in names}
_KIND_MENDS: Final = {
    "true or false": "Write true or false.",
    "a whole number": "Write digits only.",
    "a number": "Write digits, such as 5 or 0.5.",
    "text": "Write one value, without brackets and '- '.",
    "a list": "Start each entry with '- ', or write [a, b].",
    "a group of keys": "Write `key: value` lines below it.",
}
_BOUNDS: Final = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
    "multiple_of": ("multiple_of", "a multiple of"),
}
_LENGTHS: Final = {
    "string_too_short": ("min_length", "Too short.", "At least {} characters are needed."),
    "string_too_long": ("max_length", "Too long.", "At most {} characters fit."),
    "too_short": ("min_length", "Too few entries.", "At least {} must be there."),
    "too_long": ("max_length", "Too many entries.", "At most {} fit."),
}

Details = Mapping[str, Any]


def told(error: ValidationError, model: type[BaseModel], document: Document, base: Where = ()) -> Iterator[ConfigError]:
    """What pydantic found in the part of the document at `base`, which was to become a `model`: a line a place."""
    places: dict[Where, list[Details]] = {}
    for details in error.errors(include_url=False):
        places.setdefault(_place(details, document, base), []).append(details)
    for where, findings in list(places.items())[:MOST_TOLD]:
        for problem in _problems(findings, where, model, document):
            is_key = findings[0]["type"] == "extra_forbidden"
            yield document.error((*where, *problem.at), problem.message, problem.mend, at_key=is_key)
    if len(places) > MOST_TOLD:
        yield document.error(base, f"{len(places) - MOST_TOLD} more places are wrong.", "Mend these first.")


def as_problems(error: object) -> tuple[BadValueError, ...]:
    """What a validator raised, whoever wrote it, as problems to report."""
    match error:
        case BadValueError():
            return (error,)
        case BadValuesError():
            return error.problems
    return (BadValueError(sentence(str(error)) or "This does not fit."),)


def sentence(text: str) -> str:
    """Words of a library or a plug-in as one clipped sentence of ours."""
    words = " ".join("".join(char if char.isprintable() else " " for char in text[:400]).split())
    if not words:
        return ""
    return words[:1].upper() + words[1:] + ("" if words[-1] in ".!?" else ".")


def _place(details: Details, document: Document, base: Where) -> Where:
    """Where in the document. Parts that pydantic adds to a path (a union's branch, `[key]`) lead nowhere in it."""
    where, location = base, details["loc"]
    for part in location:
        if document.holds((*where, part)):
            where = (*where, part)
    if details["type"] == "missing" and (not where or where[-1] != location[-1] or len(where) == len(base)):
        where = (*where, location[-1])
    return where


def _problems(
    findings: list[Details], where: Where, model: type[BaseModel], document: Document
) -> Iterable[BadValueError]:
    """A union gives one finding for each of its branches; they become one sentence."""
    kinds = dict.fromkeys(_KIND_OF[finding["type"]] for finding in findings if finding["type"] in _KIND_OF)
    if len(kinds) and all(finding["type"] in _KIND_OF for finding in findings):
        return (_wrong_kind(list(kinds), findings[0]["input"], document.text_at(where)),)
    details = next(finding for finding in findings if finding["type"] not in _KIND_OF)
    kind, context = details["type"], details.get("ctx", {})
    fields = _fields_at(model, details["loc"][:-1])
    match kind:
        case "missing":
            return (_missing(str(where[-1]), fields, is_there=document.holds(where)),)
        case "extra_forbidden":
            return (BadValueError("Unknown key.", suggestion(str(where[-1]), list(fields))),)
        case "literal_error" | "enum":
            return (_not_one_of(details["input"], str(context.get("expected", ""))),)
        case "value_error" | "assertion_error":
            return as_problems(context.get("error", details["msg"]))
        case _ if kind in _BOUNDS:
            bound, words = _BOUNDS[kind]
            return (BadValueError(f"{shown(details['input'])} does not fit.", f"It must be {words} {context[bound]}."),)
        case _ if kind in _LENGTHS:
            bound, message, mend = _LENGTHS[kind]
            return (BadValueError(message, mend.format(context[bound])),)
        case "string_pattern_mismatch":
            return (BadValueError(f"{shown(details['input'])} does not fit.", f"Its form is {context['pattern']}"),)
        case "is_instance_of" | "is_subclass_of" | "dataclass_exact_type" | "callable_type":
            return (BadValueError(f"{shown(details['input'])} cannot stand here."),)
    return (BadValueError(sentence(details["msg"].replace("Input should", "It must").removeprefix("Value error, "))),)


def _wrong_kind(kinds: list[str], found: object, written: str | None) -> BadValueError:
    expected = " or ".join(kinds)
    mend = _KIND_MENDS.get(kinds[0], "")
    if "text" in kinds and isinstance(found, bool | int | float) and written is not None:
        mend = f"Put it in quotes: {json.dumps(written)}."
    return BadValueError(f"Expected {expected}, found {shown(found)}.", mend)


def _missing(key: str, fields: Mapping[str, FieldInfo], *, is_there: bool) -> BadValueError:
    message = "Nothing is written here." if is_there else "This key is missing."
    field = fields.get(key)
    example = field.examples[0] if field is not None and field.examples else None
    if example is not None:
        return BadValueError(message, f"Write it, for example `{key}: {_flow(example)}`.")
    return BadValueError(message, f"It is: {field.description}" if field is not None and field.description else "")


def _flow(example: Any) -> str:
    """An example as it may be written on one line of YAML."""
    match example:
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(value)}" for key, value in example.items()) + "}"
        case list():
            return "[" + ", ".join(map(_flow, example)) + "]"
        case str():
            return example
    return json.dumps(example)


def _not_one_of(found: object, expected: str) -> BadValueError:
    allowed = re.findall(r"'([^']*)'", expected)
    near = nearest(found, allowed) if isinstance(found, str) else None
    mend = f"Did you mean {near}? " if near is not None else ""
    return BadValueError(f"{shown(found)} is not known here.", f"{mend}Write {_either(allowed) or expected}.")


def _either(words: list[str]) -> str:
    return " or ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def _fields_at(model: type[BaseModel], location: Where) -> dict[str, FieldInfo]:
    """The fields that may stand at a location inside the model, by the names that they have in the file."""
    models = [model]
    for part in location:
        fields = [field for each in models for key, field in _keys_of(each) if key == part]
        if fields:
            models = [inner for field in fields for inner in _models_in(field.annotation)]
    return {key: field for each in models for key, field in _keys_of(each)}


def _keys_of(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        yield (alias if isinstance(alias, str) else field.alias or name), field


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
