"""The kinds of values in a configuration, each with its reading, its schema and its words when it is wrong.

They serve the options of backends as well: `port: Name`, `share: Fraction`, `timeout: Duration`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from pithead.delivery.config_errors import BadValueError, BadValuesError, shown
from pithead.delivery.durations import Duration
from pithead.delivery.secrets import ENVIRONMENT_NAME, Secret, TextOrSecret, parse_text_or_secret

_PERCENT: Final = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,6})?)\s*%")
_PERCENT_SCHEMA: Final = {"type": "string", "pattern": r"^[0-9]{1,4}(\.[0-9]{1,6})?\s*%$"}
_WHOLE_PERCENT_SCHEMA: Final = {"type": "string", "pattern": r"^[1-9][0-9]?\s*%$"}


class Section(BaseModel):
    """A group of keys. A key with nothing behind it counts as left out, as when all below it is commented out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_empty(cls, data: Any) -> Any:
        return without_empty(data) if isinstance(data, dict) else data


def without_empty(group: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that have something behind them."""
    return {key: value for key, value in group.items() if value is not None}


def option(
    description: str,
    *,
    key: str | None = None,
    default: Any = ...,
    written: Any = None,
    example: Any = None,
    **rules: Any,
) -> Any:
    """A field of a section. `key` is its name in the file, `written` how its default is written there if it differs."""
    extra: dict[str, Any] = {} if written is None else {"default": written}
    examples = None if example is None else [example]
    return Field(default, alias=key, description=description, examples=examples, json_schema_extra=extra, **rules)


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """Which backend, by the name of its entry point, and its options as they are written. The backend checks these."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def parse_choice(value: object) -> BackendChoice:
    """`{git: {branch: main}}`: one name, and behind it a group of options or nothing."""
    match value:
        case BackendChoice():
            return value
        case str():
            name = value if re.fullmatch("[a-z0-9_-]{1,32}", value) else "NAME"
            raise BadValueError(
                f"Expected a backend with its options, found {shown(value)}.", f"Write {{{name}: {{}}}}."
            )
        case dict() if not value:
            raise BadValueError("Names no backend.", "Write {NAME: {…}}.")
        case dict() if len(value) > 1:
            names = ", ".join(shown(name) for name in list(value)[:5])
            raise BadValueError(f"Names {len(value)} backends: {names}.", "Keep one, with its options below it.")
        case dict():
            return _single_choice(*next(iter(value.items())))
    raise BadValueError(f"Expected a backend with its options, found {shown(value)}.", "Write {NAME: {…}}.")


def _single_choice(name: str, options: object) -> BackendChoice:
    if options is not None and not isinstance(options, dict):
        mend = "Write `key: value` lines below it, or {} for none."
        raise BadValueError(f"Expected the backend's options, found {shown(options)}.", mend, (name,))
    return BackendChoice(name, without_empty(options or {}))


def parse_fraction(value: object) -> float:
    """A share as a fraction, from `25%` or `0.25`. A bare number above 1 is refused, since it may mean either."""
    match value:
        case str() if match := _PERCENT.fullmatch(value.strip()):
            return float(match[1]) / 100
        case bool():
            pass
        case int() | float() if 0 <= value <= 1:
            return float(value)
        case int() | float() if 1 < value <= 1000:
            raise BadValueError(f"{shown(value)} is more than 1.", f"Write {value:g}% for per cent.")
    raise BadValueError(f"Expected a share, found {shown(value)}.", "Write it as 25% or 0.25.")


def parse_weight(value: object) -> int:
    """A canary's share of the traffic in whole per cent, 1 to 99, from `5` or `5%`."""
    if isinstance(value, str) and (match := re.fullmatch(r"([0-9]{1,3})\s*%", value.strip())):
        value = int(match[1])
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValueError(f"Expected whole per cent from 1 to 99, found {shown(value)}.", "Write 5.")
    if value == 0:
        raise BadValueError("0 is no step.", "Steps go up from 1; 0 is 'abort'.")
    if value == 100:
        raise BadValueError("100 is no step of the canary.", "Leave it out: the rollout follows the last step.")
    if not 0 < value < 100:
        raise BadValueError(f"{shown(value)} is no share of the traffic.", "Write whole per cent from 1 to 99.")
    return value


def matching(pattern: str, message: str, mend: str) -> BeforeValidator:
    """Text that matches as a whole; what else is text gets the message and the mend."""
    compiled = re.compile(pattern)

    def check(value: object) -> object:
        if isinstance(value, str) and not compiled.fullmatch(value):
            raise BadValueError(f"{shown(value)} {message}", mend)
        return value

    return BeforeValidator(check)


def parse_variables(value: object) -> dict[str, str | Secret]:
    """Environment variables: names to text or to references. Values are not repeated in any message."""
    if not isinstance(value, dict):
        raise BadValueError("Expected a group of variables.", "Write `NAME: value` lines below it.")
    read: dict[str, str | Secret] = {}
    problems: list[BadValueError] = []
    for name, content in value.items():
        try:
            read[_variable_name(name)] = parse_text_or_secret("" if content is None else content)
        except BadValueError as error:
            problems.append(BadValueError(error.message, error.mend, (str(name), *error.at)))
    if problems:
        raise BadValuesError(problems)
    return read


def _variable_name(name: object) -> str:
    if isinstance(name, str) and ENVIRONMENT_NAME.fullmatch(name):
        return name
    message = f"{shown(name)} cannot be the name of an environment variable."
    raise BadValueError(message, "Use letters, digits and _ only.")


def _above_zero(number: float) -> float:
    if number <= 0:
        raise BadValueError("0 is too little.", "It must be more than 0.")
    return number


Name = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}",
        "cannot be a name here.",
        "Use up to 32 letters, digits, '.', '_' and '-', with a letter or digit first.",
    ),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$"}),
]
CommandLine = Annotated[
    str,
    matching(r"(?s).*\S.*", "is no command.", "Write the command line, as you would type it."),
    WithJsonSchema({"type": "string", "pattern": r"\S"}),
]
Fraction = Annotated[
    float,
    BeforeValidator(parse_fraction),
    WithJsonSchema({"anyOf": [_PERCENT_SCHEMA, {"type": "number", "minimum": 0, "maximum": 1}]}),
]
Weight = Annotated[
    int,
    BeforeValidator(parse_weight),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 99},
                {"type": "string", "pattern": r"^[1-9][0-9]?\s*%$"},
            ]
        }
    ),
]
Variables = Annotated[
    Mapping[str, str | Secret],
    PlainValidator(parse_variables, json_schema_input_type=dict[str, TextOrSecret]),
]
Backend = Annotated[
    BackendChoice,
    PlainValidator(parse_choice),
    WithJsonSchema({"type": "object", "minProperties": 1, "maxProperties": 1}),
]
PositiveFraction = Annotated[Fraction, AfterValidator(_above_zero)]
PositiveDuration = Annotated[Duration, AfterValidator(_above_zero)]
