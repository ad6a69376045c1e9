"""Looking closer: a commit, an event, and the list of keys; each as plain lines that scroll."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

from textual.app import ComposeResult
from textual.geometry import Region, Size
from textual.layout import Layout
from textual.screen import ModalScreen

from pithead.console.actions import ACTIONS
from pithead.console.keys import Stroke
from pithead.console.placement import Placed
from pithead.delivery.events import Event, as_data
from pithead.delivery.plain_text import plain
from pithead.delivery.ports import Commit
from pithead.widgets.amounts import ago
from pithead.widgets.line import EMPTY, Line, cell, line, wrap
from pithead.widgets.palette import Palette
from pithead.widgets.pane import Pane
from pithead.widgets.words import words

SHOWN_CHARACTERS = 200_000
SHOWN_ROWS = 20_000


def _field(name: str, value: str | Line) -> Line:
    return cell(name, 11, "dim") + (line(value) if isinstance(value, str) else value)


def _long(text: str, width: int) -> list[Line]:
    """Text of any size as wrapped lines; what is past 200,000 characters is said, not shown."""
    lines: list[Line] = []
    for row in plain(text[:SHOWN_CHARACTERS]).split("\n"):
        lines += wrap(row, width, "plain", 50) or [EMPTY]
        if len(lines) > SHOWN_ROWS:
            break
    if len(text) > SHOWN_CHARACTERS or len(lines) > SHOWN_ROWS:
        lines.append(line((f"… {len(text):,} characters in all: `git show` has the rest.", "wait")))
    return lines


def commit_lines(commit: Commit, now: float, width: int) -> list[Line]:
    when = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(commit.committed_at))
    return [
        *wrap(commit.subject, width, "strong", 6),
        EMPTY,
        _field("commit", line((commit.sha, "accent"))),
        _field("author", commit.author),
        _field("date", line(when, (f"   {ago(now - commit.committed_at)}", "dim"))),
        _field(
            "size",
            line(
                f"+{commit.added:,} −{commit.deleted:,}",
                (f" in {commit.files:,} file{'' if commit.files == 1 else 's'}", "dim"),
            ),
        ),
        _field("parents", " ".join(parent[:12] for parent in commit.parents) or "none"),
        EMPTY,
        *(_long(commit.body, width) if commit.body.strip() else [line(("no further message", "dim"))]),
    ]


def event_lines(event: Event, now: float, width: int) -> list[Line]:
    when = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(event.at))
    fields = [
        _field("event", line((f"{event.seq}", "accent"), f" {event.kind}")),
        _field("when", line(when, (f"   {ago(now - event.at)}", "dim"))),
        _field("who", event.actor),
    ]
    if event.release is not None:
        fields.append(_field("release", str(event.release)))
    if event.cause is not None:
        fields.append(_field("answers", f"event {event.cause}"))
    data = json.dumps(as_data(event.payload), indent=2, ensure_ascii=False)
    return [*wrap(words(event), width, "strong", 6), EMPTY, *fields, EMPTY, *_indented(data, width)]


def _indented(data: str, width: int) -> list[Line]:
    rows = plain(data[:SHOWN_CHARACTERS]).split("\n")
    lines = [
        piece
        for row in rows
        for piece in (line((row, "dim")),) if row.strip()
    ]  # fmt: skip
    return [item.cut(width) for item in lines[:SHOWN_ROWS]]


def help_lines(width: int) -> list[Line]:
    lines = [
        line(("What the keys do", "strong"), ("  ·  a dim key says why when it is pressed", "dim")),
        EMPTY,
    ]
    for action in ACTIONS:
        twin = f"  pithead {action.cli}" if action.cli else ""
        head = cell(action.label, 10, "key") + cell(action.word, 14, "strong")
        text = wrap(action.help, max(20, width - 24), "plain", 3)
        lines.append(head + (text[0] if text else EMPTY))
        lines += [cell("", 24) + more for more in text[1:]]
        if twin:
            lines.append(cell("", 22) + line((twin, "faint")))
    return lines


class Detail(Pane):
    def __init__(self, palette: Palette, title: Line) -> None:
        super().__init__(palette, "detail")
        self.is_boxed = True
        self.is_chosen = True
        self._title = title
        self.lines: Sequence[Line] = ()
        self.top = 0

    def scroll(self, by: int) -> None:
        self.top = max(0, min(self.top + by, len(self.lines) - self.room[1]))
        self.look()

    def heading(self) -> tuple[Line, Line]:
        bottom = min(len(self.lines), self.top + max(0, self.size.height - 2))
        where = line((f"{bottom} of {len(self.lines)} lines · ", "dim"), ("escape", "key"), (" closes", "dim"))
        return self._title, where

    def draw(self, width: int, height: int) -> list[Line]:
        return list(self.lines[self.top : self.top + height])


class DetailScreen(ModalScreen[None]):
    """Over the panes, but never over the top line: what this is about stays in sight."""

    AUTO_FOCUS = ""
    DEFAULT_CSS = "DetailScreen { background: transparent; overflow: hidden; }"

    def __init__(self, palette: Palette, title: str) -> None:
        super().__init__()
        self._placed = Placed(self._arrange)
        self.detail = Detail(palette, line((title, "strong")))

    @property
    def layout(self) -> Layout:
        return self._placed

    def compose(self) -> ComposeResult:
        yield self.detail

    def _arrange(self, size: Size) -> Mapping[str, Region]:
        width = min(size.width, 110)
        return {"detail": Region((size.width - width) // 2, 1, width, max(3, size.height - 2))}

    def lines(self, width: int) -> list[Line]:
        raise NotImplementedError

    def on_resize(self) -> None:
        width = min(self.size.width, 110) - 4
        self.detail.lines = self.lines(width)
        self.detail.scroll(0)

    def take(self, stroke: Stroke) -> None:
        page = max(1, self.detail.room[1] - 1)
        steps = {
            "j": 1, "down": 1, "k": -1, "up": -1, "pagedown": page, "space": page, "pageup": -page,
            "g": -1_000_000, "home": -1_000_000, "G": 1_000_000, "end": 1_000_000,
        }  # fmt: skip
        if stroke.key in steps:
            self.detail.scroll(steps[stroke.key])
        elif stroke.key in ("escape", "q", "enter", "question_mark") and not stroke.is_repeat:
            self.dismiss(None)


class CommitScreen(DetailScreen):
    def __init__(self, palette: Palette, commit: Commit, now: float) -> None:
        super().__init__(palette, f"Commit {commit.sha[:7]}")
        self._commit, self._now = commit, now

    def lines(self, width: int) -> list[Line]:
        return commit_lines(self._commit, self._now, width)


class EventScreen(DetailScreen):
    def __init__(self, palette: Palette, event: Event, now: float) -> None:
        super().__init__(palette, f"Event {event.seq}")
        self._event, self._now = event, now

    def lines(self, width: int) -> list[Line]:
        return event_lines(self._event, self._now, width)


class HelpScreen(DetailScreen):
    def __init__(self, palette: Palette) -> None:
        super().__init__(palette, "Help")

    def lines(self, width: int) -> list[Line]:
        return help_lines(width)
