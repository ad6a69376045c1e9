"""The fold and the state machine, under whatever may come."""

from __future__ import annotations

import pytest
from a_service import Service
from backends_in_memory import artifact, commit, sha
from happenings import new_events, placed
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pithead.delivery import decisions, fold
from pithead.delivery import events as e
from pithead.delivery.blueprint import Blueprint, TestPlan
from pithead.delivery.decisions import answer
from pithead.delivery.events import Event, NewEvent, StepPlan
from pithead.delivery.ports import MetricSpec
from pithead.delivery.state import ServiceState
from pithead.delivery.verbs import REASONS, why_not


@settings(max_examples=200, deadline=None)
@given(st.lists(new_events, max_size=40))
def test_no_order_of_events_makes_the_fold_or_a_view_of_it_raise(news: list[NewEvent]) -> None:
    state = ServiceState("shop")
    for event in placed(news):
        state = fold.apply(state, event)
        assert state.seq == event.seq
    _ = (state.health, state.desired, state.roll_back_targets)
    for number in (None, 1, 2, 99):
        for verb in REASONS:
            reason = why_not(state, verb, number, 10)
            assert reason is None or reason
    for release in (state.in_flight, state.queued, *state.ended):
        if release is not None:
            _ = (release.phase, release.hold_seconds, release.held_seconds(2e9), release.elapsed_seconds(2e9))


@settings(max_examples=100, deadline=None)
@given(st.lists(new_events, max_size=30), st.integers(0, 29))
def test_folding_in_two_halves_is_folding_at_once(news: list[NewEvent], cut: int) -> None:
    events = placed(news)
    whole = fold.fold(events, ServiceState("shop"))
    assert fold.fold(events[cut:], fold.fold(events[:cut], ServiceState("shop"))) == whole


@settings(max_examples=150, deadline=None)
@given(st.lists(new_events, max_size=30))
def test_whatever_the_journal_holds_each_command_gets_an_answer_that_removes_it(news: list[NewEvent]) -> None:
    """Also on a journal that no runner of this version could have written."""
    state = fold.fold(placed(news), ServiceState("shop"))
    blueprint = Blueprint(steps=(StepPlan(10, 1.0),))
    for command in state.unanswered:
        answers = answer(state, command, blueprint, 1010.0)
        assert answers
        assert all(new.cause == command.seq for new in answers)


def test_what_a_command_answers_leaves_the_list_of_the_unanswered() -> None:
    service = Service()
    service.wish(e.LockRequested("x"))
    service.wish(e.AbortRequested())
    assert [c.kind for c in service.state.unanswered] == ["lock_requested", "abort_requested"]
    service.answer()
    assert [c.kind for c in service.state.unanswered] == ["abort_requested"]
    service.answer()
    assert service.state.unanswered == ()


def test_an_ended_release_is_changed_by_nothing_but_its_roll_back() -> None:
    service = Service()
    service.start(2)
    service.fail_stage()
    service.returned()
    before = service.state.release(2)
    service.tell(
        e.StageEntered("build", 9), e.Paused("operator", "x"), e.ReleaseEnded("promoted"), e.StepEntered(1, 50, 1.0),
        e.ReturnBegan("aborted", "x"), e.ArtifactBuilt(artifact(3)), release=2,
    )  # fmt: skip
    assert service.state.release(2) == before


def test_expected_durations_are_the_median_of_the_last_passes() -> None:
    service = Service(live=1, commits=30)
    for n, seconds in enumerate((10, 1000, 20, 30, 25), start=2):
        service.start(n)
        service.now += seconds
        service.pass_stage()
        service.fail_stage()
        service.returned()
    assert fold.expected_seconds(service.state, "build") == 25
    assert fold.expected_seconds(service.state, "unit") is None, "failures tell nothing"


def test_only_the_newest_releases_are_kept() -> None:
    service = Service(commits=400)
    for n in range(2, fold.KEPT_RELEASES + 20):
        service.start(n)
        service.fail_stage()
        service.returned()
    assert len(service.state.ended) == fold.KEPT_RELEASES
    assert service.state.ended[0].number == fold.KEPT_RELEASES + 19


# ── the state machine, driven at random ──────────────────────────────────────────────────────────────────────────

seen_before = st.integers(0, 6)
BROUGHT_BACK = ("rolled_back", "aborted", "failed", "errored")


class AnyRelease(RuleBasedStateMachine):
    """Operators, stages, the target and the judge in any order; after each step the promises hold."""

    @initialize(
        on_fail=st.sampled_from(["rollback", "pause"]),
        on_error=st.sampled_from(["pause", "rollback"]),
        undecided=st.sampled_from(["pause", "fail", "continue"]),
        live=st.sampled_from([None, 1]),
        ahead=st.integers(0, 12),
    )
    def begin(self, on_fail: str, on_error: str, undecided: str, live: int | None, ahead: int) -> None:
        blueprint = Blueprint(
            tests=(TestPlan("unit", "x"),),
            steps=(StepPlan(10, 10.0), StepPlan(50, 10.0)),
            bake_seconds=10.0,
            on_fail=on_fail,  # type: ignore[arg-type]
            on_error=on_error,  # type: ignore[arg-type]
            undecided=undecided,  # type: ignore[arg-type]
            metrics=(MetricSpec("errors", "ratio"),),
        )
        self.service = Service(blueprint, live, commits=5)
        self.checked = 0
        self.running: set[int] = set()
        self.ended: dict[int, str] = {}
        self.began_to_return: set[int] = set()
        for _ in range(ahead):
            self.one_good_step()

    @property
    def state(self) -> ServiceState:
        return self.service.state

    def ask(self, wish: e.Wish, release: int | None = None) -> list[Event]:
        before = self.state
        self.service.wish(wish, release=release)
        asked = self.state.seq
        self.service.answer()
        answers = [event for event in self.service.events[asked:] if event.cause == asked]
        assert answers, "dropped"
        assert all(c.seq != asked for c in self.state.unanswered)
        refused = [a for a in answers if isinstance(a.payload, e.Refused)]
        if refused:
            assert len(answers) == 1
            assert refused[0].payload.reason  # type: ignore[union-attr]
            assert (self.state.in_flight, self.state.queued, self.state.lock, self.state.live) == (
                before.in_flight, before.queued, before.lock, before.live
            )  # fmt: skip
        self.service.reflexes()
        return answers

    # ── operators ──

    @precondition(lambda self: self.state.in_flight is None or self.state.queued is None)
    @rule(number=st.integers(1, 8), named=st.booleans())
    def start(self, number: int, named: bool) -> None:
        self.ask(e.StartRequested(sha(number) if named else ""))

    @rule(ago=seen_before, full=st.booleans())
    def promote(self, ago: int, full: bool) -> None:
        before = self.state.in_flight
        answers = self.ask(e.PromoteRequested(max(0, self.state.seq - ago), full))
        if not isinstance(answers[0].payload, e.Refused) and not full and before is not None:
            assert sum(isinstance(a.payload, e.StepEntered) for a in answers) <= 1
            after = self.state.in_flight
            if after is not None and after.number == before.number:
                assert after.step == before.step + 1
            else:
                assert before.step == len(before.steps)
                assert before.shifted_at is not None

    @rule()
    def pause(self) -> None:
        self.ask(e.PauseRequested())

    @rule(ago=seen_before)
    def resume(self, ago: int) -> None:
        self.ask(e.ResumeRequested(max(0, self.state.seq - ago)))

    @rule(ago=seen_before)
    def retry(self, ago: int) -> None:
        self.ask(e.RetryRequested(max(0, self.state.seq - ago)))

    @rule(queued=st.booleans())
    def abort(self, queued: bool) -> None:
        before = self.state
        number = before.queued.number if queued and before.queued else None
        answers = self.ask(e.AbortRequested(), number)
        first = answers[0].payload
        if isinstance(first, e.Refused):
            assert "lock" not in first.reason.lower()
            assert before.in_flight is None or before.in_flight.returning is not None

    @rule(to=st.none() | st.integers(1, 8))
    def roll_back(self, to: int | None) -> None:
        before = self.state
        first = self.ask(e.RollBackRequested(to))[0].payload
        if isinstance(first, e.Refused):
            assert not first.reason.startswith("locked")
            if before.in_flight is not None and before.in_flight.returning is None:
                is_on_its_way = before.in_flight.kind == "rollback"
                assert to is not None or is_on_its_way, "nothing may keep a roll-back of what is in flight"
        if isinstance(first, e.ReleaseStarted):
            assert first.kind == "rollback"
            assert first.to in [r.number for r in before.roll_back_targets]
            assert self.state.lock is not None

    @rule()
    def lock(self) -> None:
        self.ask(e.LockRequested("freeze"))

    @rule()
    def unlock(self) -> None:
        self.ask(e.UnlockRequested())

    # ── the world ──

    @rule(times=st.integers(1, 8))
    def all_goes_well(self, times: int) -> None:
        """For so many steps: without it, chance alone seldom gets as far as a canary."""
        for _ in range(times):
            self.one_good_step()

    def one_good_step(self) -> None:
        release = self.state.in_flight
        if release is None:
            self.service.read_source()
            self.ask(e.StartRequested(""))
        elif release.returning:
            self.service.returned()
        elif release.step < 0 and release.running_stage and not release.paused:
            self.service.pass_stage()
        elif release.step >= 0 and release.shifted_at is None:
            self.service.shift()
        else:
            self.look("pass", 11.0)

    @precondition(lambda self: self.state.in_flight and self.state.in_flight.running_stage)
    @rule(how=st.sampled_from(["pass", "pass", "pass", "same", "fail", "break"]))
    def end_stage(self, how: str) -> None:
        release = self.state.in_flight
        assert release is not None
        stage = release.running_stage
        if stage is None or stage.kind not in ("build", "test") or release.returning:
            return
        if how == "fail":
            self.service.fail_stage()
        elif how == "break":
            self.service.break_stage()
        else:
            live = int(self.state.live.artifact.commit[:4], 16) if self.state.live and how == "same" else None
            self.service.pass_stage(live)

    @precondition(lambda self: self.state.in_flight and self.state.in_flight.step >= 0)
    @rule(how=st.sampled_from(["shift", "shift", "shift", "check_failed", "error"]))
    def target(self, how: str) -> None:
        release = self.state.in_flight
        assert release is not None
        if release.returning:
            return
        if how == "shift" and release.shifted_at is None:
            self.service.shift()
        elif how == "check_failed":
            self.service.record(decisions.fail_canary(self.state, self.service.blueprint, "it will not run."))
        elif how == "error":
            self.service.record(decisions.error_canary(self.state, self.service.blueprint, "no proxy."))

    @rule(word=st.sampled_from(["pass", "pass", "fail", "inconclusive", "no_data"]), wait=st.sampled_from([0.0, 11.0]))
    def judge(self, word: e.VerdictWord, wait: float) -> None:
        self.look(word, wait)

    def look(self, word: e.VerdictWord, wait: float) -> None:
        before, is_compared = self.state.in_flight, decisions.has_comparison(self.state)
        may_go_on = word == "pass" or (word != "fail" and self.service.blueprint.undecided == "continue")
        done = self.service.judge(word, wait)
        if any(isinstance(payload, e.StepEntered | e.WentLive) for payload in done):
            assert before is not None
            assert before.shifted_at is not None
            assert may_go_on or not is_compared or (before.is_fast and word != "fail")
            assert self.state.lock is None or before.kind == "rollback"
            assert sum(isinstance(payload, e.StepEntered | e.WentLive) for payload in done) == 1
        self.service.reflexes()

    @precondition(lambda self: self.state.in_flight and self.state.in_flight.returning)
    @rule()
    def traffic_is_back(self) -> None:
        self.service.returned()

    @rule(is_new=st.booleans())
    def read_source(self, is_new: bool) -> None:
        if is_new and len(self.service.branch) < 12:
            self.service.branch.append(commit(len(self.service.branch) + 1))
        self.service.read_source()
        self.service.reflexes()

    @rule(seconds=st.sampled_from([1.0, 100.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        self.service.now += seconds

    # ── the promises ──

    @invariant()
    def promises(self) -> None:
        if not hasattr(self, "service"):
            return
        for event in self.service.events[self.checked :]:
            self.check(event)
        self.checked = len(self.service.events)
        state = self.state
        assert len(self.service.events) == state.seq == self.service.events[-1].seq
        assert state.unanswered == ()
        release = state.in_flight
        if release is not None:
            assert release.outcome is None
            assert release.number not in self.ended
            if release.number in self.began_to_return:
                assert state.desired.weight == 0
                assert state.desired.canary is None
                assert state.desired.stable == (state.live.artifact if state.live else None)
        bad = {r.number for r in state.ended if r.outcome == "rolled_back"}
        assert not bad & {r.number for r in state.roll_back_targets}
        assert all(r.went_live for r in state.roll_back_targets)
        if state.live is not None:
            assert state.live.artifact.digest not in {r.artifact.digest for r in state.roll_back_targets if r.artifact}

    def teardown(self) -> None:
        if hasattr(self, "service"):
            assert self.state == fold.fold(self.service.events, ServiceState("shop"))

    def check(self, event: Event) -> None:
        number = event.release
        match event.payload:
            case e.ReleaseStarted():
                assert not self.running, "two in flight"
                assert number is not None
                self.running.add(number)
            case e.ReleaseEnded(outcome):
                assert number is not None
                assert number not in self.ended, "ended twice"
                self.running.discard(number)
                self.ended[number] = outcome
                assert number not in self.began_to_return or outcome in BROUGHT_BACK
            case e.ReturnBegan():
                assert number is not None
                assert number not in self.began_to_return
                self.began_to_return.add(number)
            case e.StepEntered() | e.WentLive():
                assert number not in self.began_to_return, "forward after the return began"


TestAnyRelease = pytest.mark.timeout(120)(AnyRelease.TestCase)
TestAnyRelease.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
