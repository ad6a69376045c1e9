"""Bells: how a follower of the journal learns, for next to nothing, that there may be something new to read.

A bell may ring for nothing, and then the read that follows finds nothing; it never stays silent for more than a second
when there is something. What a database raises comes through as it is.
"""

from __future__ import annotations

import asyncio
import select as sockets
import sqlite3
import time
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, func, select

from pithead.delivery.journal_tables import heads

CHANNEL = "pithead"
"""On which PostgreSQL tells the followers of a service that it has new events."""


class Bell(Protocol):
    async def rang(self) -> bool:
        """Whether something may have been written since the last look. True at the first one."""

    def close(self) -> None: ...


def bell_of(engine: Engine, service: str) -> Bell:
    if engine.dialect.name == "sqlite":
        return _SqliteBell(str(engine.url.database))
    if engine.dialect.name == "postgresql" and engine.dialect.driver == "psycopg":
        return _PostgresBell(engine, service)
    return _HeadBell(engine, service)


def ring(connection: Connection, service: str) -> None:
    """Rings for the followers of the service, once the connection's transaction stands."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(CHANNEL, service)))


class _SqliteBell:
    """Rings when another connection wrote: `data_version` is a number in shared memory, 5 µs to read."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._version = -1

    async def rang(self) -> bool:
        try:
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.OperationalError:
            return True  # busy: the read that follows waits its turn
        changed, self._version = version != self._version, version
        return changed

    def close(self) -> None:
        self._connection.close()


class _PostgresBell:
    """Rings when the server notified us: looking whether its socket has something costs 10 µs, a query 1 ms. Once a
    second it rings anyway, for a connection pooler in between may keep notifications to itself."""

    def __init__(self, engine: Engine, service: str) -> None:
        self._engine, self._service = engine, service
        self._driver: Any = None
        self._socket = sockets.poll()
        self._rings_anyway_at = 0.0

    async def rang(self) -> bool:
        if self._driver is None:
            self._driver = await asyncio.to_thread(self._listen)
            self._socket.register(self._driver.fileno(), sockets.POLLIN)
            return True
        return self._was_notified() or self._is_due()

    def _listen(self) -> Any:
        connection = self._engine.raw_connection()
        connection.detach()  # it listens: nobody else is to get it from the pool
        driver: Any = connection.dbapi_connection
        driver.autocommit = True
        driver.execute(f"LISTEN {CHANNEL}")
        return driver

    def _was_notified(self) -> bool:
        if not self._socket.poll(0):
            return False
        return self._service in [notice.payload for notice in self._driver.notifies(timeout=0)]

    def _is_due(self) -> bool:
        is_due = time.monotonic() >= self._rings_anyway_at
        if is_due:
            self._rings_anyway_at = time.monotonic() + 1.0
        return is_due

    def close(self) -> None:
        if self._driver is not None:
            self._driver.close()


class _HeadBell:
    """For any other database or driver: rings when the head's row moved, one look-up by primary key."""

    def __init__(self, engine: Engine, service: str) -> None:
        self._engine, self._service = engine, service
        self._head = -1

    async def rang(self) -> bool:
        head = await asyncio.to_thread(self._look)
        changed, self._head = head != self._head, head
        return changed

    def _look(self) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(select(heads.c.seq).where(heads.c.service == self._service)).scalar() or 0)

    def close(self) -> None:
        pass
