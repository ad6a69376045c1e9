"""The last events, newest first: when, who, what. The chosen one is kept by its seq."""

from __future__ import annotations

from collections.abc import Sequence

from pithead.delivery.events import Event
from pithead.widgets.amounts import stamp
from pithead.widgets.line import EMPTY, Ink, Line, cell, line
from pithead.widgets.palette import Palette
from pithead.widgets.pane import Pane
from pithead.widgets.words import style, words

MARKS: dict[Ink, str] = {"harm": "✘", "broken": "!", "wait": "‖", "good": "✔", "accent": "›"}


def event_line(event: Event, width: int, now: float) -> Line:
    ink = style(event)
    actor = 9 if width >= 60 else 7
    return (
        line((stamp(event.at, now), "faint"), " ")
        + cell(event.actor.split("@")[0], actor, "dim")
        + line(" ", (MARKS.get(ink, "·"), ink), " ", (words(event), "plain" if ink == "good" else ink))
    ).cut(width)


class EventsPane(Pane):
    """`chosen` is the seq of an event, or None: then the newest stays in view."""

    def __init__(self, palette: Palette) -> None:
        super().__init__(palette, "events")
        self._events: tuple[Event, ...] = ()
        self._now = 0.0
        self._is_shown = False
        self.needle = ""
        self.chosen: int | None = None

    def show(self, events: Sequence[Event], now: float) -> None:
        self._events, self._now, self._is_shown = tuple(events), now, True
        self.look()

    @property
    def shown(self) -> list[Event]:
        """Newest first, those that the filter lets through."""
        needle = self.needle.lower()
        newest = reversed(self._events)
        return [item for item in newest if not needle or needle in f"{item.actor} {words(item)}".lower()]

    @property
    def chosen_event(self) -> Event | None:
        return next((item for item in self._events if item.seq == self.chosen), None)

    def move(self, by: int) -> None:
        shown = self.shown
        if shown:
            at = next((i for i, item in enumerate(shown) if item.seq == self.chosen), -1 if by > 0 else 0)
            self.chosen = shown[max(0, min(len(shown) - 1, at + by))].seq
        self.look()

    @property
    def page(self) -> int:
        return max(1, self.room[1] - 1)

    def _top(self, height: int) -> int:
        at = next((i for i, item in enumerate(self.shown) if item.seq == self.chosen), 0)
        return max(0, min(at - height // 2, len(self.shown) - height))

    def at_row(self, y: int) -> int | None:
        index = y - 1 + self._top(self.room[1])
        return self.shown[index].seq if y >= 1 and 0 <= index < len(self.shown) else None

    def heading(self) -> tuple[Line, Line]:
        note = line((f"/{self.needle}", "found"), (f" {len(self.shown)}", "dim")) if self.needle else EMPTY
        return line(("Events", "strong")), note

    def draw(self, width: int, height: int) -> list[Line]:
        if not self._is_shown:
            return []
        if not self.shown:
            return [line(("no event matches the filter" if self._events else "nothing has happened yet", "dim"))]
        top = self._top(height)
        return [
            event_line(item, width, self._now).selected(item.seq == self.chosen and self.is_chosen)
            for item in self.shown[top : top + height]
        ]
