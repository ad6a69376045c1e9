"""All that the screen draws, at one moment: an immutable value that the console makes and the widgets look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pithead.delivery.events import Event
from pithead.delivery.logbook import SampleRow
from pithead.delivery.state import Release, ServiceState

RunnerWord = Literal["alive", "none", "unknown"]


@dataclass(frozen=True, slots=True)
class Glance:
    """`now` is Unix time in seconds. `reading` is how far the journal was read when that takes long, from 0 to 1;
    `trouble` why it cannot be read, with the mend; `note` what the console itself did (it started a runner)."""

    state: ServiceState
    now: float
    environment: str = ""
    target_name: str = ""
    operator: str = ""
    runner: RunnerWord = "unknown"
    events: tuple[Event, ...] = ()
    samples: Mapping[str, tuple[SampleRow, ...]] = field(default_factory=dict)
    reading: float | None = None
    trouble: str = ""
    note: str = ""
    is_read_only: bool = False

    @property
    def release(self) -> Release | None:
        """The release that the screen is about: the one in flight, else the one that is queued."""
        return self.state.in_flight or self.state.queued

    @property
    def is_ready(self) -> bool:
        return self.reading is None

    @property
    def is_production(self) -> bool:
        return self.environment.strip().lower() in ("production", "prod", "live")
