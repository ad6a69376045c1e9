"""What of the pending commits can be released: worked out once for each reading of the source, not for each painting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pithead.delivery.decisions import as_pending, newest_releasable, why_not_release
from pithead.delivery.events import PendingObserved
from pithead.delivery.ports import Commit, Pending
from pithead.delivery.reverts import held_back, included
from pithead.delivery.state import ServiceState
from pithead.widgets.pending_list import PendingView
from pithead.widgets.words import short


@dataclass(frozen=True, slots=True)
class Offer:
    """`places` holds the pending commits by sha; `held` says in a few words why some do not go out."""

    observed: PendingObserved | None = None
    pending: Pending = field(default_factory=lambda: Pending(None, "", (), 0))
    places: Mapping[str, Commit] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)
    newest: str | None = None
    in_flight: frozenset[str] = frozenset()
    release: int | None = None
    head: str | None = None

    @property
    def next_up(self) -> str | None:
        """What `s` releases when nobody chose: the newest that may go out and is not under way."""
        return self.newest if self.newest not in self.in_flight else None

    def after(self, state: ServiceState) -> Offer:
        """The offer of that state; what did not change is taken over."""
        release = state.in_flight or state.queued
        flying = frozenset((release.commit, *release.commits)) if release and release.kind == "forward" else frozenset()
        number, head = (release.number, release.commit) if release else (None, None)
        if state.pending is self.observed:
            if (flying, number) == (self.in_flight, self.release):
                return self
            return replace(self, in_flight=flying, release=number, head=head)
        pending = as_pending(state)
        newest = newest_releasable(pending)
        return Offer(
            observed=state.pending,
            pending=pending,
            places={commit.sha: commit for commit in pending.commits},
            held={sha: f"held: needs {short(revert)}" for sha, revert in held_back(pending).items()},
            newest=newest.sha if newest else None,
            in_flight=flying,
            release=number,
            head=head,
        )

    def why_not(self, sha: str | None) -> str | None:
        """Why a release up to that commit may not start; None when it may."""
        commit = self.places.get(sha or "")
        reason = why_not_release(self.pending, commit) if commit else None
        return f"{reason.rstrip('.')}." if reason else None

    def view(self, chosen: str | None, needle: str) -> PendingView:
        if self.observed is None:
            return PendingView()
        return PendingView(
            commits=self.pending.commits,
            total=self.pending.total,
            note=self.pending.note,
            in_flight=self.in_flight & self.places.keys(),
            release=self.release,
            in_flight_head=self.head,
            next_up=self.next_up,
            held=self.held,
            included=frozenset(c.sha for c in included(self.pending, chosen)) if chosen else frozenset(),
            chosen=chosen,
            needle=needle,
            is_known=True,
        )
