"""Believable journals for the screen: a service with a past, in each of the states that an operator may find it in.

They are filled through the real `Journal` and `LogBook`; only the clock is told, so that there is a past at all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from unittest.mock import patch

from pithead.console.desk import Desk
from pithead.delivery import events as e
from pithead.delivery import lease
from pithead.delivery.events import Event, NewEvent, Payload
from pithead.delivery.journal import Journal
from pithead.delivery.logbook import LogBook
from pithead.delivery.ports import Artifact, Commit, Instance
from pithead.delivery.state import ServiceState

STAGES = (
    e.StagePlan("build", "build", 41.0),
    e.StagePlan("unit", "test", 72.0),
    e.StagePlan("functional", "test", 38.0),
    e.StagePlan("canary", "canary", 900.0),
    e.StagePlan("rollout", "rollout", 300.0),
)
STEPS = (e.StepPlan(1, 120.0), e.StepPlan(5, 300.0), e.StepPlan(25, 300.0), e.StepPlan(50, 300.0))
SUBJECTS = (
    ("Round cart totals half-even", "ana", 120, 14, 3),
    ("Gift cards behind a flag", "bo", 2_400, 210, 8),
    ('Revert "Cache the price list for an hour"', "cy", 3_000, 4, 61),
    ("Bump httpx 0.27 → 0.28", "renovate[bot]", 10_800, 1_204, 988),
    ("Cache the price list for an hour", "dee", 14_000, 61, 4),
    ("Retry payment on 502", "cy", 18_000, 33, 2),
    ("Name the currency in every receipt, also where there is only one", "ana", 170_000, 18, 11),
)


def sha(words: str) -> str:
    return sha1(words.encode(), usedforsecurity=False).hexdigest()


def artifact(commit: str) -> Artifact:
    return Artifact("sha256:" + sha(commit) * 2, commit, f"/artifacts/{commit}", 1_000_000)


@dataclass(slots=True)
class StillDesk(Desk):
    """A desk that starts no runner: who answers is up to the test. `starts` counts what it was asked."""

    starts: int = 0

    def ensure_runner(self) -> bool:
        self.starts += 1
        return False


@dataclass(slots=True)
class Scene:
    """A journal under a told clock. `now` runs from well before the present to just before it."""

    folder: Path
    service: str = "checkout"
    now: float = field(default_factory=lambda: time.time() - 300_000)
    journal: Journal = field(init=False)
    book: LogBook = field(init=False)
    commits: tuple[Commit, ...] = ()

    def __post_init__(self) -> None:
        self.journal = Journal(f"sqlite:///{self.folder / 'journal.db'}", self.service)
        self.book = LogBook(self.journal)

    def desk(self, actor: str = "ana", environment: str = "production", target: str = "us-east") -> StillDesk:
        return StillDesk(self.journal, self.book, actor, self.folder / "pithead.yaml", self.folder, environment, target)

    @property
    def state(self) -> ServiceState:
        return self.journal.fold()

    @contextmanager
    def _told_time(self) -> Iterator[None]:
        with patch("pithead.delivery.journal.time.time", lambda: self.now):
            yield

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def until(self, seconds_ago: float) -> None:
        self.now = time.time() - seconds_ago

    def happen(
        self, *payloads: Payload, release: int | None = None, by: str = "runner", cause: int | None = None
    ) -> tuple[Event, ...]:
        with self._told_time():
            return self.journal.append([NewEvent(by, payload, release, cause) for payload in payloads])

    def ask(self, wish: e.Wish, release: int | None = None, by: str = "ana") -> int:
        return self.happen(wish, release=release, by=by)[0].seq

    def print(self, release: int, stage: str, *lines: str, attempt: int = 1) -> None:
        first = self.book.count(release, stage, attempt)
        for at in range(0, len(lines), 500):
            with self._told_time():
                self.book.write(release, stage, attempt, first + at, lines[at : at + 500])

    # ── the service's past ───────────────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """A runner has the lease, release 141 is live, the one before was brought back."""
        self.happen(e.RunnerStarted("runner-1", 1, "0.1.0"))
        lease.take(self.journal, "runner-1")
        self.released(139, "Show stock per shop", "ana")
        self.wait(40_000)
        self.brought_back(140, "Price by postcode", "bo", "p99: 412 ms is over the limit of 300 ms.")
        self.wait(50_000)
        self.released(141, "Send receipts as PDF", "cy")
        self.happen(self.target())
        self.until(3_700)

    def released(self, number: int, subject: str, by: str) -> None:
        commit = sha(subject)
        self.started(number, subject, by)
        self.passed(number, "build", 40.0)
        self.happen(e.ArtifactBuilt(artifact(commit)), release=number)
        for stage, seconds in (("unit", 71.0), ("functional", 38.0), ("canary", 900.0)):
            self.passed(number, stage, seconds)
        self.happen(
            e.StageEntered("rollout", 1), e.StepEntered(4, 100, 300.0), e.TrafficShifted(4, 100), release=number
        )
        self.wait(300)
        self.happen(
            e.StageEnded("rollout", 1, "passed"),
            e.WentLive(artifact(commit)),
            e.ReleaseEnded("promoted"),
            release=number,
        )

    def brought_back(self, number: int, subject: str, by: str, reason: str) -> None:
        commit = sha(subject)
        self.started(number, subject, by)
        self.happen(e.ArtifactBuilt(artifact(commit)), release=number)
        self.happen(e.StageEntered("canary", 1), e.StepEntered(0, 1, 120.0), e.TrafficShifted(0, 1), release=number)
        self.wait(45)
        self.happen(
            e.StageEnded("canary", 1, "failed", reason),
            e.ReturnBegan("rolled_back", reason),
            e.TrafficReturned(0.21),
            e.ReleaseEnded("rolled_back", reason),
            release=number,
        )

    def started(self, number: int, subject: str, by: str, commits: tuple[str, ...] = ()) -> None:
        commit = sha(subject)
        cause = self.ask(e.StartRequested(commit), by=by)
        start = e.ReleaseStarted("forward", commit, subject, None, commits or (commit,), STAGES, STEPS, 300.0)
        self.happen(start, release=number, by=by, cause=cause)

    def passed(self, number: int, stage: str, seconds: float) -> None:
        expected = next(plan.expected_seconds for plan in STAGES if plan.name == stage)
        self.happen(e.StageEntered(stage, 1, expected), release=number)
        self.wait(seconds)
        self.happen(e.StageEnded(stage, 1, "passed"), release=number)

    # ── what is out there ────────────────────────────────────────────────────────────────────────────────────────

    def pending(self, subjects: tuple[tuple[str, str, int, int, int], ...] = SUBJECTS, note: str = "") -> None:
        base = sha("Send receipts as PDF")
        made: list[Commit] = []
        for i, (subject, author, ago, added, deleted) in enumerate(subjects):
            parent = sha(subjects[i + 1][0]) if i + 1 < len(subjects) else base
            body = (
                "Seen in production as a cent too much.\n\nThe totals are rounded where they are shown."
                if not i
                else ""
            )
            made.append(
                Commit(
                    sha(subject),
                    (parent,),
                    author,
                    time.time() - ago,
                    subject,
                    body,
                    added,
                    deleted,
                    max(1, added // 20),
                )
            )
        self.commits = tuple(made)
        self.happen(e.PendingObserved(base, made[0].sha if made else base, self.commits, len(made), note=note))

    def target(self, canary: int = 0, weight: int = 0, failing: str = "", commit: str = "") -> e.TargetObserved:
        live, new = artifact(sha("Send receipts as PDF")).digest, artifact(commit).digest
        members = [Instance(f"checkout-{i + 1}", "baseline", live, "ready") for i in range(8)]
        for i in range(canary):
            is_bad = bool(failing) and i == 0
            members.append(
                Instance(
                    f"checkout-canary-{i + 1}", "canary", new, "failing" if is_bad else "ready", 3 if is_bad else 0,
                    detail=failing if is_bad else "",
                )
            )  # fmt: skip
        return e.TargetObserved(live, new if canary else None, weight, tuple(members), 8)

    def judged(self, number: int, weight: int, is_bad: bool = False, scrapes: int = 40) -> None:
        """Samples of both metrics, and the verdicts that go with them."""
        for i in range(scrapes):
            total, wave = 40.0 * (i + 1) * weight, (i * 7) % 5
            bad = total * (0.031 if is_bad and i > 20 else 0.0031) + wave
            errors = {
                "kind": "ratio",
                "canary": {"bad": bad, "total": total},
                "baseline": {"bad": total * 0.052 + (i * 3) % 4, "total": total * 18},
                "verdict": "fail" if is_bad else "inconclusive",
                "sentence": (
                    "3.10 % errors in 9,120 canary requests, 0.29 % in 164,160 of the baseline: 4e-09 is the chance of this."
                    if is_bad
                    else f"{total:,.0f} of at least 2,500 canary requests so far."
                ),
                "effect": {"canary": bad / total, "baseline": 0.0029, "unit": "ratio"},
            }
            slow = {
                "kind": "latency",
                "canary": {"le": [0.1, 0.25, 0.5], "count": [total, total, total]},
                "baseline": {"le": [0.1, 0.25, 0.5], "count": [total, total, total]},
                "verdict": "pass",
                "sentence": "no harm found: 0.97 % slower than 250 ms in 9,120 canary requests, 1.00 % of the baseline.",
                "effect": {"canary": 0.212 + wave / 1000, "baseline": 0.208 + ((i * 3) % 4) / 1000, "unit": "seconds"},
            }
            self.book.write_samples(number, 1, self.now + i * 5, {"errors": errors, "p99": slow})
        self.happen(
            e.VerdictReached("errors", errors["verdict"], errors["sentence"]),  # type: ignore[arg-type]
            e.VerdictReached("p99", "pass", str(slow["sentence"])),
            release=number,
        )

    # ── states ───────────────────────────────────────────────────────────────────────────────────────────────────

    def idle(self) -> None:
        """Seven commits wait; nothing is in flight."""
        self.begin()
        self.pending()

    def empty(self) -> None:
        """A service of which nothing is known yet."""

    def building(self) -> None:
        """Release 142 is in its unit tests."""
        self.idle()
        self.until(75)
        self.started(142, SUBJECTS[1][0], "ana", tuple(c.sha for c in self.commits[1:]))
        self.passed(142, "build", 40.0)
        self.happen(e.StageEntered("unit", 1, 72.0), release=142)
        self.print(
            142, "unit", "collected 214 items", *(f"tests/test_cart.py::test_total_{i} PASSED" for i in range(140))
        )

    def in_canary(self, is_bad: bool = False) -> None:
        """Release 142 has 25 % of the traffic, 130 s into its 300."""
        self.idle()
        commit = self.commits[1].sha
        self.until(740)
        self.started(142, SUBJECTS[1][0], "ana", tuple(c.sha for c in self.commits[1:]))
        self.passed(142, "build", 41.0)
        self.happen(e.ArtifactBuilt(artifact(commit)), release=142)
        self.passed(142, "unit", 72.0)
        self.passed(142, "functional", 38.0)
        self.happen(e.StageEntered("canary", 1, 1020.0), e.StepEntered(0, 1, 120.0), release=142)
        self.happen(self.target(2, 1, commit=commit), e.TrafficShifted(0, 1), release=142)
        self.wait(120)
        self.happen(e.StepEntered(1, 5, 300.0), e.TrafficShifted(1, 5), release=142)
        cause = self.ask(e.PromoteRequested(self.journal.head()), 142, by="bo")
        self.until(133)
        self.happen(e.Promoted(5, 25), release=142, by="bo", cause=cause)
        self.happen(e.StepEntered(2, 25, 300.0), release=142)
        self.until(130)
        self.happen(self.target(2, 25, "readiness probe: connection refused" if is_bad else "", commit))
        self.happen(e.TrafficShifted(2, 25), release=142)
        self.print(
            142, "canary", "instance checkout-canary-1 ready on 127.0.0.1:40113",
            "instance checkout-canary-2 ready on 127.0.0.1:40127", "weights: baseline 75, canary 25",
            *(f"scrape {i}: {i * 31:,} canary / {i * 95:,} baseline requests" for i in range(1, 41)),
        )  # fmt: skip
        self.judged(142, 25, is_bad)

    def undecided(self) -> None:
        """Paused at 25 %: the hold time is over and nothing is decided."""
        self.in_canary()
        self.until(40)
        self.happen(
            e.Paused("undecided", "errors: 1,040 of at least 2,500 canary requests after 5m at 25 %."), release=142
        )

    def failed(self) -> None:
        """The unit tests of release 142 said no, and it was brought back."""
        self.building()
        self.print(142, "unit", "FAILED tests/test_cart.py::test_rounds_half_even - assert 10.13 == 10.12", "1 failed")
        reason = "unit: exit status 1 after 31s."
        self.until(30)
        self.happen(e.StageEnded("unit", 1, "failed", "exit status 1"), release=142)
        self.happen(
            e.ReturnBegan("failed", reason), e.TrafficReturned(0.0), e.ReleaseEnded("failed", reason), release=142
        )

    def errored(self) -> None:
        """A tool broke under release 142: it waits for somebody."""
        self.building()
        self.until(20)
        self.happen(e.StageEnded("unit", 1, "errored", "pytest: command not found"), release=142)
        self.happen(e.Paused("error", "unit: pytest: command not found. Install it on this host."), release=142)

    def locked(self) -> None:
        """Locked over a holiday; commits wait."""
        self.idle()
        self.until(7_300)
        cause = self.ask(e.LockRequested("no releases over the holiday, call ana"), by="bo@bastion")
        self.happen(e.Locked("no releases over the holiday, call ana"), by="bo@bastion", cause=cause)


STATES = ("empty", "idle", "building", "in_canary", "undecided", "failed", "errored", "locked")
