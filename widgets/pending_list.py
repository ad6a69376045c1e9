"""The commits that await release: what is in flight, what would go next, what is held and what for. The chosen one is
kept by its sha, never by its row, so that a commit that arrives does not change what a key is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pithead.delivery.ports import Commit
from pithead.widgets.amounts import age, count
from pithead.widgets.line import EMPTY, Ink, Line, cell, line, wrap
from pithead.widgets.palette import Palette
from pithead.widgets.pane import Pane
from pithead.widgets.words import short


@dataclass(frozen=True, slots=True)
class PendingView:
    """`next_up` is the sha that `s` would release if nothing else is chosen; `held` says in a few words why a commit
    does not go out; `included` are the shas that would go with the chosen one."""

    commits: tuple[Commit, ...] = ()
    total: int = 0
    note: str = ""
    in_flight: frozenset[str] = frozenset()
    release: int | None = None
    in_flight_head: str | None = None
    next_up: str | None = None
    held: Mapping[str, str] = field(default_factory=dict)
    included: frozenset[str] = frozenset()
    chosen: str | None = None
    needle: str = ""
    is_known: bool = False

    @property
    def shown(self) -> tuple[Commit, ...]:
        """The commits that the filter lets through."""
        needle = self.needle.lower()
        if not needle:
            return self.commits
        return tuple(c for c in self.commits if needle in f"{c.sha}\n{c.author}\n{c.subject}".lower())


def heading(view: PendingView, now: float) -> tuple[Line, Line]:
    title = line(("Awaiting release", "strong"))
    if view.total:
        title += line((f" · {view.total:,} commit{'' if view.total == 1 else 's'}", "dim"))
    if view.commits and view.total == len(view.commits):
        title += line((f" · oldest {age(now - min(c.committed_at for c in view.commits))}", "dim"))
    note = line((f"/{view.needle}", "found"), (f" {len(view.shown)}", "dim")) if view.needle else EMPTY
    return title, note


def rows(view: PendingView, width: int, height: int, now: float) -> list[Line]:
    """The part of the list that holds the chosen commit, in at most `height` lines."""
    if not view.is_known:
        return [line(("the source has not been read yet", "dim"))]
    foot = _foot(view, width)
    if not view.shown:
        why = "no commit matches the filter" if view.commits else "every commit of the branch is live"
        return [line((why, "dim")), *foot]
    room = max(1, height - len(foot))
    top = _top(view, room)
    drawn = [_row(commit, view, width, now) for commit in view.shown[top : top + room]]
    return [*drawn, *foot]


def _foot(view: PendingView, width: int) -> list[Line]:
    foot: list[Line] = []
    if view.total > len(view.commits):
        foot.append(line((f"  … {view.total - len(view.commits):,} older ones are not listed", "faint")))
    return foot + wrap(view.note, width, "wait", 2)


def _top(view: PendingView, room: int) -> int:
    at = next((i for i, c in enumerate(view.shown) if c.sha == view.chosen), 0)
    if len(view.shown) <= room:
        return 0
    return max(0, min(at - room // 2, len(view.shown) - room))


def _row(commit: Commit, view: PendingView, width: int, now: float) -> Line:
    is_chosen = commit.sha == view.chosen
    mark, tag, ink = _mark(commit, view)
    base: Ink = "plain" if commit.sha in view.included or not view.included else "faint"
    if commit.sha in view.in_flight:
        base = "dim"
    sha: Ink = "accent" if base == "plain" else base
    left = line(("›" if is_chosen else " ", "key"), (mark, ink), " ", (short(commit.sha), sha), " ")
    right = _columns(commit, width, now, base)
    if commit.sha in view.held and commit.sha not in view.in_flight:
        right = cell(view.held[commit.sha], right.width, "wait", is_right=True)
    elif tag:
        left += line((tag, ink), " ")
    room = width - left.width - right.width - 1
    return (left + cell(commit.subject, max(4, room), base) + line(" ") + right).selected(is_chosen)


def _columns(commit: Commit, width: int, now: float, base: Ink) -> Line:
    """Author, age and size, as wide as the list leaves room for."""
    author, size, gap = (12, 13, "  ") if width >= 66 else (8, 11, " ")
    old = cell(age(now - commit.committed_at), 3, base, is_right=True)
    return cell(_author(commit), author, "dim") + line(gap) + old + line(gap) + _size(commit, size, base)


def _mark(commit: Commit, view: PendingView) -> tuple[str, str, Ink]:
    if commit.sha in view.in_flight:
        return "●", f"in {view.release}" if commit.sha == view.in_flight_head else "", "canary"
    if commit.sha in view.held:
        return "‖", "", "wait"
    if commit.sha == view.next_up:
        return "▸", "next", "good"
    return " ", "", "plain"


def _author(commit: Commit) -> str:
    return commit.author.split("<")[0].strip() or commit.author


def _size(commit: Commit, width: int, base: Ink) -> Line:
    half = width // 2
    added, deleted = f"+{count(commit.added)}", f"−{count(commit.deleted)}"
    dim: Ink = "faint" if base == "faint" else "dim"
    return cell(added, half, dim, is_right=True) + cell(deleted, width - half, dim, is_right=True)


class PendingList(Pane):
    """`chosen` is the sha that keys are about; None while nothing can be chosen."""

    def __init__(self, palette: Palette) -> None:
        super().__init__(palette, "pending")
        self._view = PendingView()
        self._now = 0.0
        self._is_shown = False

    def show(self, view: PendingView, now: float) -> None:
        self._view, self._now, self._is_shown = view, now, True
        self.look()

    @property
    def view(self) -> PendingView:
        return self._view

    @property
    def page(self) -> int:
        return max(1, self.room[1] - 1)

    def at_row(self, y: int) -> str | None:
        """The sha that is drawn in that row of the widget."""
        width, height = self.room
        index = y - 1 + _top(self._view, max(1, height - len(_foot(self._view, width))))
        shown = self._view.shown
        return shown[index].sha if y >= 1 and 0 <= index < len(shown) else None

    def heading(self) -> tuple[Line, Line]:
        return heading(self._view, self._now)

    def draw(self, width: int, height: int) -> list[Line]:
        return rows(self._view, width, height, self._now) if self._is_shown else []


def moved(shown: Sequence[Commit], chosen: str | None, by: int) -> str | None:
    """The sha `by` rows below the chosen one, within the list."""
    if not shown:
        return None
    at = next((i for i, c in enumerate(shown) if c.sha == chosen), None)
    return shown[0 if at is None else max(0, min(len(shown) - 1, at + by))].sha
