"""The release in flight: what it goes through, where it stands, how far up the canary's ladder, and when it may be done.
When nothing is in flight: how the last ones ended."""

from __future__ import annotations

from pithead.delivery.events import PauseReason
from pithead.delivery.state import Pause, Release, StageRun
from pithead.widgets.amounts import age, ago, clock, span, time_of_day
from pithead.widgets.forecast import hold_left, seconds_left
from pithead.widgets.glance import Glance
from pithead.widgets.line import EMPTY, Ink, Line, cell, line, sides, wrap
from pithead.widgets.palette import Palette
from pithead.widgets.pane import Pane
from pithead.widgets.words import OUTCOMES, STAGE_MARKS, outcome_words, short

STAGE_WORDS = {"failed": "failed", "errored": "errored", "skipped": "skipped", "aborted": "aborted"}


def heading(glance: Glance) -> tuple[Line, Line]:
    release = glance.release
    if release is None:
        return line(
            ("Nothing in flight", "strong"), (" · the last releases" if glance.state.ended else "", "dim")
        ), EMPTY
    title = line((f"Release {release.number}", "strong"), " ", (short(release.commit), "accent"))
    if release.kind == "rollback":
        title += line((f" back to release {release.to}" if release.to else " roll-back", "wait"))
    title += line((f" {release.subject}", "dim"))
    since = f"{release.started_by.split('@')[0]} · {clock(release.elapsed_seconds(glance.now))}"
    return title, line((since, "dim"))


def strip(glance: Glance, width: int, height: int) -> list[Line]:
    """The release's stages, its ladder, and a line of what happens now; in at most `height` lines."""
    release = glance.release
    if release is None:
        return history(glance, width, height)
    if release.phase == "queued":
        return [line(("○ queued", "wait"), (f" since {ago(glance.now - release.requested_at)}", "dim"))]
    lines = stages(release, glance.now, width)
    if release.steps and (release.step >= 0 or height > len(lines) + 1):
        lines.append(ladder(release, glance.now, width))
    lines.append(situation(release, glance.now, width))
    if glance.state.queued is not None and glance.state.queued is not release:
        lines.append(_queued(glance.state.queued))
    lines += wrap(release.note, width, "dim", 2)
    return [item.cut(width) for item in lines[:height]]


def _queued(release: Release) -> Line:
    return line(
        ("○ next: ", "wait"),
        f"release {release.number} ",
        (short(release.commit), "accent"),
        (f" {release.subject}", "dim"),
    )


def stages(release: Release, now: float, width: int) -> list[Line]:
    """The stages side by side, on two lines if need be; with more of them the expected times give way, then the others."""
    lines: list[Line] = []
    for detail in (2, 1, 0):
        lines = _flowed([_stage(run, now, detail) for run in release.stages], width)
        if len(lines) <= 2:
            break
    return lines


def _flowed(pieces: list[Line], width: int) -> list[Line]:
    lines: list[Line] = []
    for piece in pieces:
        if lines and lines[-1].width + 2 + piece.width <= width:
            lines[-1] += line("  ") + piece
        else:
            lines.append(piece)
    return lines


def _stage(run: StageRun, now: float, detail: int) -> Line:
    mark, ink = STAGE_MARKS[run.state]
    name: Ink = "strong" if run.state == "running" else "faint" if run.state == "pending" else "plain"
    drawn = line((f"{mark} ", ink), (run.name, name))
    if run.attempt > 1:
        drawn += line((f" ×{run.attempt}", "wait"))
    if run.state in STAGE_WORDS:
        drawn += line((f" {STAGE_WORDS[run.state]}", ink))
    if run.entered_at is None:
        return drawn + line((f" ~{span(run.expected_seconds)}" if run.expected_seconds and detail > 1 else "", "faint"))
    if run.state != "running":
        return drawn + line((f" {span((run.ended_at or now) - run.entered_at)}" if detail else "", "dim"))
    usual = f" of ~{clock(run.expected_seconds)}" if run.expected_seconds and detail else ""
    return drawn + line(f" {clock(now - run.entered_at)}", (usual, "dim"))


def ladder(release: Release, now: float, width: int) -> Line:
    """Every rung with its weight, and between this one and the next how much of the hold time is over."""
    weights = [*(step.weight for step in release.steps), 100]
    labels = [_rung(release, i, weight) for i, weight in enumerate(weights)]
    spare = width - sum(label.width for label in labels) - 2 * (len(labels) - 1)
    gap = max(2, min(18, spare // max(1, len(labels) - 1)))
    drawn = labels[0]
    for i, label in enumerate(labels[1:], start=1):
        drawn += line(" ") + _way(release, i - 1, gap, now) + line(" ") + label
    return drawn.cut(width)


def _rung(release: Release, index: int, weight: int) -> Line:
    if release.returning is not None or release.outcome not in (None, "promoted", "fast_promoted"):
        return line((f"{weight} %", "faint"))
    if (
        index < release.step
        or (release.is_fast and index < len(release.steps))
        or (release.went_live and index < release.step)
    ):
        return line((f"{weight} % ", "plain"), ("✔", "good"))
    if index == release.step:
        return line((f"{weight} % ", "strong"), ("▶" if release.shifted_at else "…", "canary"))
    return line((f"{weight} % ○", "faint"))


def _way(release: Release, index: int, gap: int, now: float) -> Line:
    if index < release.step:
        return line(("━" * gap, "canary"))
    if index > release.step or release.returning is not None or release.hold_seconds <= 0:
        return line(("─" * gap, "rule"))
    done = min(gap, int(gap * release.held_seconds(now) / release.hold_seconds))
    return line(("━" * done, "canary"), ("─" * (gap - done), "rule"))


def situation(release: Release, now: float, width: int) -> Line:
    """What happens just now: held and for how long, paused by whom, on the way back."""
    if release.returning is not None:
        word = OUTCOMES[release.returning.outcome][1]
        return line(("◀ coming back", "harm"), f" ({word}) ", (release.returning.reason, "dim"))
    end = seconds_left(release, now)
    right = line(("expected end ", "dim"), time_of_day(now + end, has_seconds=False)) if end is not None else EMPTY
    if release.paused is not None:
        return _paused(release, release.paused, now)
    if release.step < 0:
        return sides(
            line((f"{len(release.commits)} commit{'' if len(release.commits) == 1 else 's'} go with it", "dim")),
            right,
            width,
        )
    if release.shifted_at is None:
        return sides(line((f"moving to {release.weight} % …", "canary")), right, width)
    word = "baking" if release.step >= len(release.steps) else "holding"
    return sides(line(f"{word} ") + _held(release, now), right, width)


PAUSES: dict[PauseReason, tuple[str, Ink]] = {
    "operator": ("", "wait"),
    "undecided": (", undecided", "wait"),
    "failed": (", for it failed", "harm"),
    "error": (", for a tool broke", "broken"),
}


def _paused(release: Release, pause: Pause, now: float) -> Line:
    why, ink = PAUSES[pause.reason]
    drawn = line((f"‖ paused by {pause.by.split('@')[0]}{why}", ink), (f" · {ago(now - pause.since)}", "dim"))
    return drawn + line((" · ", "dim"), _held(release, now)) if release.shifted_at is not None else drawn


def _held(release: Release, now: float) -> Line:
    if release.hold_seconds <= 0:
        return EMPTY
    over = "" if hold_left(release, now) else " ✔"
    return line(
        clock(min(release.held_seconds(now), release.hold_seconds)), (f" of {clock(release.hold_seconds)}{over}", "dim")
    )


def history(glance: Glance, width: int, height: int) -> list[Line]:
    """How the last releases ended, newest first."""
    ended = glance.state.ended[: max(1, height)]
    if not ended:
        return [line(("no release has run yet", "dim"))]
    return [_ended(release, glance, width) for release in ended]


def _ended(release: Release, glance: Glance, width: int) -> Line:
    mark, _, ink = OUTCOMES[release.outcome or "cancelled"]
    live = glance.state.live
    is_live = live is not None and live.release == release.number
    left = (
        line((f"{mark} ", ink)) + cell(str(release.number), 4, "strong") + line((short(release.commit), "accent"), " ")
    )
    left += line((outcome_words(release), ink), (" live" if is_live else "", "good"), " ")
    right = line((f" {release.started_by.split('@')[0][:8]}", "dim")) + cell(
        age(glance.now - (release.ended_at or glance.now)), 4, "dim", is_right=True
    )
    room = width - left.width - right.width
    subject = cell(release.subject, room, "dim") if room >= 8 else EMPTY.fit(max(0, room))
    return (left + subject + right).cut(width)


class StageStrip(Pane):
    def __init__(self, palette: Palette) -> None:
        super().__init__(palette, "release")
        self._glance: Glance | None = None

    def show(self, glance: Glance) -> None:
        self._glance = glance
        self.look()

    def heading(self) -> tuple[Line, Line]:
        return heading(self._glance) if self._glance else (line("Release"), EMPTY)

    def draw(self, width: int, height: int) -> list[Line]:
        return strip(self._glance, width, height) if self._glance else []
