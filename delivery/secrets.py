"""Secrets by reference: `{from_env: NAME}` or `{from_file: path}`, never by value.

A `Secret` holds the reference alone, so neither its text nor a dump of the configuration can show the value. It is
looked up when it is needed and by whom it is needed; a runner that starts later reads what is there by then.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import PlainValidator, WithJsonSchema

from pithead.delivery.config_errors import BadValueError, printable, shown, suggestion
from pithead.delivery.ports import BackendError
from pithead.delivery.private_files import read_regular

ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
LARGEST_BYTES: Final = 64 * 1024
_KEYS: Final = ("from_env", "from_file")
_FORMS: Final = "Write {from_env: NAME} or {from_file: path}."


class SecretError(BackendError):
    """The reference leads to nothing that may be used. The message never holds what was found there."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is. Exactly one of the two is set."""

    from_env: str = ""
    from_file: str = ""

    def __str__(self) -> str:
        return f"{{from_env: {self.from_env}}}" if self.from_env else f"{{from_file: {self.from_file}}}"

    def reveal(self, folder: Path) -> str:
        """The value, a file's without its line end. A relative path starts at `folder`. SecretError if none."""
        if self.from_file:
            return _read(folder, self.from_file)
        value = os.environ.get(self.from_env, "")
        if not value:
            raise SecretError(f"The environment variable {self.from_env} is not set.", f"export {self.from_env}=…")
        return value


def reveal(value: str | Secret, folder: Path) -> str:
    """The text itself, or what the reference leads to."""
    return value.reveal(folder) if isinstance(value, Secret) else value


def reveal_all(values: Mapping[str, str | Secret], folder: Path) -> dict[str, str]:
    """An environment to run a command in. SecretError names the first that is missing."""
    return {name: reveal(value, folder) for name, value in values.items()}


def parse_secret(value: object) -> Secret:
    """A reference as the configuration writes it. BadValueError if it is none; the value is not repeated in it."""
    match value:
        case Secret():
            return value
        case {"from_env": str() as name, **rest} if not rest:
            return Secret(from_env=_checked_name(name))
        case {"from_file": str() as path, **rest} if not rest:
            return Secret(from_file=_checked_path(path))
        case dict():
            raise _unlike_reference(value)
        case _:
            raise BadValueError("A secret is given by reference, not by value.", _FORMS)


def parse_text_or_secret(value: object) -> str | Secret:
    """Text, or a reference to it."""
    match value:
        case str():
            return value
        case dict() | Secret():
            return parse_secret(value)
        case bool() | int() | float():
            raise BadValueError("Expected text, found a number or a true/false.", "Put it in quotes.")
        case _:
            raise BadValueError("Expected text.", f"Or by reference: {_FORMS}")


def secrets_in(tree: Any) -> Iterator[Secret]:
    """Every reference in a tree of plain values."""
    match tree:
        case Secret():
            yield tree
        case {"from_env": str() as name, **rest} if not rest:
            yield Secret(from_env=name)
        case {"from_file": str() as path, **rest} if not rest:
            yield Secret(from_file=path)
        case Mapping():
            for child in tree.values():
                yield from secrets_in(child)
        case list() | tuple():
            for child in tree:
                yield from secrets_in(child)


def _unlike_reference(value: Mapping[Any, Any]) -> BadValueError:
    unknown = next((str(key) for key in value if key not in _KEYS), None)
    if unknown is not None:
        return BadValueError("Unknown key.", suggestion(unknown, _KEYS), (unknown,))
    if len(value) != 1:
        return BadValueError("Exactly one of from_env and from_file must stand here.", _FORMS)
    return BadValueError("Expected text.", _FORMS, (str(next(iter(value))),))


def _checked_name(name: str) -> str:
    if not ENVIRONMENT_NAME.fullmatch(name):
        mend = "Use letters, digits and _ only."
        raise BadValueError(f"{shown(name)} cannot be the name of an environment variable.", mend, ("from_env",))
    return name


def _checked_path(path: str) -> str:
    if not path.strip() or "\n" in path:
        raise BadValueError("Expected the path of a file.", "", ("from_file",))
    return path


def _read(folder: Path, name: str) -> str:
    where = f"The secret's file {printable(name)}"
    try:
        data, status = read_regular(folder / Path(name).expanduser(), LARGEST_BYTES)
    except FileNotFoundError:
        raise SecretError(f"{where} does not exist.", "Create it with mode 600.") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise SecretError(f"{where} cannot be read: {getattr(error, 'strerror', None) or 'not a file'}.") from None
    if status.st_mode & stat.S_IRWXO:
        raise SecretError(f"{where} may be read or written by others.", f"chmod 600 {printable(name)}")
    if len(data) > LARGEST_BYTES:
        raise SecretError(f"{where} is larger than 64 KiB.", "Is it the right file?")
    try:
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise SecretError(f"{where} is not UTF-8 text.", "Save it as UTF-8.") from None
    if not text or "\0" in text:
        raise SecretError(f"{where} is empty or not text.", "Write the secret into it.")
    return text


_SCHEMA: Final = {
    "type": "object",
    "description": "A reference to a secret: an environment variable, or a file (relative to the config file).",
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
    "properties": {
        "from_env": {"type": "string", "pattern": f"^{ENVIRONMENT_NAME.pattern}$"},
        "from_file": {"type": "string", "minLength": 1},
    },
}

SecretOption = Annotated[Secret, PlainValidator(parse_secret), WithJsonSchema(_SCHEMA)]
"""A field of a config model that holds a reference."""

TextOrSecret = Annotated[
    str | Secret, PlainValidator(parse_text_or_secret), WithJsonSchema({"anyOf": [{"type": "string"}, _SCHEMA]})
]
"""A field of a config model that holds text or a reference to it."""
