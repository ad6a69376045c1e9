"""Asking first. Cancel is where Enter falls; confirming takes a way to the other side, or a letter; a key that is held
down, or that came before anybody can have read the question, confirms nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.geometry import Region, Size
from textual.layout import Layout
from textual.screen import ModalScreen
from textual.widgets import Input

from pithead.console.keys import Stroke
from pithead.console.placement import Placed
from pithead.console.questions import Question
from pithead.widgets.amounts import ago
from pithead.widgets.glance import Glance
from pithead.widgets.line import EMPTY, Line, line, wrap, wrap_line
from pithead.widgets.palette import Palette
from pithead.widgets.pane import Pane, boxed

DEAF_SECONDS = 0.4
WIDTH = 76
LISTED = 8


@dataclass(frozen=True, slots=True)
class Confirmed:
    """`to` is the release that was chosen, `reason` the text that was typed."""

    question: Question
    to: int | None = None
    reason: str = ""


class QuestionBox(Pane):
    def __init__(self, palette: Palette, question: Question) -> None:
        super().__init__(palette, "question")
        self.question = question
        self.is_on_act = False
        self.at = 0
        self.news = EMPTY
        self.complaint = ""

    def draw(self, width: int, height: int) -> list[Line]:
        body = [line("  ") + item for item in self.body(width - 6)]
        return boxed(body, width, height, line((self.question.title, "strong")), is_focused=True)

    def body(self, width: int) -> list[Line]:
        question = self.question
        lines = [EMPTY, question.target.cut(width), EMPTY]
        for sentence in question.words:
            lines += wrap(sentence, width, "plain", 4)
        if question.choices:
            lines += [EMPTY, *self._choices(width)]
        if self.news:
            lines += [EMPTY, *wrap_line(self.news, width, 3)]
        if question.needs_reason:
            lines += [EMPTY, EMPTY, EMPTY]
            if self.complaint:
                lines[-1] = line((self.complaint, "wait"))
            return [*lines, line(("enter", "key"), f" {question.act}   ", ("escape", "key"), " cancel"), EMPTY]
        return [*lines, EMPTY, self._buttons(), EMPTY]

    def _choices(self, width: int) -> list[Line]:
        choices = self.question.choices
        top = max(0, min(self.at - LISTED // 2, len(choices) - LISTED))
        rows = [
            (line(("› " if i == self.at else "  ", "key")) + choice.words).cut(width).fit(width).selected(i == self.at)
            for i, choice in enumerate(choices)
        ][top : top + LISTED]
        more = len(choices) - top - len(rows)
        return [*rows, line((f"    … {more} more", "faint"))] if more > 0 else rows

    def _buttons(self) -> Line:
        cancel = "[ Cancel ]" if not self.is_on_act else "  Cancel  "
        act = f"[ {self.question.act.capitalize()} ]" if self.is_on_act else f"  {self.question.act.capitalize()}  "
        return line(
            (cancel, "focus" if not self.is_on_act else "dim"),
            "   ",
            (act, "harm" if self.is_on_act else "dim"),
            ("      ←→ enter, or ", "faint"),
            (self.question.letter, "key"),
            (f" {self.question.act}", "faint"),
        )


class Dialog(ModalScreen[Confirmed | None]):
    """Dismissed with what was confirmed, or None."""

    AUTO_FOCUS = "#reason"
    DEFAULT_CSS = """
    Dialog { background: transparent; overflow: hidden; }
    Dialog Input { border: none; padding: 0 1; height: 1; background: $surface; }
    """

    def __init__(self, palette: Palette, question: Question, opened: Stroke) -> None:
        super().__init__()
        self._placed = Placed(self._arrange)
        self.question = question
        self.box = QuestionBox(palette, question)
        self.field = Input(
            id="reason", max_length=400, compact=True, placeholder="the reason, for whoever finds it locked"
        )
        self.field.cursor_blink = False
        self._opened = opened
        self._is_opener_held = True
        self._open_at = opened.at

    @property
    def layout(self) -> Layout:
        return self._placed

    def compose(self) -> ComposeResult:
        yield self.box
        if self.question.needs_reason:
            yield self.field

    def on_mount(self) -> None:
        self.box.look()

    def _arrange(self, size: Size) -> Mapping[str, Region]:
        width = min(WIDTH, size.width - 4)
        body = self.box.body(width - 6)
        height = min(size.height - 1, len(body) + 2)
        x, y = (size.width - width) // 2, max(1, (size.height - height) // 2)
        return {
            "question": Region(x, y, width, height),
            "reason": Region(x + 3, y + height - 5, width - 6, 1),
        }

    def show(self, glance: Glance) -> None:
        """Says so when the release moved on while the question stands; what is confirmed stays what was asked."""
        news = moved_on(self.question, glance)
        if news != self.box.news:
            self.box.news = news
            self.box.refresh(layout=True)
            self.box.look()

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def is_deaf(self, stroke: Stroke) -> bool:
        """Whether nobody can have meant this key as an answer: too early, or the opening key still held down."""
        if stroke.key == self._opened.key:
            self._is_opener_held = self._is_opener_held and stroke.is_repeat
            if self._is_opener_held:
                return True
        return stroke.at - self._open_at < DEAF_SECONDS

    def painted_at(self, now: float) -> None:
        """The clock of the 400 ms starts when the question is on the screen, not when the key was pressed."""
        self._open_at = now

    def take(self, stroke: Stroke) -> None:
        """A key that is not text: the gate let it through, and `is_deaf` was asked."""
        match stroke.key:
            case "escape":
                self.dismiss(None)
            case "left" | "right" | "tab" | "shift+tab" if not self.question.needs_reason:
                self.box.is_on_act = not self.box.is_on_act
            case "down" | "j":
                self._choose(1)
            case "up" | "k":
                self._choose(-1)
            case "enter" if not stroke.is_repeat:
                self._enter()
            case key if key == self.question.letter and not stroke.is_repeat and not self.question.needs_reason:
                self._confirm()
        self.box.look()

    def _choose(self, by: int) -> None:
        if self.question.choices:
            self.box.at = max(0, min(len(self.question.choices) - 1, self.box.at + by))

    def _enter(self) -> None:
        if self.question.needs_reason:
            reason = " ".join(self.field.value.split())
            if reason:
                self.dismiss(Confirmed(self.question, reason=reason))
            self.box.complaint = "A lock without a reason helps nobody: write one."
        elif self.box.is_on_act:
            self._confirm()
        else:
            self.dismiss(None)

    def _confirm(self) -> None:
        choices = self.question.choices
        self.dismiss(Confirmed(self.question, to=choices[self.box.at].release if choices else None))


def moved_on(question: Question, glance: Glance) -> Line:
    """What happened to the release since the question was asked; empty if nothing."""
    if question.release is None:
        release = glance.release
        if question.choices and release is not None:
            return line(("Meanwhile: ", "wait"), f"release {release.number} was started by {release.started_by}.")
        return EMPTY
    release = glance.state.release(question.release)
    if release is None or release.moved.seq <= question.moved:
        return EMPTY
    where = f"it has {release.weight} % of the traffic" if release.step >= 0 else "it has no traffic yet"
    state = "it has ended" if release.phase == "ended" else where
    return line(
        ("It moved on meanwhile: ", "wait"),
        f"{release.moved.by} {release.moved.words} {ago(glance.now - release.moved.at)}; {state}.",
    )
