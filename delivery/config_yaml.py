"""A configuration file as plain values, with the line of every key and value kept, so that an error can point at it.

What readers of YAML disagree on in silence (`010`, a key given twice) is an error here; tags and `<<` are refused.
Such faults are gathered with their lines while the rest is read on, so that all that is wrong is told at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pithead.delivery.config_errors import ConfigError, Where, path_text, shown
from pithead.delivery.config_nodes import TAG, Lines, compose

_MOST_DIGITS: Final = 18
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9]+")
_NOT_TEXT: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Document:
    """What the file says as plain values, and where it says it. `problems` are those that reading on could survive."""

    file: str
    value: Any
    root: Node
    lines: Lines
    problems: tuple[ConfigError, ...]
    refused: frozenset[str]
    _children: dict[Node, dict[str | int, tuple[Node, Node]]] = field(default_factory=dict, repr=False)

    def error(self, where: Where, message: str, mend: str = "", *, at_key: bool = False) -> ConfigError:
        return ConfigError(self.file, self.line_of(where, at_key=at_key), path_text(where), message, mend)

    def line_of(self, where: Where, *, at_key: bool = False) -> int:
        """The line of the value there; of its key if it is a group or `at_key`; the parent's if it is not there."""
        key, value = self.root, self.root
        for found_key, found_value in self._walk(where):
            key, value = found_key, found_value
        is_scalar = isinstance(value, ScalarNode)
        return self.lines.of(value if is_scalar and not at_key else key)

    def holds(self, where: Where) -> bool:
        return sum(1 for _ in self._walk(where)) == len(where)

    def value_at(self, where: Where) -> Any:
        """The value there; None if there is none."""
        value = self.value
        for part in where:
            if not isinstance(value, dict) or part not in value:
                return None
            value = value[part]
        return value

    def is_echo(self, error: ConfigError) -> bool:
        """Whether the error only follows from another: a value that was refused is missing later on."""
        return error.path in self.refused and error not in self.problems

    def text_at(self, where: Where) -> str | None:
        """The scalar there as it was written, without quotes; None if there is none."""
        nodes = [value for _, value in self._walk(where)]
        is_scalar = len(nodes) == len(where) > 0 and isinstance(nodes[-1], ScalarNode)
        return nodes[-1].value if is_scalar else None

    def _walk(self, where: Where) -> Iterator[tuple[Node, Node]]:
        """The nodes of key and value for each part of the path, as far down as the file goes."""
        node = self.root
        for part in where:
            if node not in self._children:
                self._children[node] = _children(node)
            child = self._children[node].get(part)
            if child is None:
                return
            yield child
            node = child[1]


def parse(text: str, file: str) -> Document:
    """The document in the text. ConfigErrors if it cannot be read at all; smaller faults are in its `problems`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = Lines(text)
    root = compose(text, file, lines)
    values = _Values(file, lines)
    return Document(file, values.of(root, ()), root, lines, tuple(values.problems), frozenset(values.refused))


def _children(node: Node) -> dict[str | int, tuple[Node, Node]]:
    """Key and value for each name or position in the node; of a key given twice the first."""
    match node:
        case MappingNode():
            pairs = [(key, value) for key, value in reversed(node.value) if isinstance(key, ScalarNode)]
            return {key.value: (key, value) for key, value in pairs}
        case SequenceNode():
            return {place: (child, child) for place, child in enumerate(node.value)}
    return {}


@dataclass
class _Values:
    """Turns nodes into plain values and gathers what is wrong with them."""

    file: str
    lines: Lines
    problems: list[ConfigError] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    _known: dict[Node, Any] = field(default_factory=dict)

    def of(self, node: Node, where: Where) -> Any:
        if node not in self._known:
            self._known[node] = self._build(node, where)
        return self._known[node]

    def _build(self, node: Node, where: Where) -> Any:
        match node:
            case MappingNode() if node.tag == TAG + "map":
                return self._mapping(node, where)
            case SequenceNode() if node.tag == TAG + "seq":
                return [self.of(child, (*where, place)) for place, child in enumerate(node.value)]
            case ScalarNode():
                return self._scalar(node, where)
        return self._refuse_tag(node, where)

    def _mapping(self, node: MappingNode, where: Where) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        for key, child in node.value:
            if not isinstance(key, ScalarNode):
                self._fault(key, where, "A key must be a word.", "Write `key: value`.")
            elif key.tag == TAG + "merge" and key.style is None:
                self._fault(key, where, "'<<' is not supported.", "Write the keys out, or use an alias for one value.")
            elif _NOT_TEXT.search(key.value):
                self._fault(key, where, f"The key {shown(key.value)} holds a control character.", "Remove it.")
            elif key.value in values:
                first = f"The first is on line {first_lines[key.value]}."
                self._fault(key, (*where, key.value), "The key is here a second time.", f"{first} Remove one of them.")
            else:
                values[key.value] = self.of(child, (*where, key.value))
                first_lines[key.value] = self.lines.of(key)
        return values

    def _scalar(self, node: ScalarNode, where: Where) -> Any:
        text: str = node.value
        if _NOT_TEXT.search(text):
            return self._refuse(node, where, "The text holds a control character.", "Remove it.")
        match node.tag.removeprefix(TAG):
            case "str" | "merge":
                return text
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" if _LEADING_ZERO.fullmatch(text):
                message = f"{shown(text)} starts with 0: some readers take it for octal, others don't."
                return self._refuse(node, where, message, "Leave the 0 out, or put it in quotes if it is text.")
            case "int" if len(text) <= _MOST_DIGITS and re.fullmatch("[-+]?[0-9]+", text):
                return int(text)
            case "int":
                return self._refuse(
                    node, where, f"{shown(text)} is too large a number.", "Put it in quotes if it is text."
                )
            case "float":
                return _float_or_text(text)
        return self._refuse_tag(node, where)

    def _refuse_tag(self, node: Node, where: Where) -> None:
        self._refuse(node, where, f"The tag {shown(node.tag)} has no meaning here.", "Remove it.")

    def _refuse(self, node: Node, where: Where, message: str, mend: str) -> None:
        self._fault(node, where, message, mend)
        self.refused.add(path_text(where))

    def _fault(self, node: Node, where: Where, message: str, mend: str) -> None:
        self.problems.append(ConfigError(self.file, self.lines.of(node), path_text(where), message, mend))


def _float_or_text(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text
