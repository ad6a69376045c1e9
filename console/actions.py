"""The one table of what an operator can do. Keys, key line, help, command palette and command line are drawn from it, and
so are the reasons why an action is not possible now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pithead.console.questions import Question, ask_abort, ask_lock, ask_promote_fully, ask_roll_back, ask_unlock
from pithead.delivery import verbs
from pithead.delivery.state import ServiceState
from pithead.delivery.verbs import Verb
from pithead.widgets.glance import Glance


@dataclass(frozen=True, slots=True)
class Action:
    """`keys` are Textual's names; `label` is what the screen calls the first of them. `verb` is what it asks of the
    runner, None for what only looks. `cli` is its twin for scripts. `ask` makes the question that comes first.
    `is_now` chooses between two actions of one key."""

    id: str
    keys: tuple[str, ...]
    label: str
    word: str
    help: str
    verb: Verb | None = None
    cli: str = ""
    is_dangerous: bool = False
    is_pinned: bool = False
    in_key_line: bool = True
    ask: Callable[[Glance], Question] | None = None
    is_now: Callable[[ServiceState], bool] | None = None


def _is_paused(state: ServiceState) -> bool:
    return state.in_flight is not None and state.in_flight.paused is not None


def _is_locked(state: ServiceState) -> bool:
    return state.lock is not None


ACTIONS: tuple[Action, ...] = (
    Action(
        "start", ("s",), "s", "start",
        "Start a release of everything up to the chosen commit; queued while another one is in flight.",
        verb="start", cli="start",
    ),
    Action(
        "promote", ("p",), "p", "promote",
        "Take the release one step on: to the next weight, to the rollout, or to the end of its bake time.",
        verb="promote", cli="promote",
    ),
    Action(
        "promote-fully", ("P",), "P", "fully",
        "Skip what is left of the canary and give the release all of the traffic.",
        verb="promote_full", cli="promote --full", is_dangerous=True, ask=ask_promote_fully,
    ),
    Action(
        "resume", ("space",), "space", "resume",
        "Let a paused release go on from where it stands.",
        verb="resume", cli="resume", is_now=_is_paused,
    ),
    Action(
        "pause", ("space",), "space", "pause",
        "Hold the release where it is: its traffic stays, its clock stops.",
        verb="pause", cli="pause", is_now=lambda state: not _is_paused(state),
    ),
    Action(
        "abort", ("a",), "a", "abort",
        "End the release in flight and bring its traffic back to the live artifact. Nothing blocks it.",
        verb="abort", cli="abort", is_dangerous=True, ask=ask_abort,
    ),
    Action(
        "roll-back", ("r",), "r", "roll back",
        "Make an earlier release live again, at once; while a release is in flight it means abort.",
        verb="rollback", cli="rollback", is_dangerous=True, ask=ask_roll_back,
    ),
    Action(
        "retry", ("t",), "t", "retry",
        "Try again what failed: a new attempt with a fresh analysis.",
        verb="retry", cli="retry",
    ),
    Action(
        "unlock", ("l",), "l", "unlock",
        "Let releases start and be promoted again.",
        verb="unlock", cli="unlock", is_dangerous=True, ask=ask_unlock, is_now=_is_locked,
    ),
    Action(
        "lock", ("l",), "l", "lock",
        "Let nobody start or promote until it is unlocked; asks for the reason.",
        verb="lock", cli="lock", ask=ask_lock, is_now=lambda state: not _is_locked(state),
    ),
    Action("filter", ("slash",), "/", "filter", "Show only the lines of this pane that hold a text; escape shows all."),
    Action("open", ("enter",), "enter", "open", "Open the chosen commit or event: all that is known of it."),
    Action("palette", ("colon", "ctrl+p"), ":", "palette", "Find an action by its name.", in_key_line=False),
    Action("next-pane", ("tab",), "tab", "pane", "Give the keys to the next pane: commits, log, events."),
    Action("previous-pane", ("shift+tab",), "shift+tab", "pane back", "The pane before.", in_key_line=False),
    Action("down", ("j", "down"), "j ↓", "down", "One row down.", in_key_line=False),
    Action("up", ("k", "up"), "k ↑", "up", "One row up. In the log it stops following.", in_key_line=False),
    Action("page-down", ("pagedown", "ctrl+f"), "PgDn", "page down", "One page down.", in_key_line=False),
    Action("page-up", ("pageup", "ctrl+b"), "PgUp", "page up", "One page up.", in_key_line=False),
    Action("first", ("g", "home"), "g", "first", "To the first row.", in_key_line=False),
    Action("last", ("G", "end"), "G End", "last", "To the last row. In the log it follows again.", in_key_line=False),
    Action("next-match", ("n",), "n", "next match", "In the log: to the next line that matches, among all.", in_key_line=False),
    Action("previous-match", ("N",), "N", "match before", "In the log: to the match before.", in_key_line=False),
    Action("clear", ("escape",), "esc", "clear", "Drop the filter.", in_key_line=False),
    Action("redraw", ("ctrl+l",), "ctrl+l", "redraw", "Draw the screen again.", in_key_line=False),
    Action("help", ("question_mark",), "?", "help", "This list.", is_pinned=True),
    Action("leave", ("q", "ctrl+c", "ctrl+q"), "q", "leave", "Leave the console. A release in flight goes on.", is_pinned=True),
)  # fmt: skip

BY_ID = {action.id: action for action in ACTIONS}


def for_key(key: str, state: ServiceState) -> Action | None:
    """The action of that key as things stand."""
    return next(
        (a for a in ACTIONS if key in a.keys and (a.is_now is None or a.is_now(state))),
        None,
    )


def offered(state: ServiceState) -> list[Action]:
    """One action per key, as things stand."""
    return [action for action in ACTIONS if action.is_now is None or action.is_now(state)]


def meant_release(action: Action, glance: Glance) -> int | None:
    """The release that the action is about, as the screen shows it."""
    state = glance.state
    if action.verb in ("start", "rollback", "lock", "unlock", None):
        return None
    release = glance.release
    if release is not None:
        return release.number
    return state.ended[0].number if action.verb == "retry" and state.ended else None


def why_not(action: Action, glance: Glance, commit: str | None, held: str | None = None) -> str | None:
    """None when the action is possible now, else why not. `commit` is the chosen one, `held` why that may not go out."""
    if action.verb is None:
        return None
    if glance.is_read_only:
        return "this console is read-only."
    if not glance.is_ready:
        return "the journal is still being read."
    reason = verbs.why_not(glance.state, action.verb, meant_release(action, glance), glance.state.seq)
    if reason is not None or action.verb != "start":
        return reason
    release = glance.release
    if commit is None:
        return "no commit is chosen."
    if release is not None and commit in (release.commit, *release.commits):
        return f"{commit[:7]} goes with release {release.number} already."
    return held
