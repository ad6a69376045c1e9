"""The journal in words: one sentence per kind of event, and the marks and inks that go with states and outcomes.

The screen, the command line and the notifications all say it in these words. What a sentence quotes from outside is
made safe to show here: one line, without anything that a terminal would obey.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pithead.delivery import events as e
from pithead.delivery.durations import format_duration
from pithead.delivery.events import Event, Outcome, Payload, VerdictWord
from pithead.delivery.plain_text import plain_line
from pithead.delivery.state import Health, Release, StageState

if TYPE_CHECKING:
    from pithead.widgets.line import Ink  # the command line uses these words, and loads nothing that draws

LONGEST = 2_000
"""Characters of a sentence: a reason of 10 MB is cut."""

STAGE_MARKS: dict[StageState, tuple[str, Ink]] = {
    "pending": ("○", "faint"),
    "running": ("▶", "accent"),
    "passed": ("✔", "good"),
    "failed": ("✘", "harm"),
    "errored": ("!", "broken"),
    "skipped": ("»", "dim"),
    "aborted": ("■", "wait"),
}
OUTCOMES: dict[Outcome, tuple[str, str, Ink]] = {
    "promoted": ("✔", "promoted", "good"),
    "fast_promoted": ("✔", "promoted fully by hand", "good"),
    "aborted": ("■", "aborted", "wait"),
    "rolled_back": ("◀", "rolled back", "harm"),
    "superseded": ("»", "superseded", "dim"),
    "failed": ("✘", "failed", "harm"),
    "errored": ("!", "errored", "broken"),
    "cancelled": ("■", "cancelled", "dim"),
}
VERDICTS: dict[VerdictWord, tuple[str, str, Ink]] = {
    "pass": ("✔", "pass", "good"),
    "fail": ("✘", "fail", "harm"),
    "inconclusive": ("…", "undecided", "wait"),
    "no_data": ("?", "no data", "wait"),
}
HEALTHS: dict[Health, tuple[str, str, Ink]] = {
    "healthy": ("✔", "healthy", "good"),
    "progressing": ("…", "progressing", "wait"),
    "degraded": ("✘", "degraded", "harm"),
    "unknown": ("?", "health unknown", "wait"),
}


def short(sha: str | None) -> str:
    return sha[:7] if sha else "nothing"


def outcome_words(release: Release) -> str:
    """How the release ended, in words: `promoted`, `rolled back by release 14`."""
    if release.outcome is None:
        return release.phase
    words = OUTCOMES[release.outcome][1]
    return f"{words} by release {release.rolled_back_by}" if release.rolled_back_by else words


def style(event: Event) -> Ink:
    """How loud the event is: amber for what waits on somebody, red for harm."""
    match event.payload:
        case e.StageEnded(state="failed") | e.VerdictReached(verdict="fail"):
            return "harm"
        case e.Paused(reason="error") | e.StageEnded(state="errored") | e.BackendLost() | e.Unknown():
            return "broken"
        case e.Refused() | e.Paused() | e.Locked() | e.VerdictReached(verdict="no_data" | "inconclusive"):
            return "wait"
        case e.StageEnded(state="passed") | e.WentLive() | e.VerdictReached(verdict="pass") | e.BackendBack():
            return "good"
        case e.ReturnBegan(outcome=outcome) | e.ReleaseEnded(outcome=outcome):
            return OUTCOMES[outcome][2]
        case e.ReleaseRolledBack():
            return "harm"
        case e.PendingObserved() | e.TargetObserved() | e.RunnerStarted() | e.RunnerStopped() | e.ArtifactBuilt():
            return "dim"
        case payload if isinstance(payload, e.WISHES):
            return "accent"
    return "plain"


def words(event: Event) -> str:
    """The event in one sentence, without its time and its actor."""
    release = f"release {event.release}" if event.release is not None else "the release"
    payload = event.payload
    if isinstance(payload, e.WISHES):
        return plain_line(_wish(payload, release), LONGEST)
    return plain_line(_of_service(payload) or _of_stage(payload, release) or _of_release(payload, release), LONGEST)


def _wish(payload: Payload, release: str) -> str:
    match payload:
        case e.StartRequested(commit):
            return f"asks to start a release up to {short(commit) if commit else 'the newest that may go out'}"
        case e.PromoteRequested(full=full):
            return f"asks to promote {release}{' fully' if full else ''}"
        case e.PauseRequested():
            return f"asks to pause {release}"
        case e.ResumeRequested():
            return f"asks to resume {release}"
        case e.AbortRequested(reason):
            return f"asks to abort {release}{_because(reason)}"
        case e.RollBackRequested(to, reason):
            where = f"to release {to}" if to is not None else "to the release before"
            return f"asks to roll back {where}{_because(reason)}"
        case e.RetryRequested():
            return f"asks to retry {release}"
        case e.LockRequested(reason):
            return f"asks to lock{_because(reason)}"
        case e.UnlockRequested(reason):
            return f"asks to unlock{_because(reason)}"
    return ""


def _of_service(payload: Payload) -> str:
    match payload:
        case e.Refused(verb, reason):
            return f"refused to {verb.replace('_', ' ')}: {reason}"
        case e.RunnerStarted(holder, epoch):
            return f"runner {holder} took the lease (epoch {epoch})"
        case e.RunnerStopped(reason):
            return f"runner stopped{_because(reason)}"
        case e.PendingObserved() as pending:
            return _pending(pending)
        case e.TargetObserved() as seen:
            return _target(seen)
        case e.BackendLost(backend, message, mend):
            return f"the {backend} cannot be reached: {message} {mend}".strip()
        case e.BackendBack(backend):
            return f"the {backend} can be reached again"
        case e.Locked(reason):
            return f"locked{_because(reason)}"
        case e.Unlocked(reason):
            return f"unlocked{_because(reason)}"
        case e.Unknown(kind):
            return f"{kind.replace('_', ' ')} (this version does not know what that is)"
    return ""


def _pending(pending: e.PendingObserved) -> str:
    if not pending.total:
        return f"no commit awaits release: {short(pending.head)} is live"
    commits = "1 commit awaits" if pending.total == 1 else f"{pending.total:,} commits await"
    return f"{commits} release, up to {short(pending.head)}{f' ({pending.note})' if pending.note else ''}"


def _target(seen: e.TargetObserved) -> str:
    def ready(arm: str) -> str:
        members = [i for i in seen.instances if i.arm == arm]
        return f"{sum(i.state == 'ready' for i in members)}/{len(members)}"

    canary = f", canary {ready('canary')} at {seen.weight} %" if seen.canary else ""
    note = f" ({seen.note})" if seen.note else ""
    return f"instances ready: live {ready('baseline')}{canary}{note}"


def _of_stage(payload: Payload, release: str) -> str:
    match payload:
        case e.StageEntered(stage, attempt, _, reason):
            again = f", attempt {attempt}" if attempt > 1 else ""
            return f"{release} entered {stage}{again}{_because(reason)}"
        case e.StageEnded(stage, _, state, detail):
            said = {"failed": "failed: it said no", "errored": "errored: a tool broke"}.get(state, state)
            return f"{stage} {said}{f' ({detail})' if detail else ''}"
        case e.ArtifactBuilt(artifact):
            return f"built artifact {artifact.digest[-12:]} of {short(artifact.commit)}"
        case e.StepEntered(_, weight, hold_seconds):
            hold = f", to be held for {format_duration(hold_seconds)}" if hold_seconds else ""
            return f"{release} moves to {weight} % of the traffic{hold}"
        case e.TrafficShifted(_, weight):
            return f"{weight} % of the traffic reaches {release}"
        case e.VerdictReached(metric, verdict, sentence):
            return f"{metric}: {VERDICTS[verdict][1]}, {sentence}"
    return ""


def _of_release(payload: Payload, release: str) -> str:
    match payload:
        case e.ReleaseQueued(kind, commit, subject):
            what = "a roll-back to" if kind == "rollback" else "release of"
            return f"queued {release}: {what} {short(commit)} {subject}"
        case e.ReleaseStarted(kind="rollback", to=to, commit=commit):
            return f"started {release}: back to {f'release {to}' if to else short(commit)} ({short(commit)})"
        case e.ReleaseStarted(commit=commit, commits=commits, note=note):
            many = f" with {len(commits)} commits" if len(commits) > 1 else ""
            return f"started {release} up to {short(commit)}{many}{f' ({note})' if note else ''}"
        case e.Promoted(from_weight, to_weight, full, note):
            how = "fully: " if full else ""
            return f"promoted {how}{from_weight} % → {to_weight} %{f' ({note})' if note else ''}"
        case e.Paused(reason, said):
            return f"paused {release}{'' if reason == 'operator' else f' ({reason})'}{_because(said)}"
        case e.Resumed(said):
            return f"resumed {release}{_because(said)}"
        case e.Retried(stage, attempt):
            return f"retries {stage}, attempt {attempt}"
        case e.ReturnBegan(outcome, reason):
            return f"brings {release} back ({OUTCOMES[outcome][1]}){_because(reason)}"
        case e.TrafficReturned(seconds):
            return f"no request reaches {release} any more, {format_duration(seconds)} after the return began"
        case e.WentLive(artifact):
            return f"{release} is live: {short(artifact.commit)}"
        case e.ReleaseEnded(outcome, reason):
            return f"{release} ended: {OUTCOMES[outcome][1]}{_because(reason)}"
        case e.ReleaseRolledBack(number, reason):
            return f"release {number} was rolled back: it is no longer offered to go back to{_because(reason)}"
    return ""


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
