"""Between the keyboard and what a key does: pasted text does nothing, and a key that is held down acts once.

A terminal does not tell a key from a paste, nor a press from a repeat; their times do. Every key that could stand in a
text is held for 50 ms: when it turns out to be one of three within that time it was pasted (or the cat's), and all of
them are dropped, and what follows without a pause of 300 ms too. A key that comes again within 600 ms of its last time
is being held down: 500 ms is the usual delay before the first repeat.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pithead.widgets.glance import Glance

BURST_KEYS = 3
BURST_SECONDS = 0.05
AFTER_BURST_SECONDS = 0.3
REPEAT_SECONDS = 0.6

FREELY_REPEATED = frozenset({"j", "k", "n", "N", "tab"})
"""Keys that only look around: holding them down is how they are meant to be used."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """One key: when it came (monotonic seconds), what was on the screen then, and whether it is being held down."""

    key: str
    at: float
    shown: Glance | None
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class _Held:
    stroke: Stroke
    let_go: Callable[[Stroke], None]


class KeyGate:
    """`call_at(when, function)` is the event loop's; `tell_paste` hears once of every paste that was dropped."""

    def __init__(self, call_at: Callable[[float, Callable[[], None]], object], tell_paste: Callable[[], None]) -> None:
        self._call_at = call_at
        self._tell_paste = tell_paste
        self._held: deque[_Held] = deque()
        self._recent: deque[tuple[float, str]] = deque(maxlen=BURST_KEYS)
        self._last: dict[str, float] = {}
        self._burst_until = 0.0

    def note(self, key: str, at: float, shown: Glance | None) -> Stroke:
        """The key as a stroke. Every key passes here first, held or not, for only so are repeats seen."""
        is_repeat = at - self._last.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS
        self._last[key] = at
        return Stroke(key, at, shown, is_repeat)

    def hold(self, stroke: Stroke, let_go: Callable[[Stroke], None]) -> None:
        """Calls `let_go` in 50 ms, unless it turns out that the key was pasted."""
        self._recent.append((stroke.at, stroke.key))
        if stroke.at < self._burst_until or self._is_burst():
            if stroke.at >= self._burst_until:
                self._tell_paste()
            self._burst_until = stroke.at + AFTER_BURST_SECONDS
            self._held.clear()
            return
        self._held.append(_Held(stroke, let_go))
        self._call_at(stroke.at + BURST_SECONDS, self._open)

    def _is_burst(self) -> bool:
        if len(self._recent) < BURST_KEYS or self._recent[-1][0] - self._recent[0][0] > BURST_SECONDS:
            return False
        keys = {key for _, key in self._recent}
        return len(keys) > 1 or not keys <= FREELY_REPEATED

    def _open(self) -> None:
        if self._held:
            held = self._held.popleft()
            held.let_go(held.stroke)
