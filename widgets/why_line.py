"""Why it waits and who can end the wait; and the last answer. An error stays, with its mend, until it is superseded."""

from __future__ import annotations

from pithead.delivery.state import Release, ServiceState
from pithead.widgets.amounts import age, ago, clock, time_of_day
from pithead.widgets.forecast import hold_left
from pithead.widgets.glance import Glance
from pithead.widgets.line import EMPTY, Line, line, wrap_line
from pithead.widgets.palette import Palette
from pithead.widgets.pane import Pane
from pithead.widgets.words import OUTCOMES, outcome_words, short

SLOW_ANSWER_SECONDS = 3.0


def why(glance: Glance) -> Line:
    """One sentence: what is waited for, and which key, or who, can end the wait."""
    state = glance.state
    if glance.trouble:
        return line(
            ("journal: ", "harm"), (glance.trouble, "harm"), (" Tried again every 2 s; what you see is old.", "dim")
        )
    if glance.reading is not None:
        return line(("reading the journal … ", "accent"), f"{glance.reading * 100:.0f} %")
    for lost in state.lost.values():
        since = f" (since {ago(glance.now - lost.since)})"
        return line(
            (f"! the {lost.backend} cannot be reached: ", "broken"), f"{lost.message} {lost.mend}", (since, "dim")
        )
    if (late := _late(glance)) is not None:
        return late
    if state.in_flight is not None:
        return _in_flight(state.in_flight, state, glance.now)
    if state.queued is not None:
        return line(("waits for the runner", "wait"), f" to start release {state.queued.number}")
    return _idle(glance)


def _late(glance: Glance) -> Line | None:
    """A command that nobody has answered yet."""
    for command in glance.state.unanswered:
        waited = glance.now - command.at
        if waited >= SLOW_ANSWER_SECONDS:
            verb = command.kind.removesuffix("_requested").replace("_", " ")
            who = "the runner is alive" if glance.runner == "alive" else "a runner is being started"
            return line(
                (f"{verb} by {command.actor.split('@')[0]} is not answered yet", "wait"),
                (f" ({clock(waited)}; {who})", "dim"),
            )
    return None


def _in_flight(release: Release, state: ServiceState, now: float) -> Line:
    if release.returning is not None:
        back = release.returning
        return line(
            (f"brings traffic back ({OUTCOMES[back.outcome][1]}): ", "harm"), back.reason or f"asked by {back.by}"
        )
    if release.paused is not None:
        return _paused(release)
    lock = f" · locked by {state.lock.by}: {state.lock.reason}" if state.lock else ""
    tail = line((lock, "wait"))
    match release.phase:
        case "canary" | "rollout":
            return _on_the_ladder(release, now) + tail
        case _:
            stage = release.running_stage
            if stage is None:
                return line(("waits for the runner to enter the next stage", "dim")) + tail
            usual = f" (usually {clock(stage.expected_seconds)})" if stage.expected_seconds else ""
            return (
                line(
                    ("waits for ", "dim"),
                    stage.name,
                    (usual, "dim"),
                    (" · ", "dim"),
                    ("a", "key"),
                    " aborts at any time",
                )
                + tail
            )


def _paused(release: Release) -> Line:
    pause = release.paused
    if pause is None:
        return EMPTY
    match pause.reason:
        case "operator":
            words = line(
                ("waits for somebody: ", "wait"), f"{pause.by} paused it{f' ({pause.words})' if pause.words else ''}"
            )
            return words + line((" · ", "dim"), ("space", "key"), " resumes, ", ("a", "key"), " aborts")
        case "undecided":
            words = line(("waits for a decision: ", "wait"), pause.words)
            return words + line((" · ", "dim"), ("p", "key"), " accepts, ", ("a", "key"), " aborts")
        case "failed":
            return line(
                ("✘ it said no: ", "harm"),
                pause.words,
                (" · ", "dim"),
                ("t", "key"),
                " retries, ",
                ("a", "key"),
                " aborts",
            )
        case "error":
            return line(
                ("! a tool broke: ", "broken"),
                pause.words,
                (" · ", "dim"),
                ("t", "key"),
                " retries, ",
                ("a", "key"),
                " aborts",
            )


def _on_the_ladder(release: Release, now: float) -> Line:
    if release.step < 0 or release.shifted_at is None:
        weight = release.weight if release.step >= 0 else (release.steps[0].weight if release.steps else 100)
        return line(("waits for the target", "dim"), f" to take {weight} % of the traffic")
    left = hold_left(release, now)
    is_rollout = release.step >= len(release.steps)
    if is_rollout:
        return line(
            ("bakes", "dim"),
            f" for {clock(left)} more",
            (" · ", "dim"),
            ("p", "key"),
            " ends it now, ",
            ("a", "key"),
            " takes it back",
        )
    bad = [v for v in release.verdicts.values() if v.word == "fail"]
    if bad:
        return line((f"✘ {bad[0].metric}: fail, ", "harm"), bad[0].sentence)
    open_ones = [v for v in release.verdicts.values() if v.word in ("inconclusive", "no_data")]
    promote = line((" · ", "dim"), ("p", "key"), " promotes now, ", ("a", "key"), " aborts")
    if left > 0:
        also = f", and for {open_ones[0].metric}: {open_ones[0].sentence}" if open_ones else ""
        return line(("holds", "dim"), f" for {clock(left)} more{also}") + promote
    if open_ones:
        return line((f"{open_ones[0].metric}: undecided, ", "wait"), open_ones[0].sentence) + promote
    return line(("goes on by itself", "good"), ": every verdict passes")


def _idle(glance: Glance) -> Line:
    state = glance.state
    if state.lock is not None:
        lock = state.lock
        words = line((f"locked by {lock.by} {ago(glance.now - lock.since)}: ", "wait"), lock.reason)
        return words + line((" · ", "dim"), ("l", "key"), " unlocks")
    last = state.ended[0] if state.ended else None
    if last is not None and last.outcome not in ("promoted", "fast_promoted", "cancelled", "superseded"):
        old = age(glance.now - (last.ended_at or glance.now))
        if old == "now" or old.endswith("m"):
            return line(
                (f"release {last.number} {outcome_words(last)}: ", OUTCOMES[last.outcome or "failed"][2]), last.reason
            )
    if state.pending is None:
        return line(("the source has not been read yet", "dim"))
    if not state.pending.commits:
        return line((f"nothing waits: {short(state.pending.head)} is live", "dim"))
    return line(("nothing in flight · ", "dim"), ("s", "key"), " releases up to the chosen commit")


class WhyLine(Pane):
    """The first row says why it waits; the second the last answer, refusal or error, and the demo's hint below."""

    def __init__(self, palette: Palette) -> None:
        super().__init__(palette, "why")
        self._glance: Glance | None = None
        self._answer = EMPTY
        self._answer_at = 0.0

    def show(self, glance: Glance) -> None:
        self._glance = glance
        self.look()

    def say(self, words: Line, at: float) -> None:
        """Shown until something else is said."""
        self._answer, self._answer_at = words, at
        self.look()

    @property
    def said(self) -> str:
        return self._answer.text

    def draw(self, width: int, height: int) -> list[Line]:
        if self._glance is None:
            return []
        room = width - 2
        rows = max(1, height - 1) if self._answer or self._glance.note else height
        waits = [line(" ") + item for item in wrap_line(why(self._glance), room, rows)]
        return [*waits, *self._answers(room, height - len(waits))]

    def _answers(self, room: int, rows: int) -> list[Line]:
        note = self._glance.note if self._glance else ""
        said = line((note, "wait"))
        if self._answer:
            said = line((time_of_day(self._answer_at) + " ", "faint")) + self._answer
        return [line(" ") + item for item in wrap_line(said, room, rows)] if rows > 0 and said else []
