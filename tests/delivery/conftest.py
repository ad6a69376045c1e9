"""What the tests of the domain share: databases to keep a journal in, processes that end with their test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import backends_in_memory as memory
import pytest
import sqlalchemy

from pithead.delivery import events as e
from pithead.delivery import lease
from pithead.delivery.blueprint import Blueprint, TestPlan
from pithead.delivery.events import Event, NewEvent, Payload, StepPlan, Wish
from pithead.delivery.journal import Journal
from pithead.delivery.ports import MetricSpec
from pithead.delivery.runner import Backends, Runner
from pithead.delivery.state import ServiceState

ACCOUNT = "postgres"
SETTINGS = ("-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.needs_postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database: the suite runs on each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/journal.db"
    create: Callable[[], str] = request.getfixturevalue("create_postgres_database")
    return create()


@pytest.fixture
def open_journal() -> Iterator[Callable[..., Journal]]:
    """Opens journals, and closes them when the test is over."""
    with contextlib.ExitStack() as stack:

        def opened(url: str, service: str = "shop") -> Journal:
            return stack.enter_context(contextlib.closing(Journal(url, service)))

        yield opened


@pytest.fixture
def journal(database: str, open_journal: Callable[..., Journal]) -> Journal:
    return open_journal(database)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state/journal.db"


@pytest.fixture
def sqlite_journal(sqlite_url: str, open_journal: Callable[..., Journal]) -> Journal:
    return open_journal(sqlite_url)


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Runs a Python script in a process of its own, with pipes; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(  # type: ignore[call-overload]
            [sys.executable, "-c", script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(process)
        return process  # type: ignore[no-any-return]

    yield start
    for process in started:
        process.kill()
        process.communicate()


# ── PostgreSQL ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A server of our own in a temporary folder, reached through a socket in it; gone with the session."""
    binaries = _postgres_binaries()
    if binaries is None:
        _cannot("PostgreSQL's initdb and postgres are not installed")
    folder = Path(tempfile.mkdtemp(prefix="pithead-pg-"))
    account = _account(folder)
    try:
        words = ("-U", ACCOUNT, "-A", "trust", "-E", "UTF8", "--no-sync")
        initdb = [str(binaries / "initdb"), "-D", str(folder / "data"), *words]
        subprocess.run(initdb, check=True, capture_output=True, **account)
        server = subprocess.Popen(
            [binaries / "postgres", "-D", folder / "data", "-k", folder, *SETTINGS],
            stdout=subprocess.DEVNULL,
            stderr=(folder / "server.log").open("wb"),
            text=False,
            **account,
        )
        try:
            url = f"postgresql+psycopg://{ACCOUNT}@/{{}}?host={folder}"
            _wait_until_it_answers(url.format("postgres"), server, folder / "server.log")
            yield url
        finally:
            server.terminate()  # "smart" shutdown waits for clients, and pools may still hold some
            try:
                server.wait(2)
            except subprocess.TimeoutExpired:
                server.send_signal(3)  # SIGQUIT: at once, with all its children
                server.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def create_postgres_database(postgres_server: str) -> Iterator[Callable[[], str]]:
    admin = sqlalchemy.create_engine(postgres_server.format("postgres"), isolation_level="AUTOCOMMIT")
    names: list[str] = []

    def create() -> str:
        names.append(f"t{uuid.uuid4().hex}")
        with admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {names[-1]}")
        return postgres_server.format(names[-1])

    yield create
    with admin.connect() as connection:
        for name in names:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()


def _postgres_binaries() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


def _account(folder: Path) -> dict[str, Any]:
    """initdb refuses to run as root: then the server runs under the account that came with its package."""
    if os.geteuid() != 0:
        return {}
    try:
        shutil.chown(folder, ACCOUNT, ACCOUNT)
    except LookupError:
        _cannot(f"root needs an account called {ACCOUNT} to run PostgreSQL under")
    return {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": [], "cwd": "/"}


def _wait_until_it_answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    while True:
        try:
            with engine.connect():
                return
        except sqlalchemy.exc.OperationalError:
            if server.poll() is not None:
                raise RuntimeError(log.read_text()) from None
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(0.05)


def _cannot(reason: str) -> NoReturn:
    """A visible skip; in CI, which is meant to have the service, a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


# ── a runner with backends in memory ─────────────────────────────────────────────────────────────────────────────


class Works:
    """A service with a journal on disk, backends in memory, an operator called ann, and a runner that can be started,
    stopped in order, or cut off in the middle."""

    def __init__(self, folder: Path, commits: int = 6) -> None:
        self.url = f"sqlite:///{folder}/state/journal.db"
        self.desk = Journal(self.url, "shop")
        self.source = memory.Source(folder / "checkouts", commits)
        self.builder, self.commands, self.target = memory.Builder(), memory.Commands(), memory.Target()
        self.metrics = memory.Metrics(self.target)
        self.blueprint = Blueprint(
            tests=(TestPlan("unit", "make test"),),
            steps=(StepPlan(10, 0.04), StepPlan(50, 0.04)),
            bake_seconds=0.04,
            interval_seconds=0.02,
            metrics=(MetricSpec("errors", "ratio", min_samples=50),),
        )
        self.runner: Runner | None = None
        self._task: asyncio.Task[None] | None = None
        self._journal: Journal | None = None
        self._holder: lease.Holder | None = None

    async def start(self, journal: Journal | None = None) -> None:
        """A new runner: takes the lease, folds, goes to work."""
        self._journal = journal or Journal(self.url, "shop")
        self._holder = lease.take(self._journal, "runner-under-test")
        assert self._holder is not None, "another runner has the lease"
        backends = Backends(self.source, self.builder, self.commands, self.target, self.metrics)
        state = await asyncio.to_thread(self._journal.fold)
        self.runner = Runner(self._journal, self._holder, state, self.blueprint, backends)
        self._task = asyncio.ensure_future(self.runner.run("0"))

    async def stop(self, reason: str | None = "told to") -> None:
        """In order, or without a word when there is no reason."""
        if self._task is None or self._journal is None or self._holder is None or self.runner is None:
            return
        task, self._task = self._task, None
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=20)
        assert done, "the runner does not end"
        if reason is not None:
            await self.runner.say_goodbye(reason)
        lease.give_up(self._journal, self._holder)
        self._journal.close()
        if not task.cancelled():
            task.result()

    async def ended(self) -> None:
        """When the runner ended by itself."""
        assert self._task is not None
        await asyncio.wait_for(asyncio.shield(self._task), 20)

    @property
    def state(self) -> ServiceState:
        assert self.runner is not None
        return self.runner.ledger.state

    async def until(self, condition: Callable[[ServiceState], object], seconds: float = 20.0) -> ServiceState:
        """Waits for the state; fails with the journal's story, and with what ended the runner, if any did."""
        assert self.runner is not None
        assert self._task is not None
        wait = asyncio.ensure_future(self.runner.ledger.until(lambda state: bool(condition(state))))
        done, _ = await asyncio.wait({wait, self._task}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if wait not in done:
            wait.cancel()
            if self._task.done():
                self._task.result()
            raise AssertionError("it never came to that:\n" + "\n".join(self.story()))
        return self.state

    async def press(self, wish: Wish, release: int | None = None) -> list[Event]:
        """Gives the command as an operator does, and returns the events that answered it."""
        (asked,) = await asyncio.to_thread(self.desk.append, [NewEvent("ann", wish, release)])
        await self.until(lambda s: s.seq >= asked.seq and all(u.seq != asked.seq for u in s.unanswered))
        return [event for event in self.desk.read(asked.seq) if event.cause == asked.seq]

    def release_live(self, number: int = 1) -> None:
        """As if commit `number` had gone live as release `number`, before this test."""
        made = memory.artifact(number)
        started = e.ReleaseStarted(
            "forward",
            made.commit,
            f"Change {number}",
            None,
            (made.commit,),
            (e.StagePlan("rollout", "rollout"),),
            (),
            0.0,
        )
        facts = (started, e.ArtifactBuilt(made), e.WentLive(made), e.ReleaseEnded("promoted"))
        self.desk.append([NewEvent("runner", fact, number) for fact in facts])
        self.target.stable = made
        self.builder.kept[made.digest] = made

    def events(self) -> list[Event]:
        return self.desk.read(0)

    def payloads(self, *kinds: type) -> list[Payload]:
        return [event.payload for event in self.events() if isinstance(event.payload, kinds)]

    def story(self) -> list[str]:
        dull = (e.PendingObserved, e.TargetObserved)
        return [
            f"{event.seq:4} {event.release or '-'} {event.actor}: {event.payload}"
            for event in self.events()
            if not isinstance(event.payload, dull)
        ]


@pytest.fixture
async def works(tmp_path: Path) -> AsyncIterator[Works]:
    """Release 1, of commit 1, is live; commits 2 to 6 await release. The runner is not started."""
    made = Works(tmp_path)
    made.release_live(1)
    yield made
    await made.stop(None)
    made.desk.close()


@pytest.fixture
async def fresh_works(tmp_path: Path) -> AsyncIterator[Works]:
    """Nothing was ever released."""
    made = Works(tmp_path)
    yield made
    await made.stop(None)
    made.desk.close()
