"""What `pithead doctor` can tell about an operator's command line before it is ever run."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from typing import Final

from pithead.delivery.plain_text import plain_line
from pithead.delivery.ports import Finding

_SHELL_WORDS: Final = frozenset(
    {
        ".",
        ":",
        "[",
        "cd",
        "command",
        "eval",
        "exec",
        "exit",
        "export",
        "set",
        "shift",
        "test",
        "trap",
        "ulimit",
        "umask",
    }
    | {"unset", "wait", "case", "for", "if", "until", "while", "{", "(", "!"}
)


def command_finding(subject: str, line: str) -> Finding:
    """Whether the first word can be found. Paths are not looked up: they may lead into the commit's tree."""
    program = next((word for word in _words(line) if "=" not in word), "")
    if not program or "/" in program or program in _SHELL_WORDS or shutil.which(program):
        return Finding(subject, True, plain_line(line, 120))
    detail = f"`{plain_line(program, 60)}` is not on the PATH."
    return Finding(subject, False, detail, "Install it, or name it with its path.")


def _words(line: str) -> Sequence[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()
