"""The journal's tables. Events, log lines and samples each have their own, so that volume never stands before an event."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

# BIGINT everywhere but in SQLite, where only INTEGER PRIMARY KEY counts up by itself.
_ROW_ID = BigInteger().with_variant(Integer, "sqlite")

heads = Table(
    "heads",
    metadata,
    Column("service", String(80), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    comment="The last seq of each service. Its row is the lock that makes the order total.",
)

events = Table(
    "events",
    metadata,
    Column("service", String(80), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("release", Integer),
    Column("at", Float(53), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("cause", BigInteger),
    Column("kind", String(60), nullable=False),
    Column("data", Text, nullable=False),
    Index("events_by_release", "service", "release", "seq"),
    sqlite_with_rowid=False,
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("service", String(80), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", LargeBinary, nullable=False),
    comment="The fold up to seq, kept so that opening is quick. Deleting it loses nothing.",
)

logs = Table(
    "logs",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("service", String(80), nullable=False),
    Column("release", Integer, nullable=False),
    Column("stage", String(80), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("at", Float(53), nullable=False),
    Column("body", Text, nullable=False),
    Index("logs_by_stage", "service", "release", "stage", "attempt", "first"),
    comment="A row is a batch of lines: `first` is the number of its first line, from 0.",
)

samples = Table(
    "samples",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("service", String(80), nullable=False),
    Column("release", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Float(53), nullable=False),
    Column("metric", String(80), nullable=False),
    Column("data", Text, nullable=False),
    Index("samples_by_release", "service", "release", "id"),
    comment="One scrape of one metric: both arms' readings and the judgement made of all so far, as JSON.",
)

leases = Table(
    "leases",
    metadata,
    Column("service", String(80), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", String(200), nullable=False),
    Column("host", String(200), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("born", Float(53), nullable=False),
    Column("expires_at", Float(53), nullable=False),
    comment="Who runs the service. `epoch` grows with every new holder and fences the events of the one before.",
)
