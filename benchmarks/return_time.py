"""From `abort` or `rollback` to the last request that the canary answers, at 200 requests/s with half of them going to it,
and whether any request was dropped: counted by those who send them. The real program, from the shell."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

from benchmarks.figures import Figure, distribution
from pithead.console.demo.setting import Pace, Setting, open_setting
from pithead.delivery import fold
from pithead.delivery.events import Payload, PromoteRequested, StartRequested, UnlockRequested
from pithead.delivery.state import ServiceState

RUNS = int(os.environ.get("PITHEAD_BENCH_RUNS", "20"))
RATE = 200
SETTLE_SECONDS = 1.5


def measure() -> list[Figure]:
    with open_setting(Pace(step="30m", bake="1s")) as setting:
        return asyncio.run(_Bench(setting).run())


class _Bench:
    def __init__(self, setting: Setting) -> None:
        self._setting, self._desk = setting, setting.desk
        self._state = self._desk.journal.fold()
        self._requests = setting.folder / "bench-requests.tsv"

    async def run(self) -> list[Figure]:
        commit = self._setting.repository.released["good"]
        await self._press(StartRequested(self._setting.repository.before(commit)))
        await self._until(lambda s: s.live is not None and s.in_flight is None and s.target is not None)
        address = self._state.target.address if self._state.target else ""
        load = self._load(address)
        try:
            await asyncio.sleep(2.0)
            runs = [await self._once(commit, turn) for turn in range(RUNS)]
        finally:
            load.terminate()
            load.wait(10)
        rows = [line.split("\t") for line in self._requests.read_text().splitlines()]
        return _figures(runs, rows, commit)

    def _load(self, address: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pithead.console.demo.load", "--address", address, "--rate", str(RATE)]
        command += ["--out", str(self._setting.folder / "bench.json"), "--log", str(self._requests)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL)

    async def _once(self, commit: str, turn: int) -> tuple[float, float, float]:
        """When the command was typed, when it was journalled, when the release had ended: Unix seconds."""
        await self._press(StartRequested(commit))
        await self._until(lambda s: _is_at(s, 0))
        await self._press(PromoteRequested(self._state.seq))
        await self._until(lambda s: _is_at(s, 1))
        await asyncio.sleep(SETTLE_SECONDS)
        verb = "abort" if turn % 2 else "rollback"
        typed, before = time.time(), self._state.seq
        await asyncio.to_thread(self._type, verb)
        await self._until(lambda s: s.in_flight is None)
        journalled = next(
            e.at for e in self._desk.journal.read(before) if e.kind in ("abort_requested", "roll_back_requested")
        )
        if self._state.lock is not None:
            await self._press(UnlockRequested())
            await self._until(lambda s: s.lock is None)
        return typed, journalled, time.time()

    def _type(self, verb: str) -> None:
        config = str(self._setting.config.file)
        subprocess.run(
            [sys.executable, "-m", "pithead.console.cli", verb, "-c", config], check=True, capture_output=True
        )

    async def _press(self, wish: Payload) -> None:
        event = await asyncio.to_thread(self._desk.press, wish, None)  # type: ignore[arg-type]
        await self._until(lambda s: s.seq > event.seq and all(u.seq != event.seq for u in s.unanswered))

    async def _until(self, condition: object) -> None:
        deadline = time.monotonic() + 60.0
        while True:
            new = await asyncio.to_thread(self._desk.journal.read, self._state.seq)
            self._state = fold.fold(new, self._state)
            if condition(self._state):  # type: ignore[operator]
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the release does not get on: {self._state.in_flight} {self._state.lost}")
            await asyncio.sleep(0.02)


def _is_at(state: ServiceState, step: int) -> bool:
    release = state.in_flight
    return release is not None and release.step == step and release.shifted_at is not None


def _figures(runs: list[tuple[float, float, float]], rows: list[list[str]], commit: str) -> list[Figure]:
    served = sorted(float(answered) for _, answered, _, by in rows if by == commit)
    failed = sum(outcome != "200" for _, _, outcome, _ in rows)
    from_shell, from_journal = [], []
    for typed, journalled, ended in runs:
        last = max((at for at in served if typed - 1 < at < ended), default=typed)
        from_shell.append((last - typed) * 1000)
        from_journal.append(max(0.0, last - journalled) * 1000)
    return [
        Figure("requests sent", len(rows), ""),
        Figure("of them answered by the canary", len(served), ""),
        Figure("failed or dropped", failed, "", 0.0),
        *distribution("journalled abort or roll-back to the last request", from_journal, "ms", 500.0),
        *distribution("the same from the start of the shell's command", from_shell, "ms", 500.0),
    ]
