"""The journal: an append-only log of events in total order, the one thing that console and runner share.

What it promises. An event has its place the moment `append` returns, is durable then, and never changes. Places are
counted per service, from 1, without gaps, also with many writers and on any database: the row in `heads` is updated
first in each transaction, and whoever holds it is the only one to append. A follower sees an event within 100 ms and
costs next to nothing while nothing happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, Engine, create_engine, delete, event, insert, inspect, select, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError

from pithead.delivery import fold
from pithead.delivery.events import Event, NewEvent, decode, encode, kind_of
from pithead.delivery.journal_bells import bell_of, ring
from pithead.delivery.journal_tables import checkpoints, events, heads, leases, metadata
from pithead.delivery.state import ServiceState

CHECKPOINT_EVERY = 1000
READ_BATCH = 5000
FOLLOW_SECONDS = 0.05
RETRY_SECONDS = 1.0
T = TypeVar("T")


class JournalError(Exception):
    """The journal cannot be read or written; the message says why and the mend."""


class LeaseLostError(JournalError):
    """Another runner took the service over: whoever gets this must stop at once."""


async def persistently(act: Callable[[], Awaitable[T]]) -> T:
    """The act's result; tried again each second while the journal cannot be written."""
    was_told = False
    while True:
        try:
            return await act()
        except LeaseLostError:
            raise
        except JournalError as error:
            if not was_told:
                print(f"{time.strftime('%F %T')} {error} Waiting for it.", file=sys.stderr, flush=True)  # noqa: T201
                was_told = True
            await asyncio.sleep(RETRY_SECONDS)


class Journal:
    """The events of one service in the database at `url`. Safe to use from several threads."""

    def __init__(self, url: str, service: str) -> None:
        self.service = service
        self.url = _parse(url)
        self._state_adapter: TypeAdapter[ServiceState] | None = None
        if self.is_sqlite:
            _make_private_file(self.url)
        self.engine = _engine(self.url)
        self._make_tables()

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def place(self) -> str:
        """Where the journal is, for messages: never with a password."""
        return str(self.url.database) if self.is_sqlite else self.url.render_as_string(hide_password=True)

    def close(self) -> None:
        self.engine.dispose()

    def _make_tables(self) -> None:
        with self.reading() as connection:
            if set(metadata.tables) <= set(inspect(connection).get_table_names()):
                return
        for attempt in (1, 2, 3):
            try:
                with self.writing() as connection:
                    metadata.create_all(connection)
                return
            except JournalError as error:
                if attempt == 3 or "already exists" not in str(
                    error.__cause__
                ):  # somebody else is making them just now
                    raise

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def append(self, new: Sequence[NewEvent], epoch: int | None = None) -> tuple[Event, ...]:
        """Gives the events the next places, all or none, durable on return. With `epoch`, only while that runner's
        lease stands: else LeaseLostError, and nothing is written."""
        if not new:
            return ()
        at = time.time()
        rows = [_row(self.service, at, item) for item in new]
        with self.writing() as connection:
            last = self._advance(connection, len(new))
            if epoch is not None:
                self._check_fence(connection, epoch)
            first = last - len(new) + 1
            connection.execute(insert(events), [{**row, "seq": first + i} for i, row in enumerate(rows)])
            ring(connection, self.service)
        if first // CHECKPOINT_EVERY != (last + 1) // CHECKPOINT_EVERY:
            # The events stand: an error here would make the caller write them once more.
            with contextlib.suppress(JournalError):
                self.checkpoint()
        # Read back from what was written, so that the writer's state cannot differ from everybody else's.
        return tuple(
            Event(first + i, self.service, item.release, at, item.actor, item.cause, decode(row["kind"], row["data"]))
            for i, (item, row) in enumerate(zip(new, rows, strict=True))
        )

    def _advance(self, connection: Connection, count: int) -> int:
        step = update(heads).where(heads.c.service == self.service).values(seq=heads.c.seq + count)
        if connection.execute(step).rowcount == 0:
            try:
                with connection.begin_nested():
                    connection.execute(insert(heads).values(service=self.service, seq=0))
            except IntegrityError:
                pass  # another writer was first with the first event
            connection.execute(step)
        last = connection.execute(select(heads.c.seq).where(heads.c.service == self.service)).scalar_one()
        return int(last)

    def _check_fence(self, connection: Connection, epoch: int) -> None:
        held = connection.execute(select(leases.c.epoch).where(leases.c.service == self.service)).scalar()
        if held != epoch:
            raise LeaseLostError(f"the lease of {self.service} is at epoch {held}, not {epoch}: another runner has it.")

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

    def head(self) -> int:
        """The seq of the last event, 0 when there is none."""
        with self.reading() as connection:
            return int(connection.execute(select(heads.c.seq).where(heads.c.service == self.service)).scalar() or 0)

    def read(self, after: int, limit: int = READ_BATCH) -> list[Event]:
        """Up to `limit` events after seq `after`, in order."""
        query = (
            select(events)
            .where(events.c.service == self.service, events.c.seq > after)
            .order_by(events.c.seq)
            .limit(limit)
        )
        return self._events(query)

    def tail(self, count: int, before: int | None = None) -> list[Event]:
        """The last `count` events (before seq `before`), oldest first."""
        query = select(events).where(events.c.service == self.service)
        if before is not None:
            query = query.where(events.c.seq < before)
        return self._events(query.order_by(events.c.seq.desc()).limit(count))[::-1]

    def of_release(self, number: int) -> list[Event]:
        query = select(events).where(events.c.service == self.service, events.c.release == number)
        return self._events(query.order_by(events.c.seq))

    def _events(self, query: Any) -> list[Event]:
        with self.reading() as connection:
            return [
                Event(r.seq, r.service, r.release, r.at, r.actor, r.cause, decode(r.kind, r.data))
                for r in connection.execute(query)
            ]

    def fold(self, tell: Callable[[int, int], None] | None = None) -> ServiceState:
        """The state after the last event: from the newest checkpoint on. `tell(done, of)` hears of long folds."""
        state = self._checkpointed()
        start, head = state.seq, self.head()
        while state.seq < head:
            batch = self.read(state.seq)
            if not batch:
                break
            state = fold.fold(batch, state)
            if tell and state.seq < head:
                tell(state.seq - start, head - start)
        if state.seq - start > 2 * CHECKPOINT_EVERY:
            with contextlib.suppress(JournalError):  # whoever can only read may read all the same
                self._store(state)
        return state

    def checkpoint(self) -> None:
        """Keeps the fold so far, so that the next reader need not begin at the beginning. Losing it loses time only."""
        self._store(self.fold())

    def _adapter(self) -> TypeAdapter[ServiceState]:
        if self._state_adapter is None:
            self._state_adapter = TypeAdapter(ServiceState)
        return self._state_adapter

    def _checkpointed(self) -> ServiceState:
        with self.reading() as connection:
            row = connection.execute(
                select(checkpoints.c.state).where(
                    checkpoints.c.service == self.service, checkpoints.c.version == fold.VERSION
                )
            ).first()
        if row is None:
            return ServiceState(self.service)
        try:
            return self._adapter().validate_json(row.state)
        except ValidationError:
            return ServiceState(self.service)

    def _store(self, state: ServiceState) -> None:
        data = self._adapter().dump_json(state)
        with self.writing() as connection:
            kept = connection.execute(
                select(checkpoints.c.seq, checkpoints.c.version).where(checkpoints.c.service == self.service)
            ).first()
            if kept is not None and kept.version == fold.VERSION and kept.seq >= state.seq:
                return
            connection.execute(delete(checkpoints).where(checkpoints.c.service == self.service))
            connection.execute(
                insert(checkpoints).values(service=self.service, seq=state.seq, version=fold.VERSION, state=data)
            )

    # ── following ────────────────────────────────────────────────────────────────────────────────────────────────

    async def follow(self, after: int, every: float = FOLLOW_SECONDS) -> AsyncGenerator[list[Event], None]:
        """Batches of events after seq `after`, for ever. Looks each `every` seconds whether the database was written
        to at all, and reads only then."""
        with self.telling():
            bell = bell_of(self.engine, self.service)
        try:
            while True:
                with self.telling():
                    rang = await bell.rang()
                if rang:
                    while batch := await asyncio.to_thread(self.read, after):
                        after = batch[-1].seq
                        yield batch
                await asyncio.sleep(every)
        finally:
            bell.close()

    # ── connections ──────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def writing(self, is_durable: bool = True) -> Iterator[Connection]:
        """A transaction. `is_durable=False` leaves flushing to the next durable one: for log lines and samples."""
        with self.telling(), self.engine.connect() as connection:
            options = connection.execution_options(pithead_writes="durable" if is_durable else "batched")
            with options.begin():
                yield options

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.telling(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Turns what a database raises into a JournalError."""
        try:
            yield
        except (DBAPIError, self.engine.dialect.loaded_dbapi.Error) as error:  # the "begin" event's come unwrapped
            raise JournalError(_explain(self.place, error)) from error


def _row(service: str, at: float, item: NewEvent) -> dict[str, Any]:
    return {
        "service": service,
        "release": item.release,
        "at": at,
        "actor": item.actor,
        "cause": item.cause,
        "kind": kind_of(item.payload),
        "data": encode(item.payload),
    }


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise JournalError(
            "the journal's URL cannot be read. Write it as sqlite:////folder/journal.db or postgresql+psycopg://host/name."
        ) from error


def _make_private_file(url: URL) -> None:
    """The file exists, readable by its owner only, before SQLite opens it: -wal and -shm take its permissions over."""
    if url.database in (None, "", ":memory:"):
        raise JournalError("a journal in memory is nobody else's: name a file, as sqlite:////folder/journal.db.")
    path = Path(str(url.database))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise JournalError(
            f"{path}: the journal cannot be written ({error.strerror}). Give journal.url a place that can be."
        ) from error


def _engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() != "sqlite":
            return create_engine(url, pool_pre_ping=True)
        engine = create_engine(url, connect_args={"timeout": 15.0})
    except (ImportError, NoSuchModuleError) as error:
        raise JournalError(
            f"no driver for {url.drivername} is installed ({error}). For PostgreSQL: pip install 'pithead[postgres]'."
        ) from error
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer that begins as a reader cannot wait for its turn: it fails at once when somebody else wrote meanwhile.
    # NORMAL does not flush at commit (the next FULL one flushes for both) and cannot corrupt the file in WAL mode.
    writes = connection.get_execution_options().get("pithead_writes")
    cursor = connection.connection.cursor()
    try:
        if writes:
            cursor.execute(f"PRAGMA synchronous={'FULL' if writes == 'durable' else 'NORMAL'}")
        cursor.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    finally:
        cursor.close()


def _explain(place: str, error: Exception) -> str:
    words = str(error.orig if isinstance(error, DBAPIError) else error)
    if "disk is full" in words:
        return f"{place}: the disk under the journal is full; nothing was recorded. Free some space, then try again."
    if "readonly" in words or "read-only" in words:
        return f"{place}: the journal cannot be written. Make its folder and file writable for this user."
    if "locked" in words:
        return f"{place}: another program holds the journal for over 15 s. Look for a stuck process that has it open."
    if "not a database" in words or "malformed" in words:
        return f"{place}: this file is damaged, or no journal. Move it away, or name another with journal.url."
    return f"{place}: {words.splitlines()[0] if words else type(error).__name__}"
