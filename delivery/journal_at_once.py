"""The quickest way of one command into the journal, for those that stop harm.

Importing SQLAlchemy takes a quarter of a second, which is most of what `pithead abort` would need until its command is
written. This does what `Journal.append` does, in the same transaction, with what Python brings along; it serves only a
SQLite journal that is there already. Everything else is `Journal`'s.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from pithead.delivery.events import Wish, encode, kind_of


def append_at_once(url: str, service: str, actor: str, wish: Wish, is_about_release: bool) -> int | None:
    """The seq of the command, durable; None when this way does not serve and nothing was written.

    `is_about_release`: the command is about the release that was started last, if that one has not ended.
    """
    if not url.startswith("sqlite:///") or "?" in url or "%" in url:
        return None
    path = Path(url.removeprefix("sqlite:///"))
    if not path.is_file():
        return None
    try:
        connection = sqlite3.connect(path, timeout=15.0, isolation_level=None)
    except sqlite3.Error:
        return None
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        seq = _append(connection, service, actor, wish, is_about_release)
        connection.execute("COMMIT" if seq is not None else "ROLLBACK")
        return seq
    except (sqlite3.Error, UnicodeError):
        return None  # a commit that failed left nothing; Journal says what is wrong
    finally:
        connection.close()


def _append(connection: sqlite3.Connection, service: str, actor: str, wish: Wish, is_about_release: bool) -> int | None:
    number = _last_started(connection, service) if is_about_release else None
    if is_about_release and number is None:
        return None
    connection.execute("UPDATE heads SET seq = seq + 1 WHERE service = ?", (service,))
    row = connection.execute("SELECT seq FROM heads WHERE service = ?", (service,)).fetchone()
    if row is None:
        return None
    connection.execute(
        "INSERT INTO events (service, seq, release, at, actor, cause, kind, data) VALUES (?, ?, ?, ?, ?, NULL, ?, ?)",
        (service, row[0], number, time.time(), actor, kind_of(wish), encode(wish)),
    )
    return int(row[0])


def _last_started(connection: sqlite3.Connection, service: str) -> int | None:
    """The number of the release that was started last; None when there is none, or it has ended."""
    row = connection.execute("SELECT max(release) FROM events WHERE service = ?", (service,)).fetchone()
    if row is None or row[0] is None:
        return None
    kinds = {
        kind
        for (kind,) in connection.execute(
            "SELECT DISTINCT kind FROM events WHERE service = ? AND release = ?"
            " AND kind IN ('release_queued', 'release_started', 'release_ended')",
            (service, row[0]),
        )
    }
    return int(row[0]) if kinds == {"release_started"} else None
