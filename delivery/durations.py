"""Durations as operators write and read them: `500ms`, `90s`, `5m`, `1h30m`.

A bare number is refused, since nobody can tell whether `timeout: 5` means seconds or minutes. Only `0` needs no unit.
In the program a duration is a float of seconds, and the name that holds it says so (`bake_seconds`).
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

from pithead.delivery.config_errors import BadValueError, shown

MEND: Final = "Write a number with its unit, such as 500ms, 90s, 5m or 1h30m."
LONGEST_SECONDS: Final = 366 * 86_400.0

_SECONDS_PER: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_SHAPE: Final = "".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit})?" for unit in _SECONDS_PER)
_PARTS: Final = re.compile(_SHAPE)
_CLOCK: Final = re.compile(r"([0-9]{1,3}):([0-9]{2})")
_BARE: Final = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,3})?")


class DurationError(BadValueError):
    """Text or a number that is no duration. `mend` says how to write one."""

    def __init__(self, message: str, mend: str = MEND) -> None:
        super().__init__(message, mend)


def parse_duration(value: object) -> float:
    """Seconds, zero or more. DurationError for anything that is not `0` or numbers with units, longest unit first."""
    match value:
        case bool():
            raise DurationError(f"{str(value).lower()} is not a duration.")
        case int() | float() if value == 0:
            return 0.0
        case int() | float():
            raise DurationError(f"{shown(value)} has no unit.", _mend_for_number(value))
        case str():
            return _parse_text(value.strip())
        case _:
            raise DurationError("Expected a duration.")


def format_duration(seconds: float) -> str:
    """The shortest text that an operator needs: `340ms`, `12.3s`, `1m30s`, `2d3h`.

    Exact to the millisecond below a second, to a tenth below a minute and to the second above; units that are
    zero are left out.
    """
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds < 0.9995:
        milliseconds = round(seconds * 1000)
        return f"{milliseconds}ms" if milliseconds else "0s"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    return _in_units(round(seconds))


def _in_units(whole_seconds: int) -> str:
    text = ""
    for unit in ("d", "h", "m", "s"):
        amount, whole_seconds = divmod(whole_seconds, int(_SECONDS_PER[unit]))
        text += f"{amount}{unit}" if amount else ""
    return text


def _parse_text(text: str) -> float:
    if text == "0":
        return 0.0
    if clock := _CLOCK.fullmatch(text):
        larger, smaller = clock.groups()
        raise DurationError(f"{shown(text)} has no unit.", f"Write {larger}m{smaller}s or {larger}h{smaller}m.")
    if _BARE.fullmatch(text):
        raise DurationError(f"{shown(text)} has no unit.", f"Write {text}s for seconds or {text}m for minutes.")
    match = _PARTS.fullmatch(text)
    if match is None or not text:
        raise DurationError(f"{shown(text)} is not a duration.")
    amounts = zip(match.groups(), _SECONDS_PER.values(), strict=True)
    seconds = sum(float(amount) * per_unit for amount, per_unit in amounts if amount is not None)
    if seconds > LONGEST_SECONDS:
        raise DurationError(f"{shown(text)} is longer than a year.", "Give a shorter time.")
    return seconds


def _mend_for_number(value: float) -> str:
    return f"Write {value:g}s for seconds or {value:g}m for minutes." if 0 < value < 100_000 else MEND


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": rf"^\s*(?=\S)(?:0|{_SHAPE})\s*$"}, {"const": 0}]}),
]
"""A field of a config model: seconds as a float, written as `90s` or `5m`."""
