"""The lease: one runner per service. A row in the journal with a heartbeat; whoever takes it over gets a higher epoch,
and the journal refuses events of a lower one. On one host a dead holder is seen at once, without waiting for expiry."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass

import psutil
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from pithead.delivery.journal import Journal
from pithead.delivery.journal_tables import leases

TTL_SECONDS = 10.0
HEARTBEAT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds, or held, the lease. `born` is the process's start, so that a reused pid is not taken for it."""

    epoch: int
    name: str
    host: str
    pid: int
    born: float
    expires_at: float

    def is_alive(self, now: float) -> bool:
        """Whether somebody may still act under it: the process on this host, the time-out from any other."""
        if self.expires_at <= 0:
            return False
        if self.host != socket.gethostname():
            return now < self.expires_at
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.born) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def holder(journal: Journal) -> Holder | None:
    """Who has the lease by the journal's row, alive or not; None when nobody ever had."""
    with journal.reading() as connection:
        row = connection.execute(select(leases).where(leases.c.service == journal.service)).first()
    return None if row is None else Holder(row.epoch, row.holder, row.host, row.pid, row.born, row.expires_at)


def take(journal: Journal, name: str) -> Holder | None:
    """The lease for this process, or None while another living one has it."""
    now = time.time()
    me = psutil.Process()
    with journal.writing() as connection:
        row = connection.execute(select(leases).where(leases.c.service == journal.service).with_for_update()).first()
        if row is not None:
            before = Holder(row.epoch, row.holder, row.host, row.pid, row.born, row.expires_at)
            if before.is_alive(now):
                return None
        mine = Holder(
            epoch=(row.epoch if row else 0) + 1,
            name=name,
            host=socket.gethostname(),
            pid=os.getpid(),
            born=me.create_time(),
            expires_at=now + TTL_SECONDS,
        )
        values = {
            "epoch": mine.epoch,
            "holder": mine.name,
            "host": mine.host,
            "pid": mine.pid,
            "born": mine.born,
            "expires_at": mine.expires_at,
        }
        if row is None:
            try:
                with connection.begin_nested():
                    connection.execute(insert(leases).values(service=journal.service, **values))
            except IntegrityError:
                return None  # another was first with the first lease
        else:
            connection.execute(update(leases).where(leases.c.service == journal.service).values(**values))
    return mine


def renew(journal: Journal, mine: Holder) -> bool:
    """Whether the lease still stands; if so it does for another `TTL_SECONDS`."""
    return _set_expiry(journal, mine, time.time() + TTL_SECONDS)


def give_up(journal: Journal, mine: Holder) -> None:
    """Frees the lease, if it is still ours."""
    _set_expiry(journal, mine, 0.0)


def _set_expiry(journal: Journal, mine: Holder, expires_at: float) -> bool:
    with journal.writing(is_durable=False) as connection:
        done = connection.execute(
            update(leases)
            .where(leases.c.service == journal.service, leases.c.epoch == mine.epoch, leases.c.expires_at > 0)
            .values(expires_at=expires_at)
        )
        return done.rowcount == 1
