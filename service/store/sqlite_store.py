"""The sequence store in one SQLite file: the default, because nothing needs installing."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

from service.errors import StoreSchemaError, StoreUnavailableError
from service.store.protocol import TOMBSTONE_MS, AppendResult, Clock, Event, Retention, wall_clock_ms
from service.store.record import SequenceRecord

T = TypeVar("T")

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE sequences (
    user_id TEXT PRIMARY KEY,
    expires_at_ms INTEGER NOT NULL,
    record BLOB NOT NULL
);
CREATE INDEX sequences_by_expiry ON sequences (expires_at_ms);
"""
_SWEEP = """
DELETE FROM sequences WHERE user_id IN (
    SELECT user_id FROM sequences WHERE expires_at_ms <= ? LIMIT 16
)
"""  # a few with each write: expired users and tombstones go faster than new ones come, with no timer
_WRITE = """
INSERT INTO sequences (user_id, expires_at_ms, record) VALUES (?, ?, ?)
ON CONFLICT (user_id) DO UPDATE SET expires_at_ms = excluded.expires_at_ms, record = excluded.record
"""
_READ = "SELECT record FROM sequences WHERE user_id = ? AND expires_at_ms > ?"


class SqliteStore:
    """One row for each user, in the form of record.py; see `SequenceStore` for the contract.

    Writes happen in one thread, reads in another, each on its own connection, so that a read never waits
    for a flush to disk. Write-ahead log with full synchronisation: a write that returned survives the loss
    of the process and of power.
    """

    def __init__(
        self,
        writer: sqlite3.Connection,
        reader: sqlite3.Connection,
        retention: Retention,
        clock: Clock = wall_clock_ms,
    ) -> None:
        self._writer, self._reader = writer, reader
        self._write_thread = ThreadPoolExecutor(1, "store-write")
        self._read_thread = ThreadPoolExecutor(1, "store-read")
        self._retention = retention
        self._clock = clock

    @classmethod
    def open(
        cls, path: str, retention: Retention, *, lock_timeout_s: float, clock: Clock = wall_clock_ms
    ) -> Self:
        """Open the file, or create it and its directory.

        Raises:
            StoreSchemaError: it is not a store, is from a newer release, or cannot be opened.
        """
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            writer = _connect(path, lock_timeout_s)
            _prepare(writer, path)
            reader = _connect(path, lock_timeout_s)
            reader.execute("PRAGMA query_only = ON")
        except (sqlite3.Error, OSError) as error:
            raise StoreSchemaError(
                f"{path}: cannot be opened as a sequence store ({error}); name another file in "
                "RECJPQ_STORE_URL, or make this one readable and writable"
            ) from error
        return cls(writer, reader, retention, clock)

    async def append(self, user_id: str, events: Sequence[Event]) -> AppendResult:
        """See `SequenceStore.append`."""
        return await _in(self._write_thread, lambda: self._append(user_id, events))

    async def read(self, user_id: str, limit: int) -> list[Event]:
        """See `SequenceStore.read`."""
        return await _in(self._read_thread, lambda: self._load(self._reader, user_id).events[-limit:])

    async def read_many(self, user_ids: Sequence[str], limit: int) -> list[list[Event]]:
        """See `SequenceStore.read_many`."""
        return await _in(self._read_thread, lambda: self._read_many(user_ids, limit))

    async def delete(self, user_id: str) -> None:
        """See `SequenceStore.delete`."""
        await _in(self._write_thread, lambda: self._delete(user_id))

    async def ping(self) -> None:
        """See `SequenceStore.ping`."""
        await _in(self._read_thread, lambda: self._reader.execute("SELECT 1").fetchone())

    async def close(self) -> None:
        """See `SequenceStore.close`."""
        await asyncio.to_thread(self._close)

    def _read_many(self, user_ids: Sequence[str], limit: int) -> list[list[Event]]:
        # One short statement a user: without the hop to the thread such a read is a few microseconds, and a
        # statement with any number of parameters would have to be compiled for each number.
        return [self._load(self._reader, user_id).events[-limit:] for user_id in user_ids]

    def _append(self, user_id: str, events: Sequence[Event]) -> AppendResult:
        with self._transaction():
            record = self._load(self._writer, user_id)
            result = record.append(events, self._retention.max_events, self._clock())
            if result.stored:
                self._save(user_id, record, self._retention.ttl_ms)
        return result

    def _delete(self, user_id: str) -> None:
        with self._transaction():
            self._save(user_id, SequenceRecord(deleted_at_ms=self._clock()), TOMBSTONE_MS)

    def _load(self, connection: sqlite3.Connection, user_id: str) -> SequenceRecord:
        row = connection.execute(_READ, (user_id, self._clock())).fetchone()
        return SequenceRecord() if row is None else SequenceRecord.decode(row[0])

    def _save(self, user_id: str, record: SequenceRecord, ttl_ms: int) -> None:
        self._writer.execute(_WRITE, (user_id, self._clock() + ttl_ms, record.encode()))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute(_SWEEP, (self._clock(),))
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:  # SQLite itself rolls back on a full disk
                self._writer.execute("ROLLBACK")
            raise

    def _close(self) -> None:
        self._write_thread.shutdown()
        self._read_thread.shutdown()
        self._reader.close()
        self._writer.close()


async def _in(thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
    except (sqlite3.Error, ValueError) as error:
        raise StoreUnavailableError(f"SQLite: {type(error).__name__}: {error}") from error


def _connect(path: str, lock_timeout_s: float) -> sqlite3.Connection:
    # check_same_thread: each connection is used by one thread, but opened and closed by others.
    connection = sqlite3.connect(path, timeout=lock_timeout_s, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    """Create the schema in a new file; refuse one that this release does not know."""
    connection.execute("BEGIN IMMEDIATE")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    if version not in (0, SCHEMA_VERSION):
        connection.close()
        raise StoreSchemaError(
            f"{path}: found store schema {version}, expected {SCHEMA_VERSION}; install the release that "
            "wrote it, or name another file in RECJPQ_STORE_URL"
        )
