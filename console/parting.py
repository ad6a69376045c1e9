"""What is said when the console is left while a release goes on without it."""

from __future__ import annotations

from pithead.widgets.glance import Glance


def parting_words(shown: Glance | None) -> str:
    """One line about the release that goes on; empty when none does."""
    release = shown.release if shown else None
    if release is None:
        return ""
    stage = release.running_stage
    where = f"canary {release.weight} %" if release.phase == "canary" and release.step >= 0 else ""
    where = where or (stage.name if stage else release.phase)
    pause = " (paused)" if release.paused else ""
    return (
        f"release {release.number} goes on: {where}{pause}; `pithead` shows it again, "
        f"`pithead wait {release.number}` waits for it"
    )
