"""The home screen: every pane at its place, and the keys that look around in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from textual import events
from textual.app import ComposeResult
from textual.geometry import Region, Size
from textual.layout import Layout
from textual.screen import Screen
from textual.widgets import Input

from pithead.console.actions import Action, offered, why_not
from pithead.console.arrangement import Situation, arrange, inner_width, is_too_small
from pithead.console.offer import Offer
from pithead.console.placement import Placed
from pithead.console.tailing import LogBatch
from pithead.delivery.events import Event
from pithead.delivery.ports import Commit
from pithead.widgets.canary_panel import CanaryPanel, panel
from pithead.widgets.events_pane import EventsPane
from pithead.widgets.glance import Glance
from pithead.widgets.key_line import KeyHint, KeyLine
from pithead.widgets.log_pane import LogPane
from pithead.widgets.notices import HintLine, SmallNotice
from pithead.widgets.palette import Palette
from pithead.widgets.pane import Pane
from pithead.widgets.pending_list import PendingList, PendingView, moved
from pithead.widgets.stage_strip import StageStrip, strip
from pithead.widgets.top_line import TopLine
from pithead.widgets.why_line import WhyLine

PaneName = Literal["pending", "log", "events"]
ROUND: tuple[PaneName, ...] = ("pending", "log", "events")


class HomeScreen(Screen[None]):
    AUTO_FOCUS = ""
    DEFAULT_CSS = """
    HomeScreen { overflow: hidden; }
    HomeScreen Input { border: none; padding: 0 1; height: 1; background: $surface; }
    """

    def __init__(self, palette: Palette, has_hint: bool) -> None:
        super().__init__()
        self._placed = Placed(self._arrange)
        self._palette = palette
        self._has_hint = has_hint
        self.top = TopLine(palette)
        self.stages = StageStrip(palette)
        self.canary = CanaryPanel(palette)
        self.pending = PendingList(palette)
        self.log_pane = LogPane(palette)
        self.events = EventsPane(palette)
        self.why = WhyLine(palette)
        self.keys = KeyLine(palette)
        self.hint = HintLine(palette)
        self.small = SmallNotice(palette)
        self.field = Input(placeholder="filter: enter keeps it, escape drops it", id="filter", compact=True)
        self.field.cursor_blink = False
        self.glance: Glance | None = None
        self.chosen: PaneName = "pending"
        self._lower: PaneName | None = None
        self._chosen_commit: str | None = None
        self._has_chosen = False
        self._needle = ""
        self._offer = Offer()
        self._regions: Mapping[str, Region] = {}

    @property
    def layout(self) -> Layout:
        return self._placed

    def compose(self) -> ComposeResult:
        yield from self._panes()
        yield self.field

    def _panes(self) -> Iterable[Pane]:
        yield from (self.top, self.stages, self.canary, self.pending, self.log_pane, self.events)
        yield from (self.why, self.keys, self.hint, self.small)

    # ── where ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_too_small(self) -> bool:
        return is_too_small(*self.size)

    @property
    def is_typing(self) -> bool:
        return self.field.has_focus

    def _arrange(self, size: Size) -> Mapping[str, Region]:
        regions = arrange(size.width, size.height, self._situation(size))
        boxed = "log" in regions and "events" in regions
        for pane in (self.stages, self.canary, self.pending, self.log_pane, self.events):
            pane.is_boxed = boxed
        self._regions = regions
        return regions

    def _situation(self, size: Size) -> Situation:
        glance = self.glance
        inner = inner_width(size.width, size.height)
        wants: dict[str, int] = {}
        if glance is not None:
            wants["release"] = len(strip(glance, inner, 99 if glance.release else 8))
            release = glance.state.in_flight
            if release is not None and (release.step >= 0 or release.verdicts):
                wants["canary"] = len(panel(glance, inner, 99))
            wants["pending"] = len(self.pending.view.commits) + (1 if self.pending.view.note else 0)
        return Situation(
            chosen=self.chosen,
            lower=self._lower
            or ("log" if glance and glance.release and glance.release.phase == "preparing" else "events"),
            wants=wants,
            is_in_flight=glance is not None and glance.state.in_flight is not None,
            has_hint=self._has_hint,
            is_typing=self.is_typing,
        )

    def _rearrange(self) -> None:
        """Lays out again only when something would stand elsewhere than the last layout put it."""
        if arrange(self.size.width, self.size.height, self._situation(self.size)) != self._regions:
            self.top.refresh(layout=True)  # a screen's own refresh keeps the arrangement that it has (Textual 8.2)

    # ── what ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def show(self, glance: Glance, hint: str = "") -> None:
        """Paints what changed since the last glance."""
        self.glance = glance
        if glance.is_ready:  # before, nothing is known: an empty pane must not look like an empty service
            self.pending.show(self._pending_view(glance), glance.now)
            self._rearrange()
            self.stages.show(glance)
            self.canary.show(glance)
            self.events.show(glance.events, glance.now)
        self.top.show(glance)
        self.why.show(glance)
        self.hint.show(hint)
        self._show_keys()
        for pane in self._panes():
            pane.set_class(bool(glance.trouble), "stale")

    def _pending_view(self, glance: Glance) -> PendingView:
        self._offer = self._offer.after(glance.state)
        offer = self._offer
        if self._chosen_commit not in offer.places or not self._has_chosen:
            self._chosen_commit, self._has_chosen = offer.next_up, False
        return offer.view(self._chosen_commit, self._needle)

    def _show_keys(self) -> None:
        if self.glance is None:
            return
        hints = [
            KeyHint(a.label, a.word, self.why_not(a) is None, a.is_pinned)
            for a in offered(self.glance.state)
            if a.in_key_line
        ]
        self.keys.show(hints)

    def take_log(self, batches: Sequence[LogBatch]) -> None:
        for batch in batches:
            if batch.begins is not None:
                self.log_pane.begin(batch.begins, batch.first)
            self.log_pane.ring.extend(batch.lines)
        if batches:
            self.log_pane.look()

    # ── what is chosen ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def chosen_commit(self) -> Commit | None:
        return next((c for c in self.pending.view.commits if c.sha == self._chosen_commit), None)

    @property
    def chosen_event(self) -> Event | None:
        return self.events.chosen_event

    def why_not(self, action: Action, glance: Glance | None = None) -> str | None:
        glance = glance or self.glance
        if glance is None:
            return "the journal is still being read."
        if self.is_too_small and action.id != "leave":
            return "the terminal is too small to see what a key would do."
        if action.id == "open" and self.chosen == "log":
            return "a log has nothing to open."
        if action.id == "open":
            chosen = self.chosen_commit if self.chosen == "pending" else self.chosen_event
            return None if chosen is not None else "nothing is chosen."
        commit = self._chosen_commit
        return why_not(action, glance, commit, self._offer.why_not(commit) if action.id == "start" else None)

    # ── looking around ───────────────────────────────────────────────────────────────────────────────────────────

    def look_around(self, action: Action) -> bool:
        """Does what only moves within this screen; False for what it does not know."""
        match action.id:
            case "next-pane":
                self._choose(ROUND[(ROUND.index(self.chosen) + 1) % len(ROUND)])
            case "previous-pane":
                self._choose(ROUND[(ROUND.index(self.chosen) - 1) % len(ROUND)])
            case "down" | "up" | "page-down" | "page-up" | "first" | "last":
                self._move(action.id)
            case "next-match" | "previous-match":
                if self.log_pane.ring.step(1 if action.id == "next-match" else -1, max(1, self.log_pane.room[1])):
                    self._choose("log")
                self.log_pane.look()
            case "filter":
                self._begin_typing()
            case "clear":
                self._filter("")
            case _:
                return False
        return True

    def _choose(self, pane: PaneName) -> None:
        self.chosen = pane
        if pane != "pending":
            self._lower = pane
        for name, widget in (("pending", self.pending), ("log", self.log_pane), ("events", self.events)):
            widget.is_chosen = name == pane
        self._rearrange()
        for each in (self.pending, self.log_pane, self.events):
            each.look()
        self._show_keys()

    def _move(self, how: str) -> None:
        page = {"pending": self.pending.page, "log": self.log_pane.page, "events": self.events.page}[self.chosen]
        by = {"down": 1, "up": -1, "page-down": page, "page-up": -page, "first": -1_000_000, "last": 1_000_000}[how]
        if self.chosen == "log":
            self.log_pane.scroll(by)
        elif self.chosen == "events":
            self.events.move(by)
        else:
            self._choose_commit(moved(self.pending.view.shown, self._chosen_commit, by))
        self._show_keys()

    def _choose_commit(self, sha: str | None) -> None:
        if sha is not None and self.glance is not None:
            self._chosen_commit, self._has_chosen = sha, True
            self.pending.show(self._pending_view(self.glance), self.glance.now)

    # ── filtering ────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_typing(self) -> None:
        self.field.value = {"pending": self._needle, "log": self.log_pane.ring.needle, "events": self.events.needle}[
            self.chosen
        ]
        self.field.focus()
        self.call_after_refresh(self._rearrange)

    def end_typing(self) -> None:
        self.set_focus(None)
        self._rearrange()
        self.call_after_refresh(self._rearrange)  # whether it is typed in is known for certain then

    def _filter(self, needle: str) -> None:
        match self.chosen:
            case "pending":
                self._needle = needle
                if self.glance is not None:
                    self.pending.show(self._pending_view(self.glance), self.glance.now)
            case "log":
                self.log_pane.ring.search(needle)
                self.log_pane.look()
            case "events":
                self.events.needle = needle
                self.events.look()

    def on_input_changed(self, event: Input.Changed) -> None:
        if self.is_typing:
            self._filter(event.value)

    def on_input_submitted(self, _event: Input.Submitted) -> None:
        self.end_typing()

    # ── the mouse: chooses and scrolls, and never acts ───────────────────────────────────────────────────────────

    def on_click(self, event: events.Click) -> None:
        for pane, name in ((self.pending, "pending"), (self.log_pane, "log"), (self.events, "events")):
            if event.widget is pane:
                self._choose(name)  # type: ignore[arg-type]
        if event.widget is self.pending:
            self._choose_commit(self.pending.at_row(event.y))
        if event.widget is self.events:
            self.events.chosen = self.events.at_row(event.y)
            self.events.look()
        self._show_keys()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._wheel(event, 3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._wheel(event, -3)

    def _wheel(self, event: events.MouseEvent, by: int) -> None:
        region = {name: self._regions.get(name, Region()) for name in ("log", "events")}
        if region["log"].contains(event.screen_x, event.screen_y):
            self.log_pane.scroll(by)
        elif region["events"].contains(event.screen_x, event.screen_y):
            self.events.move(by)
