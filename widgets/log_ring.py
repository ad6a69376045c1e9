"""The last lines of a log and the window on them: following, held still, filtered, searched. Values only, no terminal.

Twenty thousand lines are kept; a line longer than a screen is ever wide is cut when it comes in, with a mark, so that
neither a loud build nor a single line of 10 MB can fill the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

KEPT_LINES = 20_000
KEPT_WIDTH = 2_000


def kept(text: str) -> str:
    return text if len(text) <= KEPT_WIDTH else f"{text[:KEPT_WIDTH]} … {len(text) - KEPT_WIDTH:,} more characters"


class LogRing:
    """Lines are numbered from 0 as they came; `first` is the number of the oldest that is still kept.

    `top` is the number of the first line in view while following is off; a filter leaves only the lines that hold
    `needle` (whatever their case).
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.first = 0
        self.is_following = True
        self.top = 0
        self.new = 0
        self.needle = ""
        self.is_filtered = False
        self._matches: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def end(self) -> int:
        """The number that the next line will get."""
        return self.first + len(self._lines)

    def clear(self, first: int = 0) -> None:
        self._lines.clear()
        self._matches.clear()
        self.first, self.top, self.new, self.is_following = first, first, 0, True

    def extend(self, lines: Iterable[str]) -> None:
        before = self.end
        for text in lines:
            self._append(kept(text))
        if not self.is_following:
            self.new += self.end - before

    def _append(self, text: str) -> None:
        if len(self._lines) == KEPT_LINES:
            self.first += 1
            if self._matches and self._matches[0] < self.first:
                self._matches.popleft()
        self._lines.append(text)
        if self.needle and self.needle.lower() in text.lower():
            self._matches.append(self.end - 1)

    def line(self, number: int) -> str:
        return self._lines[number - self.first]

    # ── the window ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def numbers(self) -> Sequence[int]:
        """The numbers of the lines that can be scrolled through, in order."""
        return self._matches if self.is_filtered else range(self.first, self.end)

    def window(self, height: int) -> list[tuple[int, str]]:
        """The lines in view, with their numbers."""
        numbers = self.numbers
        start = max(0, len(numbers) - height) if self.is_following else self._index(self.top)
        start = max(0, min(start, len(numbers) - height))
        shown = list(islice(numbers, start, start + height))
        if not shown:
            return []
        low = shown[0] - self.first
        if not self.is_filtered:
            return list(zip(shown, islice(self._lines, low, low + len(shown)), strict=True))
        return [(number, self.line(number)) for number in shown]

    def _index(self, number: int) -> int:
        """Where in `numbers` the line, or the first one after it, stands."""
        if not self.is_filtered:
            return max(0, number - self.first)
        return next((i for i, other in enumerate(self._matches) if other >= number), len(self._matches))

    def scroll(self, by: int, height: int) -> None:
        """Moves the window; up holds it still, down to the end follows again."""
        numbers = self.numbers
        last = max(0, len(numbers) - height)
        start = last if self.is_following else min(self._index(self.top), last)
        start += by
        if start >= last or last == 0:
            if by > 0:
                self.follow()
            return
        self._hold(numbers[max(0, start)])

    def _hold(self, top: int) -> None:
        if self.is_following:
            self.new = 0
        self.is_following, self.top = False, top

    def to_start(self) -> None:
        if self.numbers:
            self._hold(self.numbers[0])

    def follow(self) -> None:
        self.is_following, self.new = True, 0

    # ── searching ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def found(self) -> int:
        return len(self._matches)

    def search(self, needle: str) -> None:
        """Shows only the lines that hold it; empty shows all again."""
        self.needle, self.is_filtered = needle, bool(needle)
        low = needle.lower()
        self._matches = deque(self.first + i for i, text in enumerate(self._lines) if low and low in text.lower())
        self.follow()

    def step(self, by: int, height: int) -> bool:
        """To the next (or the one before) line that was searched for, among all lines; False when there is none."""
        if not self._matches:
            return False
        held = self.top + height // 3 if not self.is_following else self.end
        if by > 0:
            target = next((n for n in self._matches if n > held), self._matches[0])
        else:
            target = next((n for n in reversed(self._matches) if n < held), self._matches[-1])
        self.is_filtered = False
        self._hold(max(self.first, target - height // 3))
        return True
