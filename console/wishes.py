"""From an action to the command that the journal gets: the release and the place in the journal are those that were on
the screen when the key was pressed, never what became of them meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from pithead.console.actions import Action, meant_release
from pithead.console.dialogs import Confirmed
from pithead.delivery import events as e
from pithead.delivery.events import Event, Wish
from pithead.widgets.glance import Glance
from pithead.widgets.line import Line, line
from pithead.widgets.words import style, words


@dataclass(frozen=True, slots=True)
class Command:
    """`words` tells the operator what is being asked, until the answer is there."""

    wish: Wish
    release: int | None
    words: str


def plain_command(action: Action, shown: Glance, commit: str | None) -> Command:
    """The command of a verb that asks no question first."""
    number, seen = meant_release(action, shown), shown.state.seq
    match action.verb:
        case "start" if commit is not None:
            return Command(e.StartRequested(commit), None, f"starting a release up to {commit[:7]} …")
        case "promote":
            return Command(e.PromoteRequested(seen), number, f"promoting release {number} …")
        case "pause":
            return Command(e.PauseRequested(seen), number, f"pausing release {number} …")
        case "resume":
            return Command(e.ResumeRequested(seen), number, f"resuming release {number} …")
        case "retry":
            return Command(e.RetryRequested(seen), number, f"retrying release {number} …")
    raise ValueError(f"{action.id} asks a question first")


def confirmed_command(action: Action, confirmed: Confirmed) -> Command:
    """The command of a verb that was asked about: on what the question froze."""
    question = confirmed.question
    if question.is_abort:
        # Also for `r`: a roll-back that reaches the runner after the release ended would undo the live one.
        return Command(e.AbortRequested(), question.release, f"aborting release {question.release} …")
    match action.verb:
        case "promote_full":
            wish = e.PromoteRequested(question.seq, full=True)
            return Command(wish, question.release, f"promoting release {question.release} fully …")
        case "rollback":
            return Command(e.RollBackRequested(confirmed.to), None, f"rolling back to release {confirmed.to} …")
        case "lock":
            return Command(e.LockRequested(confirmed.reason), None, "locking …")
        case "unlock":
            return Command(e.UnlockRequested(), None, "unlocking …")
    raise ValueError(f"{action.id} asks no question")


def answer_line(event: Event) -> Line:
    """The runner's answer, as the screen says it."""
    if isinstance(event.payload, e.Refused):
        return line(("refused: ", "wait"), event.payload.reason)
    ink = style(event)
    return line((words(event), "good" if ink in ("plain", "dim", "wait") else ink))
