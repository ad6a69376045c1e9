"""What is wrong with a configuration, in the one form that every check of it uses: file, line, path, message, mend.

All that is wrong is told at once, so that an operator mends a file in one go. Text from the file is clipped and its
control characters are written out before it becomes part of a message: a message must never drive the terminal.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

Where = tuple[str | int, ...]
"""Where in the document: keys and list positions, from the top down."""

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_SHOWN: Final = 40


class BadValueError(ValueError):
    """A value that does not fit, raised inside a model's validator. `at` leads from that value down to the culprit."""

    def __init__(self, message: str, mend: str = "", at: Where = ()) -> None:
        super().__init__(message, mend)
        self.message = message
        self.mend = mend
        self.at = at

    def __str__(self) -> str:
        return f"{self.message} {self.mend}".strip()


class BadValuesError(ValueError):
    """Several of them in one value, told together."""

    def __init__(self, problems: Iterable[BadValueError]) -> None:
        self.problems = tuple(problems)
        super().__init__(*(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class ConfigError:
    """One line for the operator. `line` is 0 and `path` empty when the whole file is meant."""

    file: str
    line: int
    path: str
    message: str
    mend: str = ""

    def __str__(self) -> str:
        file = f"{printable(self.file)}:{self.line}:" if self.line else f"{printable(self.file)}:"
        parts = (file, f"{self.path}:" if self.path else "", self.message, self.mend)
        return " ".join(part for part in parts if part)


class ConfigErrors(Exception):
    """All that is wrong with a configuration, in the order of its lines. `str` gives one error a line."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors: list[ConfigError] = sorted(set(errors), key=lambda error: (error.line, error.path, error.message))
        super().__init__(*self.errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def shown(value: object) -> str:
    """The value as a message may show it: short, on one line, quoted if it is text, and without control characters."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() if abs(value) >= 10**20:
            return "a huge number"
        case float():
            return f"{value:g}"
        case str():
            return _quoted(value)
        case list() | tuple():
            return "a list"
        case dict():
            return "a group of keys"
        case _:
            return clipped(str(value))


def clipped(text: str) -> str:
    """At most forty characters of it, without control characters and quotes."""
    return _quoted(text)[1:-1]


def path_text(path: Where) -> str:
    """`("pipeline", "tests", 0, "name")` as an operator reads it: `pipeline.tests[0].name`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _PLAIN_KEY.fullmatch(part) else _quoted(part))
    return text


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that was most likely meant, or None."""
    folded = {name.casefold(): name for name in known}
    matches = difflib.get_close_matches(word[:64].casefold(), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def suggestion(word: str, known: Sequence[str]) -> str:
    """The mend for an unknown word: the nearest known one, or all of them."""
    near = nearest(word, known)
    if near is not None:
        return f"Did you mean '{near}'?"
    return f"Known here: {', '.join(sorted(known))}." if known else "Nothing may stand here."


def printable(text: str) -> str:
    """The text with control characters written out, so that printing it does nothing but show it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _quoted(text: str) -> str:
    short = text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 2] + " …"
    return f"'{printable(short)}'"
