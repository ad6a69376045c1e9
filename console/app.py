"""The screen, put together: the feed on one side, the keys on the other, and between them the rule that a key is about
what was on the screen when it was pressed."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar

from textual import events
from textual._time import get_time
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import Input

from pithead.console.actions import BY_ID, Action, for_key, offered
from pithead.console.departure import leave_on_signals, watch_terminal
from pithead.console.desk import Desk
from pithead.console.details import CommitScreen, DetailScreen, EventScreen, HelpScreen
from pithead.console.dialogs import Confirmed, Dialog
from pithead.console.feed import UNREADABLE, Answer, Feed
from pithead.console.home import HomeScreen
from pithead.console.keys import KeyGate, Stroke
from pithead.console.look import theme_of
from pithead.console.parting import parting_words
from pithead.console.wishes import Command, answer_line, confirmed_command, plain_command
from pithead.delivery.state import ServiceState
from pithead.widgets.glance import Glance
from pithead.widgets.line import Line, line
from pithead.widgets.palette import FULL, Palette, choose

NOT_TEXT = frozenset(
    {"up", "down", "left", "right", "pageup", "pagedown", "home", "end", "escape", "ctrl+c", "ctrl+q", "ctrl+l"}
)
"""Keys that no pasted text can hold: they need not wait to show that they are none."""


class PitheadApp(App[None]):
    """`hint` gives the words of an extra line at the bottom for each state: the demo's tour."""

    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "f1"  # ours is in the table, behind the gate
    BINDINGS: ClassVar[list[BindingType]] = []
    CSS = ".stale { opacity: 60%; }"

    def __init__(
        self,
        desk: Desk,
        hint: Callable[[ServiceState], str] | None = None,
        is_read_only: bool = False,
        palette: Palette | None = None,
        starts_runners: bool = True,
    ) -> None:
        self.palette = palette or choose(os.environ)
        super().__init__(ansi_color=None if self.palette is FULL else True)
        self.register_theme(theme_of(FULL))
        self.theme = self.palette.theme
        self.desk = desk
        self.home = HomeScreen(self.palette, hint is not None)
        self.shown: Glance | None = None
        self._hint = hint
        self._is_read_only = is_read_only
        self._starts_runners = starts_runners and not is_read_only
        self._feed: Feed | None = None
        self._has_feed = asyncio.Event()
        self._gate: KeyGate | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._paint_at: asyncio.TimerHandle | None = None
        self._paint_due = 0.0
        self._painted_at = 0.0

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def get_default_screen(self) -> Screen[None]:
        return self.home

    async def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        self._gate = KeyGate(lambda when, act: loop.call_at(when, act), self._say_paste)
        self._feed = Feed(self.desk, self._changed, self._is_read_only, self._starts_runners)
        self.home.events.is_chosen = self.home.log_pane.is_chosen = False
        self.home.pending.is_chosen = True
        self._has_feed.set()
        self._start(self._feed.run())
        if not self.is_headless:
            leave_on_signals(self.leave)
            self._start(watch_terminal(self.leave))
        self._paint()

    def _start(self, job: object) -> None:
        task = asyncio.ensure_future(job)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self.is_running:
            self._handle_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    async def on_unmount(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def is_settled(self) -> None:
        """Returns when everything that the journal holds now was read and painted."""
        await self._has_feed.wait()
        if self._feed is not None:
            await self._feed.is_settled()
        self._paint()

    def leave(self) -> None:
        self.exit()

    # ── painting ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _changed(self, apart: float) -> None:
        """Paints when `apart` seconds have passed since the last time, or sooner if somebody else asked for it."""
        now = time.monotonic()
        due = max(now, self._painted_at + apart)
        if self._paint_at is not None:
            if self._paint_due <= due:
                return
            self._paint_at.cancel()
        self._paint_due = due
        self._paint_at = asyncio.get_running_loop().call_later(due - now, self._paint)

    def _paint(self) -> None:
        self._paint_at = None
        if self._feed is None or not self.is_running or not self.home.is_mounted:
            return
        self._painted_at = time.monotonic()
        if self._feed.is_stale:
            self._show(self._feed.glance())
        self.home.take_log(self._feed.take_log())
        for answer in self._feed.take_answers():
            self._answered(answer)

    def _show(self, glance: Glance) -> None:
        self.home.show(glance, self._hint(glance.state) if self._hint else "")
        if isinstance(self.screen, Dialog):
            self.screen.show(glance)
        self.shown = glance

    def say(self, words: Line) -> None:
        self.home.why.say(words, time.time())

    def _answered(self, answer: Answer) -> None:
        self.say(answer_line(answer.event))

    def _say_paste(self) -> None:
        self.say(line(("pasted text is ignored here", "wait"), (": keys count again after a moment", "dim")))

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key) and not event.is_forwarded and self._gate is not None:
            if self._take_key(self._gate, event):
                return
        elif isinstance(event, events.Paste) and not event.is_forwarded and not isinstance(self.focused, Input):
            self._say_paste()
            return
        await super().on_event(event)

    def _take_key(self, gate: KeyGate, event: events.Key) -> bool:
        """Whether the key was dealt with (or will be), and is not for Textual."""
        stroke = gate.note(event.key, event.time, self.shown)
        screen = self.screen
        if isinstance(screen, Dialog) and screen.is_deaf(stroke):
            return True
        if isinstance(self.focused, Input) and isinstance(screen, HomeScreen | Dialog):
            return self._take_in_field(gate, stroke)
        if not isinstance(screen, HomeScreen | Dialog | DetailScreen):
            return False  # the command palette: Textual's own
        if event.key in NOT_TEXT:
            self._act_on(stroke)
        else:
            gate.hold(stroke, self._act_on)
        return True

    def _take_in_field(self, gate: KeyGate, stroke: Stroke) -> bool:
        """Text goes into the field; only what would end the typing is looked at here."""
        if stroke.key == "escape":
            self._act_on(stroke)
            return True
        if stroke.key in ("enter", "ctrl+c", "ctrl+q"):
            gate.hold(stroke, self._act_on)
            return True
        gate.hold(stroke, lambda _stroke: None)  # so that an Enter within a paste is seen to be part of one
        return False

    def _act_on(self, stroke: Stroke) -> None:
        screen = self.screen
        if isinstance(screen, Dialog) and screen.is_deaf(stroke):
            return  # it was let through before the question came up
        if isinstance(screen, Dialog | DetailScreen):
            if stroke.key in ("ctrl+c", "ctrl+q"):
                self.leave()
            else:
                screen.take(stroke)
        elif self.home.is_typing:
            self._end_typing(stroke)
        else:
            action = for_key(stroke.key, (stroke.shown or self._latest()).state)
            if action is not None:
                self.act(action, stroke)

    def _end_typing(self, stroke: Stroke) -> None:
        if stroke.key in ("ctrl+c", "ctrl+q"):
            self.leave()
            return
        self.home.end_typing()
        if stroke.key == "escape":
            self.home.look_around(BY_ID["clear"])

    def _latest(self) -> Glance:
        return self.shown or Glance(ServiceState(self.desk.service), time.time())

    # ── acting ───────────────────────────────────────────────────────────────────────────────────────────────────

    def act(self, action: Action, stroke: Stroke) -> None:
        """Does what the key is for, or says why not."""
        if action.id != "leave" and self.home.is_too_small:
            return
        shown = stroke.shown or self._latest()
        if (action.verb or action.ask) and stroke.is_repeat:
            self.say(line((f"{action.label} is held down", "wait"), (": it acts once; let it go first", "dim")))
            return
        reason = self.home.why_not(action, shown)
        if reason is not None:
            self.say(line((f"{action.word}: ", "wait"), reason))
            return
        if action.ask is not None:
            self._ask(action, shown, stroke)
        elif action.verb is not None:
            chosen = self.home.chosen_commit
            self._press(plain_command(action, shown, chosen.sha if chosen else None))
        elif not self.home.look_around(action):
            self._look(action, stroke)

    def _look(self, action: Action, stroke: Stroke) -> None:
        match action.id:
            case "leave":
                self.leave()
            case "help" if not stroke.is_repeat:
                self.push_screen(HelpScreen(self.palette))
            case "open" if not stroke.is_repeat:
                self._open()
            case "palette":
                self.action_command_palette()
            case "redraw":
                self.home.refresh(layout=True)
                self.refresh(layout=True)

    def _open(self) -> None:
        now = self._latest().now
        commit, event = self.home.chosen_commit, self.home.chosen_event
        if self.home.chosen == "events" and event is not None:
            self.push_screen(EventScreen(self.palette, event, now))
        elif self.home.chosen == "pending" and commit is not None:
            self.push_screen(CommitScreen(self.palette, commit, now))

    def _ask(self, action: Action, shown: Glance, stroke: Stroke) -> None:
        if action.ask is None:
            return
        dialog = Dialog(self.palette, action.ask(shown), stroke)

        def done(confirmed: Confirmed | None) -> None:
            if confirmed is None:
                self.say(line((f"{action.word}: cancelled", "dim")))
            else:
                self._press(confirmed_command(action, confirmed))

        self.push_screen(dialog, done)
        dialog.call_after_refresh(lambda: dialog.painted_at(get_time()))

    def _press(self, command: Command) -> None:
        self.say(line((command.words, "accent")))
        self._start(self._journal(command))

    async def _journal(self, command: Command) -> None:
        if self._feed is not None:
            self._feed.hasten()
        try:
            event = await asyncio.to_thread(self.desk.press, command.wish, command.release)
        except UNREADABLE as error:
            self.say(line(("not recorded: ", "harm"), str(error)))
            return
        if self._feed is not None:
            self._feed.expect(event)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette is drawn from the table too."""
        for action in offered(self._latest().state):
            if action.in_key_line or action.id == "redraw":
                name = f"{action.word} ({action.label})"
                yield SystemCommand(name, action.help, partial(self._act_from_palette, action))

    def _act_from_palette(self, action: Action) -> None:
        self.act(action, Stroke("palette", get_time(), self.shown))


def run_console(desk: Desk, hint: Callable[[ServiceState], str] | None = None, is_read_only: bool = False) -> int:
    """Opens the screen; after leaving it says what goes on without it. The exit status is for the shell."""
    app = PitheadApp(desk, hint, is_read_only)
    app.run()
    if app.return_code:
        return app.return_code
    words = parting_words(app.shown)
    if words:
        try:
            sys.stdout.write(words + "\n")
            sys.stdout.flush()
        except OSError:
            return 0  # the terminal is gone, and with it whoever would read this
    return 0
