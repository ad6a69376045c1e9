"""Build and test stages: the part of a release in which nothing of the users' is touched yet."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from pithead.delivery import events as e
from pithead.delivery.blueprint import Blueprint, TestPlan
from pithead.delivery.decisions import error_stage, fail_stage
from pithead.delivery.events import Payload
from pithead.delivery.ledger import Ledger
from pithead.delivery.logbook import LogBook, StageLog
from pithead.delivery.ports import (
    Artifact,
    BackendError,
    Builder,
    CheckFailed,
    Command,
    CommandRunner,
    PortError,
    Source,
)
from pithead.delivery.state import Release, ServiceState, StageRun

ENDED_BY = frozenset(
    {
        signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGBUS, signal.SIGKILL, signal.SIGSEGV,
        signal.SIGPIPE, signal.SIGTERM,
    }
)  # fmt: skip
"""Signals that end a program from outside or by a fault of the machine's: an exit status of 255 is none of them."""
CANNOT_RUN = {126: "the command is not executable", 127: "the command was not found"}


class StageRunner:
    """Runs one attempt of one stage and records how it ended. Cancelling it ends the stage's processes."""

    def __init__(
        self,
        ledger: Ledger,
        book: LogBook,
        blueprint: Blueprint,
        source: Source,
        builder: Builder,
        commands: CommandRunner,
        clean: Callable[[str], str],
    ) -> None:
        self._ledger, self._book, self._blueprint = ledger, book, blueprint
        self._source, self._builder, self._commands = source, builder, commands
        self._clean = clean

    async def run(self, release: Release, stage: StageRun) -> None:
        log = StageLog(self._book, release.number, stage.name, stage.attempt, self._clean)
        try:
            ended = await self._outcome(release, stage, log)
        finally:
            await log.close()
        await self._ledger.about_release(release.number, lambda state: self._if_still(state, stage, ended))

    def _if_still(
        self, state: ServiceState, stage: StageRun, ended: Callable[[ServiceState], Sequence[Payload]]
    ) -> Sequence[Payload]:
        """Nothing, when the release moved on while the stage was ending."""
        running = state.in_flight.running_stage if state.in_flight else None
        is_same = running is not None and (running.name, running.attempt) == (stage.name, stage.attempt)
        return ended(state) if is_same and state.in_flight and not state.in_flight.returning else ()

    async def _outcome(
        self, release: Release, stage: StageRun, log: StageLog
    ) -> Callable[[ServiceState], Sequence[Payload]]:
        try:
            if stage.kind == "build":
                artifact = await self._build(release, log)
                return lambda _: (e.ArtifactBuilt(artifact), e.StageEnded(stage.name, stage.attempt, "passed"))
            detail = await self._test(release, stage, log)
            return lambda _: (e.StageEnded(stage.name, stage.attempt, "passed", detail),)
        except CheckFailed as error:
            words = await self._told(log, error)
            return lambda state: fail_stage(state, stage, words)
        except BackendError as error:
            words = await self._told(log, error)
            return lambda _: error_stage(stage, self._blueprint, words)
        except Exception as error:
            # Whatever a backend raises, it counts as a broken tool: begun again and again, it would look like running.
            if not isinstance(error, OSError):
                traceback.print_exc()
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            words = await self._told(log, BackendError(f"{said}."))
            return lambda _: error_stage(stage, self._blueprint, words)

    async def _told(self, log: StageLog, error: PortError) -> str:
        words = self._clean(str(error))
        await log.write([f"» {line}" for line in words.splitlines()])
        return words.splitlines()[0][:500] if words else "it failed without a word."

    async def _build(self, release: Release, log: StageLog) -> Artifact:
        if release.kind == "rollback":
            known = self._known_artifact(release)
            found = await self._builder.find(known.digest) if known else None
            if found is not None:
                await log.write([f"the artifact of release {release.to} is still there: {found.digest}"])
                return found
        async with self._source.checkout(release.commit) as folder:
            artifact = await self._builder.build(release.commit, folder, log)
        await log.write([f"artifact {artifact.digest} ({artifact.size_bytes:,} bytes)"])
        return artifact

    def _known_artifact(self, release: Release) -> Artifact | None:
        target = self._ledger.state.release(release.to) if release.to is not None else None
        return target.artifact if target else None

    async def _test(self, release: Release, stage: StageRun, log: StageLog) -> str:
        test = self._blueprint.test(stage.name)
        if test is None:
            raise BackendError(f"the config has no test called {stage.name!r} any more.", "Put it back, or abort.")
        async with AsyncExitStack() as stack:
            folder = await stack.enter_async_context(self._source.checkout(release.commit))
            command = Command(
                test.line,
                folder,
                test.timeout_seconds,
                {**test.environment, "PITHEAD_COMMIT": release.commit, "PITHEAD_RELEASE": str(release.number)},
            )
            return await self._try(test, command, log)

    async def _try(self, test: TestPlan, command: Command, log: StageLog) -> str:
        for attempt in range(test.retries + 1):
            if attempt:
                await log.write([f"» retry {attempt} of {test.retries}"])
            try:
                status = await self._commands.run(command, log)
            except CheckFailed:
                if attempt == test.retries:
                    raise
                continue
            if status == 0:
                return f"passed at retry {attempt} of {test.retries}" if attempt else ""
            if status in CANNOT_RUN:
                raise BackendError(f"{CANNOT_RUN[status]} (exit status {status}): {test.line}")
            number = -status if status < 0 else status - 128
            if number in ENDED_BY:
                raise BackendError(f"{test.line} was ended by signal {number}, not by itself.")
        raise CheckFailed(f"{test.line} ended with exit status {status}.")
