"""When a release will be through, as far as its own history and its ladder say. Pure; a guess that says when it is none."""

from __future__ import annotations

from pithead.delivery.state import Release, StageRun


def seconds_left(release: Release, now: float) -> float | None:
    """Until the release's end if nobody intervenes; None while a stage that is to come has never passed before."""
    if release.phase in ("queued", "returning", "ended") or release.paused is not None:
        return None
    left = 0.0
    for stage in release.stages:
        seconds = _stage_left(release, stage, now)
        if seconds is None:
            return None
        left += seconds
    return left


def _stage_left(release: Release, stage: StageRun, now: float) -> float | None:
    if stage.state not in ("pending", "running"):
        return 0.0
    if stage.kind == "canary":
        return canary_left(release, now)
    if stage.kind == "rollout":
        return hold_left(release, now) if release.step >= len(release.steps) else release.bake_seconds
    if stage.expected_seconds is None:
        return None
    ran = now - stage.entered_at if stage.state == "running" and stage.entered_at else 0.0
    return max(0.0, stage.expected_seconds - ran)


def canary_left(release: Release, now: float) -> float:
    """Seconds of hold time on this rung and those above it."""
    above = sum(step.hold_seconds for step in release.steps[max(0, release.step + 1) :])
    on_it = 0 <= release.step < len(release.steps)
    return above + (hold_left(release, now) if on_it else 0.0)


def hold_left(release: Release, now: float) -> float:
    return max(0.0, release.hold_seconds - release.held_seconds(now))
