"""A service on paper: a state, the events that made it, and the pure decisions about it. No clock, no disk, no tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from backends_in_memory import artifact, commit, sha

from pithead.delivery import decisions, fold
from pithead.delivery import events as e
from pithead.delivery.blueprint import Blueprint, TestPlan
from pithead.delivery.canary.judge import Judged
from pithead.delivery.events import Event, NewEvent, Payload
from pithead.delivery.ports import Commit, MetricSpec
from pithead.delivery.state import Release, ServiceState

BLUEPRINT = Blueprint(
    tests=(TestPlan("unit", "make test"),),
    steps=(e.StepPlan(10, 60.0), e.StepPlan(50, 60.0)),
    bake_seconds=60.0,
    metrics=(MetricSpec("errors", "ratio"), MetricSpec("latency", "latency")),
)


class Service:
    def __init__(self, blueprint: Blueprint = BLUEPRINT, live: int | None = 1, commits: int = 6) -> None:
        self.blueprint = blueprint
        self.now = 1_000.0
        self.events: list[Event] = []
        self.state = ServiceState("shop")
        self.branch = [commit(n) for n in range(1, commits + 1)]
        if live is not None:
            made = artifact(live)
            started = e.ReleaseStarted("forward", made.commit, "", None, (made.commit,), (), (), 0.0)
            self.tell(started, e.ArtifactBuilt(made), e.WentLive(made), e.ReleaseEnded("promoted"), release=1)
        self.read_source()

    def record(self, news: Sequence[NewEvent]) -> list[Payload]:
        for new in news:
            event = Event(self.state.seq + 1, "shop", new.release, self.now, new.actor, new.cause, new.payload)
            self.events.append(event)
            self.state = fold.apply(self.state, event)
        return [new.payload for new in news]

    def tell(self, *payloads: Payload, release: int | None = None) -> list[Payload]:
        return self.record([NewEvent("runner", payload, release) for payload in payloads])

    def about_release(self, payloads: Sequence[Payload]) -> list[Payload]:
        return self.tell(*payloads, release=self.release.number)

    @property
    def release(self) -> Release:
        assert self.state.in_flight is not None
        return self.state.in_flight

    # ── what an operator does ────────────────────────────────────────────────────────────────────────────────────

    def wish(self, wish: e.Wish, by: str = "ann", release: int | None = None) -> None:
        self.record([NewEvent(by, wish, release)])

    def answer(self) -> list[Payload]:
        """To the oldest command that wants one."""
        return self.record(decisions.answer(self.state, self.state.unanswered[0], self.blueprint, self.now))

    def ask(self, wish: e.Wish, by: str = "ann", release: int | None = None) -> list[Payload]:
        self.wish(wish, by, release)
        return self.answer()

    def refusal(self, wish: e.Wish, release: int | None = None) -> str:
        """Why it is refused; fails when it is not, or when it does anything all the same."""
        self.wish(wish, release=release)
        before = self.state
        (payload,) = self.answer()
        assert isinstance(payload, e.Refused), payload
        assert replace(self.state, seq=0, unanswered=()) == replace(before, seq=0, unanswered=())
        return payload.reason

    # ── what the runner does ─────────────────────────────────────────────────────────────────────────────────────

    def read_source(self, base: str | None = None) -> None:
        base = base or decisions.live_commit(self.state)
        shas = [c.sha for c in self.branch]
        first = shas.index(base) + 1 if base in shas else 0
        found: tuple[Commit, ...] = tuple(reversed(self.branch[first:]))
        self.tell(e.PendingObserved(base, shas[-1], found, len(found)))

    def reflexes(self) -> None:
        """Enters what is to be entered, until nothing is."""
        while True:
            if self.state.in_flight is None:
                if not self.record(decisions.start_queued(self.state, self.blueprint)):
                    return
            elif not self.about_release(decisions.enter_next_stage(self.state)):
                return

    def pass_stage(self, number: int | None = None) -> None:
        stage = self.release.running_stage
        assert stage is not None
        done: list[Payload] = [e.StageEnded(stage.name, stage.attempt, "passed")]
        if stage.kind == "build":
            built = artifact(number or int(self.release.commit[:4], 16))
            done.insert(0, e.ArtifactBuilt(built))
        self.about_release(done)
        self.reflexes()

    def fail_stage(self, detail: str = "exit status 1.") -> None:
        stage = self.release.running_stage
        assert stage is not None
        self.about_release(decisions.fail_stage(self.state, stage, detail))

    def break_stage(self, detail: str = "no compiler.") -> None:
        stage = self.release.running_stage
        assert stage is not None
        self.about_release(decisions.error_stage(stage, self.blueprint, detail))

    def shift(self) -> None:
        self.about_release([e.TrafficShifted(self.release.step, self.release.weight)])

    def judge(self, word: e.VerdictWord, wait: float = 0.0) -> list[Payload]:
        self.now += wait
        judged = [Judged(spec.name, word, f"it is {word}.") for spec in self.blueprint.metrics]
        return self.record(decisions.judge_step(self.state, self.blueprint, judged, self.now))

    def returned(self) -> None:
        """The target brought the traffic back."""
        assert self.release.returning is not None
        end = e.ReleaseEnded(self.release.returning.outcome, self.release.returning.reason)
        self.about_release([e.TrafficReturned(0.1), end])
        self.reflexes()

    # ── there ────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, number: int) -> None:
        self.ask(e.StartRequested(sha(number)))
        self.reflexes()

    def to_canary(self, number: int = 2) -> None:
        """On the first step, with the traffic there."""
        self.start(number)
        self.pass_stage()
        self.pass_stage()
        self.shift()

    def promote_all(self, number: int) -> None:
        self.to_canary(number)
        while self.state.in_flight is not None:
            self.judge("pass", wait=61)
            if self.state.in_flight is not None:
                self.shift()
        self.read_source()
