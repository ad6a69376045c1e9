"""Text to YAML nodes, with bounds: the parse of any text ends soon, and either gives nodes or says why it cannot.

Types follow YAML 1.2: only `true` and `false` are booleans, so `on:` is a word, `NO` is Norway and `1:30` stays text;
older readers turn these into something else. Aliases count as often as they are used, so neither a deep file nor one
that multiplies itself costs more than a moment.
"""

from __future__ import annotations

import bisect
import re
from typing import Any, Final

import yaml
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, SequenceNode

from pithead.delivery.config_errors import ConfigError, ConfigErrors, clipped

DEEPEST: Final = 30
MOST_NODES: Final = 20_000
TAG: Final = "tag:yaml.org,2002:"


class Lines:
    """Line numbers from positions. PyYAML's own count takes U+2028 and the like for line ends; editors don't."""

    def __init__(self, text: str) -> None:
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self.last = max(1, len(self._ends) + (not text.endswith("\n")))

    def at(self, position: int) -> int:
        return min(bisect.bisect_left(self._ends, position) + 1, self.last)

    def of(self, node: Node) -> int:
        return self.at(node.start_mark.index)


def compose(text: str, file: str, lines: Lines) -> Node:
    """The root node of the only document in the text, whose lines end in a line feed. ConfigErrors if there is none."""
    try:
        root = _Loader(text).get_single_node()
    except _TooMuchError as error:
        raise _fault(file, lines.at(error.position), error.message, error.mend) from None
    except yaml.reader.ReaderError as error:
        message = f"The character U+{error.character:04X} may not stand in YAML."
        raise _fault(file, lines.at(error.position), message, "Remove it; is this a text file?") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_fault(file, lines, error) from None
    except (ValueError, OverflowError):  # PyYAML hands "\Uffffffff" to chr() as it is
        message = "An escape in a quoted text stands for no character."
        raise _fault(file, _escape_line(text, lines), message, r"Write \\ where a backslash is meant.") from None
    if root is None:
        raise _fault(file, 1, "The file is empty.", "`pithead init` writes one to start from.")
    return root


def _fault(file: str, line: int, message: str, mend: str) -> ConfigErrors:
    return ConfigErrors([ConfigError(file, line, "", message, mend)])


def _escape_line(text: str, lines: Lines) -> int:
    match = next((m for m in re.finditer(r"\\U([0-9A-Fa-f]{8})", text) if int(m[1], 16) > 0x10FFFF), None)
    return lines.at(match.start()) if match else 1


_SYNTAX: Final = (
    ("'\\t' that cannot start", "A tab stands where spaces must.", "Indent with spaces."),
    ("that cannot start any token", "This character cannot start a value.", "Put the value in quotes."),
    ("mapping values are not allowed", "A ':' stands where none can.", "Put text that holds ': ' in quotes."),
    ("could not find expected ':'", "A ':' is missing after the key.", "Write `key: value`, with a space between."),
    ("expected <block end>", "This line does not fit those above it.", "Indent it as its neighbours are."),
    ("found another document", "There are several documents in the file.", "Remove the `---` between them."),
    ("found undefined alias", "An alias (*name) stands before its anchor (&name).", "Put '*' in quotes if it is text."),
    ("duplicate anchor", "An anchor (&name) is given twice.", "Rename one."),
    ("expected the node content", "A value is missing.", "Check for a bracket without its end, or a stray ','."),
)
_NEVER_CLOSED: Final = (
    ("expected ',' or", "A bracket is opened here and not closed.", "Check for a missing ',' or bracket."),
    ("unexpected end of stream", "A quote is opened here and never closed.", "Close it."),
)


def _syntax_fault(file: str, lines: Lines, error: yaml.MarkedYAMLError) -> ConfigErrors:
    problem = error.problem or ""
    for part, message, mend in _NEVER_CLOSED:
        if part in problem and error.context_mark is not None:
            return _fault(file, lines.at(error.context_mark.index), message, mend)
    mark = error.problem_mark or error.context_mark
    line = lines.at(mark.index) if mark is not None else 1
    for part, message, mend in _SYNTAX:
        if part in problem:
            return _fault(file, line, message, mend)
    return _fault(file, line, f"This is not YAML: {clipped(problem)}.", "Check the quotes and the indentation here.")


class _TooMuchError(Exception):
    def __init__(self, position: int, message: str, mend: str) -> None:
        super().__init__(message)
        self.position = position
        self.message = message
        self.mend = mend


class _Loader(yaml.SafeLoader):
    """Composes nodes and measures them on the way up: how many values each stands for, and how many levels."""

    # PyYAML types this so. An empty one drops the resolvers of YAML 1.1.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[Node, tuple[int, int]] = {}

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        position = event.start_mark.index
        self._depth += 1
        _refuse_depth(self._depth, position)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if not isinstance(event, AliasEvent):
            self._sizes[node] = self._measured(node, position)
        elif node not in self._sizes:
            raise _TooMuchError(position, "An alias stands inside its own anchor.", "Write the value out.")
        _refuse_depth(self._depth + self._sizes[node][1], position)
        return node

    def _measured(self, node: Node, position: int) -> tuple[int, int]:
        children: list[Node] = []
        match node:
            case MappingNode():
                children = [child for pair in node.value for child in pair]
            case SequenceNode():
                children = node.value
        size = 1 + sum(self._sizes[child][0] for child in children)
        if max(size, len(self._sizes)) > MOST_NODES:
            mend = f"{MOST_NODES:,} are enough; aliases count as often as they are used."
            raise _TooMuchError(position, "There are too many values in the file.", mend)
        return size, 1 + max((self._sizes[child][1] for child in children), default=0)


def _refuse_depth(depth: int, position: int) -> None:
    if depth > DEEPEST:
        raise _TooMuchError(position, "The file nests too deep.", f"{DEEPEST} levels are enough.")


for _name, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(TAG + _name, re.compile(rf"^(?:{_pattern})$"), list(_first))
