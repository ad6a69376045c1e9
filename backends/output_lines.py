"""Turns the raw output of a process into lines, in bounded memory whatever the process prints.

A carriage return ends a line too, so that a progress bar shows while it moves. Bytes that are no UTF-8 become U+FFFD,
and so does NUL, which some databases refuse. A line of more than `LONGEST_LINE` characters is cut and says so.
"""

from __future__ import annotations

from typing import Final

LONGEST_LINE: Final = 8192
CUT_MARK: Final = " … (line cut at 8 KiB)"

_LONGEST_CARRY: Final = 4 * (LONGEST_LINE + 1)
"""A character takes at most four bytes, so that where a line is cut does not depend on how its bytes arrived."""


class OutputLines:
    """Feed it chunks, take whole lines; `rest` gives what is left when the output has ended."""

    def __init__(self) -> None:
        self._carry = b""

    def feed(self, chunk: bytes) -> list[str]:
        data = self._carry + chunk
        if b"\r" in data:
            data = self._without_returns(data)
        end = data.rfind(b"\n")
        self._carry = _bounded(data[end + 1 :])
        return _lines(data[:end]) if end >= 0 else []

    def rest(self) -> list[str]:
        carry, self._carry = self._carry, b""
        return _lines(carry.removesuffix(b"\r")) if carry else []

    @staticmethod
    def _without_returns(data: bytes) -> bytes:
        """A return at the very end stays: a line feed may follow in the next chunk."""
        ends_open = data.endswith(b"\r")
        body = data[:-1] if ends_open else data
        return body.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + (b"\r" if ends_open else b"")


def _bounded(carry: bytes) -> bytes:
    """An unfinished line without what would be cut off anyway. An open carriage return still counts."""
    if len(carry) <= _LONGEST_CARRY:
        return carry
    return carry[:_LONGEST_CARRY] + (b"\r" if carry.endswith(b"\r") else b"")


def _lines(data: bytes) -> list[str]:
    text = data.decode("utf-8", "replace")
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    lines = text.split("\n")
    if len(text) > LONGEST_LINE:
        return [line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + CUT_MARK for line in lines]
    return lines
