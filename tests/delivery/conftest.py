"""What the tests of the domain share: databases to keep a journal in, processes that end with their test."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy

from pithead.delivery.journal import Journal

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
        initdb = [binaries / "initdb", "-D", folder / "data", "-U", ACCOUNT, "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, **account)
        server = subprocess.Popen(
            [binaries / "postgres", "-D", folder / "data", "-k", folder, *SETTINGS],
            stdout=subprocess.DEVNULL,
            stderr=(folder / "server.log").open("wb"),
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


def _account(folder: Path) -> dict[str, object]:
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


def _cannot(reason: str) -> None:
    """A visible skip; in CI, which is meant to have the service, a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
