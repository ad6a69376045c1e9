"""A config that is edited while its runner lives."""

from __future__ import annotations

import time
from collections.abc import Callable

from pithead.console.demo.setting import Pace, open_setting
from pithead.delivery import events as e
from pithead.delivery.events import Event, Payload
from pithead.delivery.journal import Journal

PATIENCE_SECONDS = 30.0


def until(journal: Journal, after: int, holds: Callable[[Payload], bool]) -> Event:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        for event in journal.read(after):
            if holds(event.payload):
                return event
        assert time.monotonic() < deadline, journal.read(after)
        time.sleep(0.05)


def test_a_changed_config_is_read_anew_and_a_broken_one_is_not_taken() -> None:
    with open_setting(Pace()) as setting:
        journal, config = setting.desk.journal, setting.config.file
        asked = setting.desk.press(e.LockRequested("a look at the config"))
        until(journal, asked.seq, lambda payload: isinstance(payload, e.Locked))
        text, seq = config.read_text(), journal.head()
        config.write_text(text.replace("interval: 500ms", "interval: 700ms"))
        stopped = until(journal, seq, lambda payload: isinstance(payload, e.RunnerStopped))
        assert isinstance(stopped.payload, e.RunnerStopped)
        assert "config changed" in stopped.payload.reason
        until(journal, stopped.seq, lambda payload: isinstance(payload, e.RunnerStarted))
        config.write_text(text.replace("interval", "intervall"))
        time.sleep(1.5)
        asked = setting.desk.press(e.UnlockRequested())
        until(journal, asked.seq, lambda payload: isinstance(payload, e.Unlocked))
        assert not any(isinstance(event.payload, e.RunnerStopped) for event in journal.read(stopped.seq))
        config.write_text(text)
