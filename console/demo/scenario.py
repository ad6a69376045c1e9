"""One scenario without a terminal: a commit goes out while users ask, and what became of both is measured.

Nothing is known beforehand: the outcome is what the journal says, and the requests are counted by those who sent them.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pithead.console.demo.history import Scenario
from pithead.console.demo.setting import Pace, Setting, Users, open_setting
from pithead.console.desk import Desk
from pithead.delivery import events as e
from pithead.delivery import fold
from pithead.delivery.events import Event
from pithead.delivery.ports import BackendError
from pithead.delivery.state import Release, ServiceState
from pithead.widgets.words import words

RELEASE_SECONDS = 180.0
WARM_UP_REQUESTS = 75
LOG_LINES = 30
QUIET = (e.TargetObserved, e.PendingObserved)


@dataclass(frozen=True, slots=True)
class Result:
    """`detected_after_seconds`: from the canary's first request (a crash: from the start of its instances) to the
    decision to go back. `rolled_back_in_seconds`: from there until no request reached it. None where nothing was."""

    scenario: Scenario
    outcome: str
    detected_after_seconds: float | None
    rolled_back_in_seconds: float | None
    requests: int
    failed_requests: int
    canary_requests: int


def play(scenario: Scenario) -> tuple[Result, Release]:
    """The result, and the release as it ended. BackendError when it did not end, or a part of the machinery is missing."""
    with open_setting(Pace()) as setting:
        tell = Teller()
        try:
            release, users, at = asyncio.run(_play(setting, scenario, tell))
        except BackendError:
            tell.log(setting.desk.state_folder / "runner.log")  # it goes with the folder
            raise
        tell(f"{users['requests']:,} requests, {users['failed_requests']:,} of them failed")
        events = setting.desk.journal.read(at, limit=10_000)
        asked = _requests_of(setting, release.commit)
        return _result(scenario, release, events, asked, users), release


class Teller:
    """Progress, on stderr."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def __call__(self, text: str, actor: str = "demo") -> None:
        line = f"{time.monotonic() - self._begin:6.1f} s  {actor[:12]:<12} {text}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201

    def log(self, path: Path) -> None:
        """What the runner had to say, which is little as long as all is well."""
        lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
        for line in lines[-LOG_LINES:]:
            self(line, "runner.log")

    def event(self, event: Event) -> None:
        if not isinstance(event.payload, QUIET):
            self(words(event), event.actor)


async def _play(setting: Setting, scenario: Scenario, tell: Teller) -> tuple[Release, Any, int]:
    commit = setting.repository.released[scenario]
    async with _audience(setting.desk, tell) as audience:
        tell("the service is released for the first time")
        first = await audience.release(setting.repository.before(commit))
        if not first.went_live:
            raise BackendError(f"the first release did not go live: {first.reason}", "`pithead doctor` may know why.")
        await audience.until(lambda state: state.target is not None and bool(state.target.address), "an address")
        address = audience.state.target.address if audience.state.target else ""
        tell(f"users ask {address}")
        users = Users(setting.folder, address, keeps_log=True)
        try:
            await asyncio.to_thread(users.wait_for, WARM_UP_REQUESTS)
            at = audience.state.seq
            release = await audience.release(commit)
        finally:
            tally = await asyncio.to_thread(users.end)
        return release, tally, at


class _Audience:
    """Follows the journal, and gives commands that it waits for."""

    def __init__(self, desk: Desk, state: ServiceState, tell: Teller) -> None:
        self._desk, self.state, self._tell = desk, state, tell
        self._changed = asyncio.Condition()
        self._answers: dict[int, Event] = {}
        self._fault: Exception | None = None

    async def follow(self) -> None:
        """For ever. What goes wrong here is raised where somebody waits."""
        try:
            await self._follow()
        except Exception as error:
            async with self._changed:
                self._fault = error
                self._changed.notify_all()

    async def _follow(self) -> None:
        async for batch in self._desk.journal.follow(self.state.seq):
            async with self._changed:
                self.state = fold.fold(batch, self.state)
                for event in batch:
                    self._tell.event(event)
                    if event.cause is not None:
                        self._answers.setdefault(event.cause, event)
                self._changed.notify_all()

    async def keep_a_runner(self) -> None:
        while True:
            if self._desk.wants_runner(self.state):
                await asyncio.to_thread(self._desk.ensure_runner)
            await asyncio.sleep(1.0)

    async def release(self, commit: str) -> Release:
        """Starts a release up to the commit and waits for its end."""
        asked = await asyncio.to_thread(self._desk.press, e.StartRequested(commit))
        await self.until(lambda _: asked.seq in self._answers, "an answer of the runner")
        answer = self._answers[asked.seq]
        if isinstance(answer.payload, e.Refused):
            raise BackendError(f"the start of {commit[:7]} was refused: {answer.payload.reason}")
        number = answer.release or 0
        await self.until(lambda state: _ended(state, number) is not None, f"the end of release {number}")
        ended = _ended(self.state, number)
        assert ended is not None  # noqa: S101
        return ended

    async def until(self, condition: Callable[[ServiceState], bool], what: str) -> None:
        """BackendError, with what it waits for, when it takes longer than `RELEASE_SECONDS`."""
        try:
            async with asyncio.timeout(RELEASE_SECONDS), self._changed:
                await self._changed.wait_for(lambda: self._fault is not None or condition(self.state))
        except TimeoutError:
            release = self.state.in_flight
            why = release.paused.words if release and release.paused else ""
            lost = "; ".join(f"{lost.message} {lost.mend}" for lost in self.state.lost.values())
            raise BackendError(f"no sign of {what} for {RELEASE_SECONDS:.0f} s. {why} {lost}".strip()) from None
        if self._fault is not None:
            raise self._fault


def _ended(state: ServiceState, number: int) -> Release | None:
    release = state.release(number)
    return release if release is not None and release.outcome is not None else None


@asynccontextmanager
async def _audience(desk: Desk, tell: Teller) -> AsyncIterator[_Audience]:
    audience = _Audience(desk, desk.journal.fold(), tell)
    tasks = [asyncio.ensure_future(audience.follow()), asyncio.ensure_future(audience.keep_a_runner())]
    try:
        yield audience
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────


def _requests_of(setting: Setting, commit: str) -> list[float]:
    """When each of the requests that the commit answered was sent, in order."""
    rows = (line.split("\t") for line in (setting.folder / "requests.tsv").read_text("utf-8").splitlines())
    return sorted(float(sent) for sent, _, _, by in rows if by == commit)


def _result(
    scenario: Scenario, release: Release, events: Sequence[Event], asked: Sequence[float], users: Any
) -> Result:
    at_all = _first(events, release.number, lambda p: isinstance(p, e.StepEntered) and p.step == len(release.steps))
    began = _first(events, release.number, lambda p: isinstance(p, e.ReturnBegan))
    returned = _first(events, release.number, lambda p: isinstance(p, e.TrafficReturned))
    met = asked[0] if asked else _instances_started(events, release)
    return Result(
        scenario=scenario,
        outcome=release.outcome or "",
        detected_after_seconds=_between(met, began),
        rolled_back_in_seconds=_between(began, returned),
        requests=users["requests"],
        failed_requests=users["failed_requests"],
        canary_requests=sum(at_all is None or sent < at_all for sent in asked),
    )


def _first(events: Sequence[Event], release: int, is_it: Callable[[e.Payload], bool]) -> float | None:
    return next((event.at for event in events if event.release == release and is_it(event.payload)), None)


def _instances_started(events: Sequence[Event], release: Release) -> float | None:
    """When the canary's first instance was started; None when none ever was."""
    digest = release.artifact.digest if release.artifact else None
    if (entered := _first(events, release.number, lambda p: isinstance(p, e.StepEntered))) is None:
        return None
    observed = (event.payload for event in events if isinstance(event.payload, e.TargetObserved))
    started = [i.started_at for seen in observed for i in seen.instances if i.digest == digest and i.started_at]
    return min(started, default=entered)


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(max(0.0, end - start), 3)
