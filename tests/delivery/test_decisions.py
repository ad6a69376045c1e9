"""What follows from what: each rule that peers get wrong, and each answer that an operator may get."""

from __future__ import annotations

from dataclasses import replace

import pytest
from a_service import BLUEPRINT, Service
from backends_in_memory import artifact, commit, sha

from pithead.delivery import decisions
from pithead.delivery import events as e
from pithead.delivery.events import Payload
from pithead.delivery.ports import Desired, Instance
from pithead.delivery.state import Release


def kinds(payloads: list[Payload]) -> list[str]:
    return [type(payload).__name__ for payload in payloads]


def ended(service: Service, number: int) -> Release:
    release = service.state.release(number)
    assert release is not None
    assert release.outcome is not None
    return release


# ── rules that peers get wrong ───────────────────────────────────────────────────────────────────────────────────


def test_the_outcome_of_a_release_and_the_health_of_the_service_are_two_things() -> None:
    service = Service()
    ready = tuple(Instance(f"i{n}", "baseline", artifact(1).digest, "ready") for n in range(2))
    service.tell(e.TargetObserved(artifact(1).digest, None, 0, ready, 2))
    service.to_canary()
    service.ask(e.AbortRequested())
    service.returned()
    assert ended(service, 2).outcome == "aborted"
    assert service.state.health == "healthy"


def test_promote_advances_exactly_one_step() -> None:
    service = Service()
    service.to_canary()
    for step, weight in ((1, 50), (2, 100)):
        payloads = service.ask(e.PromoteRequested(service.state.seq))
        assert kinds(payloads).count("StepEntered") == 1
        assert (service.release.step, service.release.weight) == (step, weight)
        service.shift()
    assert "ReleaseEnded" in kinds(service.ask(e.PromoteRequested(service.state.seq)))
    assert ended(service, 2).outcome == "promoted"


def test_a_promote_pressed_before_the_step_moved_is_stale_and_says_who_moved_it() -> None:
    service = Service()
    service.to_canary()
    seen = service.state.seq
    service.ask(e.PromoteRequested(seen), by="bob")
    reason = service.refusal(e.PromoteRequested(seen))
    assert "stale" in reason
    assert "bob promoted" in reason or "bob entered" in reason
    assert service.release.step == 1


def test_a_promote_pressed_before_the_canary_was_found_bad_does_not_accept_that_unseen() -> None:
    service = Service(replace(BLUEPRINT, on_fail="pause"))
    service.to_canary()
    seen = service.state.seq
    service.judge("fail")
    for wish in (e.PromoteRequested(seen), e.PromoteRequested(seen, full=True)):
        reason = service.refusal(wish)
        assert "stale" in reason
        assert "paused since" in reason
    assert "StepEntered" in kinds(service.ask(e.PromoteRequested(service.state.seq)))


def test_a_resume_meant_for_an_earlier_pause_does_not_end_a_later_one() -> None:
    service = Service()
    service.to_canary()
    service.ask(e.PauseRequested())
    seen = service.state.seq
    service.ask(e.ResumeRequested(seen), by="bob")
    service.ask(e.PauseRequested(), by="bob")
    assert "paused since that screen, by bob" in service.refusal(e.ResumeRequested(seen))


def test_a_retry_is_a_new_attempt_with_fresh_analysis() -> None:
    service = Service()
    service.to_canary()
    service.tell(e.VerdictReached("errors", "fail", "bad"), release=2)
    service.record(decisions.error_canary(service.state, service.blueprint, "no metrics."))
    payloads = service.ask(e.RetryRequested(service.state.seq))
    assert kinds(payloads) == ["Retried", "StageEntered", "StepEntered"]
    assert service.release.verdicts == {}
    assert service.release.running_stage is not None
    assert service.release.running_stage.attempt == 2
    assert service.release.step == 0
    assert service.release.shifted_at is None
    assert service.release.paused is None


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (e.PromoteRequested(99), "nothing is in flight"),
        (e.PromoteRequested(99, full=True), "nothing is in flight"),
        (e.PauseRequested(), "nothing is in flight"),
        (e.ResumeRequested(99), "nothing is in flight"),
        (e.AbortRequested(), "to undo a finished release, roll back"),
        (e.RollBackRequested(), "no earlier release can be gone back to"),
        (e.RetryRequested(99), "went live: there is nothing to try again"),
        (e.UnlockRequested(), "it is not locked"),
        (e.LockRequested("  "), "a lock needs a reason"),
        (e.StartRequested("abc"), "6 digits or more"),
        (e.StartRequested("f" * 40), "no pending commit begins"),
        (e.StartRequested(sha(1)), "no pending commit begins"),
        (e.StartRequested("000"), "6 digits or more"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_a_verb_that_cannot_apply_says_why_and_does_nothing(wish: e.Wish, words: str) -> None:
    assert words in Service().refusal(wish)


@pytest.mark.parametrize("kind", [e.AbortRequested, e.RollBackRequested])
def test_no_lock_stands_between_a_bad_release_and_the_way_back(kind: type) -> None:
    service = Service()
    service.to_canary()
    service.ask(e.LockRequested("freeze"))
    payloads = service.ask(kind())
    assert "ReturnBegan" in kinds(payloads)
    assert service.state.desired == Desired(artifact(1))


def test_a_roll_back_under_a_lock_goes_all_its_way_and_can_be_tried_again() -> None:
    service = Service()
    service.promote_all(2)
    service.ask(e.LockRequested("freeze"))
    service.ask(e.RollBackRequested())
    service.reflexes()
    service.break_stage()
    assert "Retried" in kinds(service.ask(e.RetryRequested(service.state.seq)))
    service.pass_stage(1)
    assert service.state.desired == Desired(artifact(1))
    service.shift()
    assert "WentLive" in kinds(service.judge("no_data"))


def test_a_roll_back_skips_every_canary_step_and_the_bake() -> None:
    service = Service()
    service.promote_all(2)
    (started, *_) = service.ask(e.RollBackRequested())
    assert isinstance(started, e.ReleaseStarted)
    assert (started.steps, started.bake_seconds) == ((), 0.0)
    assert [plan.kind for plan in started.stages] == ["build", "rollout"]


def test_a_roll_back_locks_so_that_nothing_ships_the_bad_commit_by_itself() -> None:
    service = Service()
    service.promote_all(2)
    service.ask(e.RollBackRequested(reason="slow"), by="bob")
    service.reflexes()
    service.pass_stage(1)
    service.shift()
    service.judge("no_data")
    service.read_source()
    assert service.state.lock is not None
    assert (service.state.lock.by, service.state.lock.reason) == ("bob", "release 2 was rolled back: slow")
    assert "locked by bob" in service.refusal(e.StartRequested(sha(2)))


def test_what_waits_in_the_queue_does_not_follow_a_release_that_was_rolled_back() -> None:
    """It has the bad commit in it, and would go out the moment somebody unlocks."""
    for bring_back in ("judge", "abort", "rollback"):
        service = Service()
        service.to_canary(2)
        service.ask(e.StartRequested(sha(4)))
        assert service.state.queued is not None
        if bring_back == "judge":
            service.judge("fail")
        else:
            service.ask(e.AbortRequested() if bring_back == "abort" else e.RollBackRequested())
        service.returned()
        assert ended(service, 3).outcome == "cancelled"
        assert "start again" in ended(service, 3).reason
        if service.state.lock is not None:
            service.ask(e.UnlockRequested())
        service.reflexes()
        assert service.state.in_flight is None


def test_a_release_that_was_rolled_back_is_never_offered_to_go_back_to() -> None:
    service = Service()
    service.promote_all(2)
    service.promote_all(3)
    service.ask(e.RollBackRequested())  # from 3 (commit 3) to 2
    service.reflexes()
    service.pass_stage(2)
    service.shift()
    service.judge("no_data")
    assert service.state.live is not None
    assert service.state.live.artifact == artifact(2)
    assert ended(service, 3).outcome == "rolled_back"
    assert ended(service, 3).rolled_back_by == 4
    assert [r.number for r in service.state.roll_back_targets] == [1]
    assert "was rolled back itself" in service.refusal(e.RollBackRequested(to=3))
    assert "is live now" in service.refusal(e.RollBackRequested(to=4))
    assert "there is no release 9" in service.refusal(e.RollBackRequested(to=9))


def test_commits_between_a_bad_one_and_its_revert_do_not_go_out_without_the_revert() -> None:
    service = Service()
    bad = service.branch[2]
    service.branch[4] = commit(5, f'Revert "{bad.subject}"', f"This reverts commit {bad.sha}.")
    service.read_source()
    for number in (3, 4):
        assert "does not go out without" in service.refusal(e.StartRequested(sha(number)))
    (started,) = service.ask(e.StartRequested(sha(5)))
    assert isinstance(started, e.ReleaseStarted)
    assert started.commits == tuple(sha(n) for n in (5, 4, 3, 2))


def test_a_commit_before_the_bad_one_may_go_out() -> None:
    service = Service()
    bad = service.branch[2]
    service.branch[4] = commit(5, f'Revert "{bad.subject}"', f"This reverts commit {bad.sha}.")
    service.read_source()
    assert kinds(service.ask(e.StartRequested(sha(2)))) == ["ReleaseStarted"]


def test_the_first_release_says_so_and_goes_straight_through_its_canary() -> None:
    service = Service(live=None)
    (started,) = service.ask(e.StartRequested(sha(3)))
    assert isinstance(started, e.ReleaseStarted)
    assert started.is_first
    assert "first release" in started.note
    service.reflexes()
    service.pass_stage()
    service.pass_stage()
    stages = {stage.name: (stage.state, stage.detail) for stage in service.release.stages}
    assert stages["canary"][0] == "skipped"
    assert "nothing is live to compare it with" in stages["canary"][1]
    assert service.state.desired == Desired(artifact(3))
    service.shift()
    assert "WentLive" in kinds(service.judge("no_data", wait=61))


def test_a_first_release_that_will_not_run_failed_and_locks_nothing() -> None:
    service = Service(live=None)
    service.start(3)
    service.pass_stage()
    service.pass_stage()
    service.record(decisions.fail_canary(service.state, service.blueprint, "it exits."))
    assert service.state.desired == Desired()
    service.returned()
    assert ended(service, 2 if service.state.release(2) else 1).outcome == "failed"
    assert service.state.lock is None


def test_a_failed_check_and_a_broken_tool_are_two_things() -> None:
    failed, broken = Service(), Service()
    for service in (failed, broken):
        service.start(2)
    failed.fail_stage()
    assert failed.release.returning is not None
    assert failed.release.returning.outcome == "failed"
    broken.break_stage()
    assert broken.release.returning is None
    assert broken.release.paused is not None
    assert broken.release.paused.reason == "error"
    assert broken.release.stages[0].state == "errored"


def test_unmeasured_is_never_a_pass() -> None:
    for word in ("no_data", "inconclusive"):
        service = Service()
        service.to_canary()
        payloads = service.judge(word, wait=61)
        assert kinds(payloads) == ["Paused"]
        assert service.release.step == 0


def test_inconclusive_pauses_and_promote_goes_one_step_once() -> None:
    service = Service()
    service.to_canary()
    service.judge("inconclusive", wait=61)
    seen = service.state.seq
    payloads = service.ask(e.PromoteRequested(seen))
    assert kinds(payloads) == ["Promoted", "Resumed", "StepEntered"]
    assert "stale" in service.refusal(e.PromoteRequested(seen))
    assert service.release.step == 1
    service.shift()
    assert kinds(service.judge("inconclusive", wait=1)) == []
    assert kinds(service.judge("inconclusive", wait=61)) == ["Paused"]


def test_an_abort_of_a_finished_release_is_a_no_op_that_offers_the_roll_back() -> None:
    service = Service()
    service.promote_all(2)
    assert "to undo it, roll back" in service.refusal(e.AbortRequested(), release=2)
    assert service.state.desired == Desired(artifact(2))


# ── start, queue ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_start_takes_along_all_that_is_pending_below_it() -> None:
    service = Service()
    (started,) = service.ask(e.StartRequested(sha(4)[:7]))
    assert isinstance(started, e.ReleaseStarted)
    assert started.base == sha(1)
    assert started.commits == (sha(4), sha(3), sha(2))
    assert not started.is_first


def test_an_abbreviation_that_fits_two_commits_is_refused() -> None:
    service = Service()
    service.branch.append(replace(commit(7), sha=sha(6)[:20] + "f" * 20, parents=(sha(6),)))
    service.read_source()
    assert "more than one pending commit" in service.refusal(e.StartRequested(sha(6)[:8]))


def test_the_same_commit_is_not_released_twice_at_once() -> None:
    service = Service()
    service.start(2)
    assert "in flight already" in service.refusal(e.StartRequested(sha(2)))
    assert kinds(service.ask(e.StartRequested(sha(3)))) == ["ReleaseQueued"]
    assert "queued already" in service.refusal(e.StartRequested(sha(3)))
    assert kinds(service.ask(e.StartRequested(sha(4)))) == ["ReleaseEnded", "ReleaseQueued"]
    assert ended(service, 3).outcome == "superseded"


def test_a_queued_release_can_be_cancelled_alone() -> None:
    service = Service()
    service.start(2)
    service.ask(e.StartRequested(sha(3)))
    payloads = service.ask(e.AbortRequested("not that one"), release=3)
    assert kinds(payloads) == ["ReleaseEnded"]
    assert ended(service, 3).outcome == "cancelled"
    assert service.state.in_flight is not None


def test_a_queue_waits_for_the_list_of_what_is_pending_after_the_release_before() -> None:
    service = Service()
    service.to_canary(2)
    service.ask(e.StartRequested(sha(4)))
    while service.state.in_flight is not None:
        service.judge("pass", wait=61)
        if service.state.in_flight is not None:
            service.shift()
    assert decisions.start_queued(service.state, service.blueprint) == ()
    service.read_source()
    service.reflexes()
    assert service.release.base == sha(2)
    assert service.release.commits == (sha(4), sha(3))


def test_a_lock_holds_the_queue_and_unlocking_lets_it_go() -> None:
    service = Service()
    service.start(2)
    service.ask(e.StartRequested(sha(4)))
    service.fail_stage()
    service.ask(e.LockRequested("freeze"))
    service.returned()
    assert service.state.in_flight is None
    service.ask(e.UnlockRequested())
    service.reflexes()
    assert service.release.number == 3


# ── stale and repeated commands ──────────────────────────────────────────────────────────────────────────────────


def test_commands_that_ship_expire_and_those_that_bring_back_do_not() -> None:
    service = Service()
    service.to_canary()
    for wish in (e.StartRequested(sha(3)), e.PromoteRequested(service.state.seq)):
        service.wish(wish)
        service.now += decisions.STALE_AFTER_SECONDS + 1
        (refused,) = service.answer()
        assert isinstance(refused, e.Refused)
        assert "no runner was there to answer for 5 min" in refused.reason
    service.wish(e.AbortRequested())
    service.now += 86_400
    assert "ReturnBegan" in kinds(service.answer())


def test_repeating_a_command_is_harmless() -> None:
    service = Service()
    service.to_canary()
    service.ask(e.PauseRequested())
    assert "paused already, by ann" in service.refusal(e.PauseRequested())
    service.ask(e.ResumeRequested(service.state.seq))
    assert "not paused" in service.refusal(e.ResumeRequested(service.state.seq))
    service.ask(e.LockRequested("x"))
    assert "locked already by ann: x" in service.refusal(e.LockRequested("y"))
    service.ask(e.AbortRequested())
    assert "being brought back already" in service.refusal(e.AbortRequested())
    assert "being brought back already" in service.refusal(e.RollBackRequested())
    assert "being brought back" in service.refusal(e.PauseRequested())
    assert "being brought back" in service.refusal(e.PromoteRequested(service.state.seq))


def test_a_command_of_a_later_version_is_answered() -> None:
    service = Service()
    service.wish(e.LockRequested("x"))
    odd = replace(service.state.unanswered[0], kind="levitate_requested", data="{}")
    (new,) = decisions.answer(service.state, odd, service.blueprint, service.now)
    assert isinstance(new.payload, e.Refused)
    assert new.cause == odd.seq


# ── pause, failure and error policies ────────────────────────────────────────────────────────────────────────────


def test_an_operator_may_hold_what_waits_for_evidence() -> None:
    """Else it would go on by itself the moment the evidence comes."""
    service = Service()
    service.to_canary()
    service.judge("inconclusive", wait=61)
    assert kinds(service.ask(e.PauseRequested())) == ["Paused"]
    assert service.judge("pass", wait=100) == []
    service.ask(e.ResumeRequested(service.state.seq))
    assert service.release.held_seconds(service.now) == pytest.approx(61)
    assert kinds(service.judge("pass")) == ["StepEntered"]


def test_evidence_that_arrives_lets_it_go_on_by_itself() -> None:
    service = Service()
    service.to_canary()
    service.judge("no_data", wait=61)
    assert kinds(service.judge("inconclusive", wait=5)) == []
    assert kinds(service.judge("pass", wait=5)) == ["Resumed", "StepEntered"]


@pytest.mark.parametrize(
    ("policy", "expected"), [("pause", "Paused"), ("continue", "StepEntered"), ("fail", "ReturnBegan")]
)
def test_a_step_without_a_decision_does_what_the_config_says(policy: str, expected: str) -> None:
    service = Service(replace(BLUEPRINT, undecided=policy))  # type: ignore[arg-type]
    service.to_canary()
    assert expected in kinds(service.judge("inconclusive", wait=61))


def test_a_failed_canary_goes_back_and_locks() -> None:
    service = Service()
    service.to_canary()
    assert kinds(service.judge("fail")) == ["StageEnded", "ReturnBegan", "Locked"]
    assert service.state.desired == Desired(artifact(1))
    service.returned()
    assert ended(service, 2).outcome == "rolled_back"


def test_a_failed_canary_waits_for_an_operator_where_the_config_says_so() -> None:
    service = Service(replace(BLUEPRINT, on_fail="pause"))
    service.to_canary()
    assert kinds(service.judge("fail")) == ["Paused"]
    assert service.judge("fail") == [], "it is told once"
    service.ask(e.PromoteRequested(service.state.seq))
    assert service.release.step == 1
    service.shift()
    assert kinds(service.judge("fail")) == ["Paused"], "accepted was the step before, not all that comes"


def test_a_pause_of_the_operators_does_not_keep_a_bad_canary_in_traffic() -> None:
    service = Service()
    service.to_canary()
    service.ask(e.PauseRequested())
    assert "ReturnBegan" in kinds(service.judge("fail"))


def test_harm_in_a_metric_that_is_not_critical_is_seen_and_stops_nothing() -> None:
    metrics = tuple(replace(spec, is_critical=False) for spec in BLUEPRINT.metrics)
    service = Service(replace(BLUEPRINT, metrics=metrics))
    service.to_canary()
    assert kinds(service.judge("fail", wait=61)) == ["StepEntered"]


def test_an_error_while_traffic_is_split_pauses_or_returns_as_the_config_says() -> None:
    for policy, expected in (("pause", "Paused"), ("rollback", "ReturnBegan")):
        service = Service(replace(BLUEPRINT, on_error=policy))  # type: ignore[arg-type]
        service.to_canary()
        assert kinds(service.record(decisions.error_canary(service.state, service.blueprint, "gone."))) == [expected]
        assert service.record(decisions.error_canary(service.state, service.blueprint, "gone.")) == []


def test_a_release_goes_live_only_when_the_target_confirmed_all_of_the_traffic() -> None:
    service = Service()
    service.to_canary()
    service.ask(e.PromoteRequested(service.state.seq, full=True))
    assert service.judge("pass", wait=1000) == []
    assert "on its way to 100 %" in service.refusal(e.PromoteRequested(service.state.seq))
    service.shift()
    assert "WentLive" in kinds(service.ask(e.PromoteRequested(service.state.seq)))
    assert ended(service, 2).outcome == "fast_promoted"


def test_the_same_artifact_as_the_live_one_has_nothing_to_compare() -> None:
    service = Service()
    service.start(2)
    service.pass_stage(1)  # the build gives artifact 1 again
    service.pass_stage()
    assert service.release.stages[2].state == "skipped"
    assert "the artifact is the live one" in service.release.stages[2].detail
    assert service.state.desired == Desired(artifact(1))


# ── retry ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_retry_of_what_runs_or_was_paused_by_an_operator_is_refused() -> None:
    service = Service()
    service.start(2)
    assert "has not failed" in service.refusal(e.RetryRequested(service.state.seq))
    service.ask(e.PauseRequested())
    assert "resume it" in service.refusal(e.RetryRequested(service.state.seq))


def test_a_retry_after_the_end_is_a_new_release_of_the_same_commit() -> None:
    service = Service()
    service.start(2)
    service.fail_stage()
    service.returned()
    (started,) = service.ask(e.RetryRequested(service.state.seq), release=2)
    assert isinstance(started, e.ReleaseStarted)
    assert started.commit == sha(2)
    service.reflexes()
    assert service.release.number == 3
    assert service.release.verdicts == {}


def test_a_retry_of_a_roll_back_that_ended_says_to_roll_back_again() -> None:
    service = Service()
    service.promote_all(2)
    service.ask(e.RollBackRequested())
    service.reflexes()
    service.ask(e.AbortRequested())
    service.returned()
    service.ask(e.UnlockRequested())
    assert "roll back again" in service.refusal(e.RetryRequested(service.state.seq))


def test_a_refused_retry_is_called_a_retry() -> None:
    service = Service()
    service.start(2)
    service.fail_stage()
    service.returned()
    service.branch = service.branch[:1]
    service.read_source()
    service.wish(e.RetryRequested(service.state.seq))
    (refused,) = service.answer()
    assert isinstance(refused, e.Refused)
    assert refused.verb == "retry"


def test_stages_never_go_on_while_paused_or_after_a_failure() -> None:
    service = Service()
    service.start(2)
    service.ask(e.PauseRequested())
    stage = service.release.running_stage
    assert stage is not None
    service.about_release([e.ArtifactBuilt(artifact(2)), e.StageEnded("build", 1, "passed")])
    assert decisions.enter_next_stage(service.state) == ()
    service.ask(e.ResumeRequested(service.state.seq))
    assert kinds(list(decisions.enter_next_stage(service.state))) == ["StageEntered"]
