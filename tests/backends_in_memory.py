"""The ports in memory: they keep the contract (converging, cancellable, traffic away first), and fail when told to.

Nothing here waits for a clock longer than it is told to; what a test wants to hold, it holds with an `asyncio.Event`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from pithead.delivery.ports import (
    Arm,
    ArmAddress,
    Artifact,
    CheckFailed,
    Command,
    Commit,
    Counts,
    Desired,
    FileChange,
    Finding,
    Instance,
    Log,
    MetricSpec,
    Observed,
    Pending,
    Sample,
)


def sha(number: int) -> str:
    return f"{number:04x}" * 10


def artifact(number: int) -> Artifact:
    return Artifact(f"sha256:{number:04x}", sha(number), f"/artifacts/{number}", 1000)


def commit(number: int, subject: str = "", body: str = "") -> Commit:
    parents = (sha(number - 1),) if number > 1 else ()
    return Commit(sha(number), parents, "Ann", 1000.0 + number, subject or f"Change {number}", body)


class Changing:
    """Wakes whoever watches."""

    def __init__(self) -> None:
        self.next = asyncio.Event()
        """Of the next change from here on: to be taken before looking, and awaited after."""

    def tell(self) -> None:
        done, self.next = self.next, asyncio.Event()
        done.set()


class Source:
    """A linear history of commits 1 to n. While `fault` is set, every call raises it."""

    def __init__(self, folder: Path, count: int) -> None:
        self.commits_made = [commit(n) for n in range(1, count + 1)]
        self.fault: Exception | None = None
        self.calls: Counter[str] = Counter()
        self._folder = folder
        self._changing = Changing()

    def push(self, *commits: Commit) -> None:
        self.commits_made.extend(commits)
        self._changing.tell()

    def break_with(self, fault: Exception | None) -> None:
        self.fault = fault
        self._changing.tell()

    def _asked(self, what: str) -> None:
        self.calls[what] += 1
        if self.fault is not None:
            raise self.fault

    async def head(self) -> str:
        self._asked("head")
        return self.commits_made[-1].sha

    async def commits(self, base: str | None, head: str) -> Pending:
        self._asked("commits")
        shas = [c.sha for c in self.commits_made]
        first = shas.index(base) + 1 if base is not None else 0
        found = tuple(reversed(self.commits_made[first : shas.index(head) + 1]))
        return Pending(base, head, found, len(found))

    async def changes(self, sha: str) -> Sequence[FileChange]:
        return ()

    async def resolve(self, name: str) -> str:
        return next(c.sha for c in self.commits_made if c.sha.startswith(name))

    @asynccontextmanager
    async def checkout(self, sha: str) -> AsyncIterator[Path]:
        self._asked("checkout")
        folder = self._folder / f"{sha[:8]}-{self.calls['checkout']}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            folder.rmdir()

    async def watch(self) -> AsyncIterator[str]:
        told = None
        while True:
            change = self._changing.next
            head = await self.head()
            if head != told:
                told = head
                yield head
            await change.wait()

    async def check(self) -> Sequence[Finding]:
        return ()


class Builder:
    """Builds `artifact(n)` from commit n. `faults` by commit number; `gate` holds every build while it is closed."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.faults: dict[str, Exception] = {}
        self.built: list[str] = []
        self.cancelled = 0
        self.kept: dict[str, Artifact] = {}
        self.began = asyncio.Event()

    async def build(self, commit: str, folder: Path, log: Log) -> Artifact:
        self.began.set()
        await log.write([f"building {commit[:7]} in {folder.name}"])
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if commit in self.faults:
            raise self.faults[commit]
        made = artifact(int(commit[:4], 16))
        self.built.append(commit)
        self.kept[made.digest] = made
        return made

    async def find(self, digest: str) -> Artifact | None:
        return self.kept.get(digest)

    async def check(self) -> Sequence[Finding]:
        return ()


class Commands:
    """Exit statuses by command line, one after another (the last one stays), or an exception to raise."""

    def __init__(self) -> None:
        self.results: dict[str, list[int | Exception]] = {}
        self.ran: list[Command] = []
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def run(self, command: Command, log: Log) -> int:
        self.ran.append(command)
        assert command.folder.is_dir()
        await log.write([f"$ {command.line}"])
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        results = self.results.get(command.line, [0])
        result = results.pop(0) if len(results) > 1 else results[0]
        if isinstance(result, Exception):
            raise result
        return result


class Target:
    """Two instances of the stable artifact, one of the canary. Starting takes `start_seconds`; `will_not_run` are the
    digests whose instances never get ready; while `fault` is set, nothing can be driven or seen."""

    WANTED = 2

    def __init__(self) -> None:
        self.stable: Artifact | None = None
        self.canary: Artifact | None = None
        self.weight = 0
        self.failing: str = ""
        self.start_seconds = 0.0
        self.will_not_run: set[str] = set()
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.began = asyncio.Event()
        self.applied: list[Desired] = []
        self.finished: list[Desired] = []
        self.cancelled: list[Desired] = []
        self.weights: list[int] = []
        self.busy = 0
        self._changing = Changing()

    def break_with(self, fault: Exception | None) -> None:
        self.fault = fault
        self._changing.tell()

    def crash_canary(self, detail: str) -> None:
        self.failing = detail
        self._changing.tell()

    async def apply(self, desired: Desired, log: Log) -> None:
        assert self.busy == 0, "two applies at once"
        self.applied.append(desired)
        self.busy += 1
        self.began.set()
        try:
            await self._converge(desired)
            self.finished.append(desired)
        except asyncio.CancelledError:
            self.cancelled.append(desired)
            raise
        finally:
            self.busy -= 1
            self._changing.tell()

    async def _converge(self, desired: Desired) -> None:
        if self.fault is not None:
            raise self.fault
        if self.canary is not None and self.canary != desired.canary:
            was = self.canary
            self._shift(100 if desired.stable == was else 0)
            if desired.stable == was:
                self.stable = was
            self.canary, self.failing = None, ""
        if desired.canary is not None and desired.canary != self.canary:
            await self._start(desired.canary)
            self.canary, self.failing = desired.canary, ""
        if desired.stable is not None and desired.stable != self.stable:
            await self._start(desired.stable)
        self.stable = desired.stable
        self._shift(desired.weight)

    def _shift(self, weight: int) -> None:
        weight = weight if self.canary is not None else 0
        if weight != self.weight:
            self.weight = weight
            self.weights.append(weight)
            self._changing.tell()

    async def _start(self, what: Artifact) -> None:
        if self.start_seconds:
            await asyncio.sleep(self.start_seconds)
        await self.gate.wait()
        if what.digest in self.will_not_run:
            raise CheckFailed(f"{what.digest} does not get ready: it exits with status 1.")

    async def observe(self) -> Observed:
        if self.fault is not None:
            raise self.fault
        instances = [
            Instance(f"stable-{n}", "baseline", self.stable.digest, "ready")
            for n in range(self.WANTED)
            if self.stable is not None
        ]
        arms: dict[Arm, ArmAddress] = {}
        if self.stable is not None:
            arms["baseline"] = ArmAddress(self.stable.digest, {"cluster": "stable"})
        if self.canary is not None:
            state = "failing" if self.failing else "ready"
            instances.append(Instance("canary-0", "canary", self.canary.digest, state, detail=self.failing))  # type: ignore[arg-type]
            arms["canary"] = ArmAddress(self.canary.digest, {"cluster": "canary"})
        return Observed(
            self.stable.digest if self.stable else None,
            self.canary.digest if self.canary else None,
            self.weight,
            tuple(instances),
            self.WANTED,
            arms,
            "http://127.0.0.1:1",
        )

    async def watch(self) -> AsyncIterator[Observed]:
        while True:
            change = self._changing.next
            yield await self.observe()
            await change.wait()

    async def check(self) -> Sequence[Finding]:
        return ()


class Metrics:
    """Counters of a service with `requests` between two scrapes, split by the target's weight. `error_ratio` by digest."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.requests = 1000.0
        self.error_ratio: dict[str, float] = {}
        self.fault: Exception | None = None
        self.scrapes = 0
        self.changing = Changing()
        self._counts: dict[str, Counts] = {}

    async def scrape(self, arms: Mapping[Arm, ArmAddress], metrics: Sequence[MetricSpec]) -> Sequence[Sample]:
        if self.fault is not None:
            raise self.fault
        self.scrapes += 1
        self.changing.tell()
        share = {"canary": self.target.weight / 100, "baseline": 1 - self.target.weight / 100}
        readings: dict[str, Counts] = {}
        for arm, address in arms.items():
            before = self._counts.get(address.digest, Counts(0.0, 0.0))
            served = self.requests * share[arm]
            bad = served * self.error_ratio.get(address.digest, 0.0)
            readings[arm] = self._counts[address.digest] = Counts(before.bad + bad, before.total + served)
        now = time.time()
        return [Sample(now, m.name, m.kind, readings.get("canary"), readings.get("baseline")) for m in metrics]

    async def check(self) -> Sequence[Finding]:
        return ()
