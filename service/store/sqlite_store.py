"""The sequence store in one SQLite file: the default, because nothing needs installing."""

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, Self, TypeVar

from service.errors import StoreSchemaError, StoreUnavailableError
from service.store.protocol import TOMBSTONE_MS, AppendResult, Clock, Event, Retention, wall_clock_ms
from service.store.record import SequenceRecord, last_items

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
_QUICK_USERS = 4  # on the event loop at once; more are worth a hop to the thread
_SLOW_S = 0.002  # a read that took longer went to the disk, or another process had the processor
_SLOW_READS = 3  # in a row: the disk
_SLOW_PAUSE_S = 1.0
_MOST_WRITES = 64  # in one transaction: whoever comes next waits for all of it
_READ = "SELECT record FROM sequences WHERE user_id = ? AND expires_at_ms > ?"


class SqliteStore:
    """One row for each user, in the form of record.py; see `SequenceStore` for the contract.

    Writes happen in one thread, on a connection of their own, so that a read never waits for a flush to
    disk. Write-ahead log with full synchronisation: a write that returned survives the loss of the process
    and of power. Writes that come together share one transaction, and with it one flush.

    One user is read on the event loop: 10 us, where a hop to a thread and back takes 100 us of processor
    time (docs/log.md). Nothing can make it wait but the disk: writers do not block readers, and a file
    that is locked whole is left to the reading thread. After a few reads in a row that took long, because
    the file is not in memory, all go to that thread for a while: a slow disk does not stop the loop.
    """

    def __init__(
        self,
        writer: sqlite3.Connection,
        reader: sqlite3.Connection,
        quick_reader: sqlite3.Connection,
        retention: Retention,
        *,
        lock_timeout_s: float,
        clock: Clock = wall_clock_ms,
    ) -> None:
        self._writer, self._reader, self._quick_reader = writer, reader, quick_reader
        self._quick_from_s, self._slow_reads = 0.0, 0
        self._lock_timeout_s = lock_timeout_s
        self._waiting: list[_Write] = []
        self._writing: asyncio.Task[None] | None = None
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
            writer.execute("PRAGMA busy_timeout = 0")  # see _begin
            reader, quick_reader = _connect(path, lock_timeout_s), _connect(path, 0)
            for connection in (reader, quick_reader):
                connection.execute("PRAGMA query_only = ON")
        except (sqlite3.Error, OSError) as error:
            raise StoreSchemaError(
                f"{path}: cannot be opened as a sequence store ({error}); name another file in "
                "RECJPQ_STORE_URL, or make this one readable and writable"
            ) from error
        return cls(writer, reader, quick_reader, retention, lock_timeout_s=lock_timeout_s, clock=clock)

    async def append(self, user_id: str, events: Sequence[Event]) -> AppendResult:
        """See `SequenceStore.append`."""
        return await self._write(lambda: self._append(user_id, events))

    async def read(self, user_id: str, limit: int) -> list[Event]:
        """See `SequenceStore.read`."""
        return await _in(self._read_thread, lambda: self._load(self._reader, user_id).last(limit))

    async def read_items(self, user_ids: Sequence[str], limit: int) -> list[list[str]]:
        """See `SequenceStore.read_items`."""
        if len(user_ids) <= _QUICK_USERS and monotonic() >= self._quick_from_s:
            try:
                return self._read_quickly(user_ids, limit)
            except (sqlite3.Error, ValueError):  # locked: the thread may wait, the loop may not
                pass
        return await _in(self._read_thread, lambda: self._read_items(self._reader, user_ids, limit))

    async def delete(self, user_id: str) -> None:
        """See `SequenceStore.delete`."""
        await self._write(lambda: self._delete(user_id))

    def shard_of(self, user_id: str) -> str:  # noqa: ARG002  # the contract's signature
        """See `SequenceStore.shard_of`."""
        return ""

    async def ping(self) -> None:
        """See `SequenceStore.ping`."""
        await _in(self._read_thread, lambda: self._reader.execute("SELECT 1").fetchone())

    async def close(self) -> None:
        """See `SequenceStore.close`."""
        if self._writing is not None:
            await self._writing
        await asyncio.to_thread(self._close)

    async def _write(self, change: Callable[[], T]) -> T:
        """Wait for a change's transaction; changes that come while one is written share the next."""
        write = _Write(change, asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_waiting())
        result: T = await write.done
        return result

    async def _write_waiting(self) -> None:
        while writes := self._waiting[:_MOST_WRITES]:
            del self._waiting[: len(writes)]
            outcomes: list[Any]
            try:
                commit = partial(self._commit, [write.change for write in writes])
                outcomes = await _in(self._write_thread, commit)
            except Exception as error:  # whatever it is, those who wait must hear of it
                outcomes = [error] * len(writes)
            for write, outcome in zip(writes, outcomes, strict=True):
                write.end(outcome)
        self._writing = None

    def _commit(self, changes: Sequence[Callable[[], Any]]) -> list[Any]:
        """Make changes in one transaction; return their results, or the ValueErrors of those that have one.

        A change writes last of all, so that one that fails on its own has changed nothing. Any failure of
        SQLite's undoes all of them.
        """
        outcomes: list[Any] = []
        with self._transaction():
            for change in changes:
                try:
                    outcomes.append(change())
                except ValueError as error:
                    outcomes.append(_unavailable(error))
        return outcomes

    def _read_quickly(self, user_ids: Sequence[str], limit: int) -> list[list[str]]:
        started = monotonic()
        items = self._read_items(self._quick_reader, user_ids, limit)
        ended = monotonic()
        self._slow_reads = self._slow_reads + 1 if ended - started > _SLOW_S else 0
        if self._slow_reads >= _SLOW_READS:
            self._slow_reads, self._quick_from_s = 0, ended + _SLOW_PAUSE_S
        return items

    def _read_items(
        self, connection: sqlite3.Connection, user_ids: Sequence[str], limit: int
    ) -> list[list[str]]:
        # A statement for each user: a few microseconds, and one for many would be compiled for each number.
        records = (self._record(connection, user_id) for user_id in user_ids)
        return [[] if record is None else last_items(record, limit) for record in records]

    def _append(self, user_id: str, events: Sequence[Event]) -> AppendResult:
        record = self._load(self._writer, user_id)
        result = record.append(events, self._retention.max_events, self._clock())
        if result.stored:
            self._save(user_id, record, self._retention.ttl_ms)
        return result

    def _delete(self, user_id: str) -> None:
        self._save(user_id, SequenceRecord(deleted_at_ms=self._clock()), TOMBSTONE_MS)

    def _load(self, connection: sqlite3.Connection, user_id: str) -> SequenceRecord:
        record = self._record(connection, user_id)
        return SequenceRecord() if record is None else SequenceRecord.decode(record)

    def _record(self, connection: sqlite3.Connection, user_id: str) -> bytes | None:
        row: tuple[bytes] | None = connection.execute(_READ, (user_id, self._clock())).fetchone()
        return None if row is None else row[0]

    def _save(self, user_id: str, record: SequenceRecord, ttl_ms: int) -> None:
        self._writer.execute(_WRITE, (user_id, self._clock() + ttl_ms, record.encode()))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._begin()
        try:
            yield
            self._writer.execute(_SWEEP, (self._clock(),))
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:  # SQLite itself rolls back on a full disk
                self._writer.execute("ROLLBACK")
            raise

    def _begin(self) -> None:
        """Take the write lock, for which other processes ask too.

        SQLite itself looks again after up to 100 ms, so that who has waited long loses to who has not:
        two busy processes had failures after a second.
        """
        ends = monotonic() + self._lock_timeout_s
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() >= ends:
                    raise
            else:
                return
            time.sleep(random.uniform(0.0002, 0.001))  # noqa: S311  # not a secret

    def _close(self) -> None:
        self._write_thread.shutdown()
        self._read_thread.shutdown()
        self._reader.close()
        self._quick_reader.close()
        self._writer.close()


class _Write(NamedTuple):
    """A change that waits for its transaction."""

    change: Callable[[], Any]
    done: asyncio.Future[Any]

    def end(self, outcome: Any) -> None:
        """Tell whoever waits, if anyone still does."""
        if self.done.done():
            return
        if isinstance(outcome, Exception):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


async def _in(thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    with _failures():
        return await asyncio.get_running_loop().run_in_executor(thread, work)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, ValueError) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> StoreUnavailableError:
    return StoreUnavailableError(f"SQLite: {type(error).__name__}: {error}")


def _connect(path: str, lock_timeout_s: float) -> sqlite3.Connection:
    # check_same_thread: each connection is used by one thread, but opened and closed by others.
    connection = sqlite3.connect(path, timeout=lock_timeout_s, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    """Create the schema in a new file; refuse one that this release does not know."""
    version = _version(connection)
    if version == 0:  # only then: other processes may write without pause, and hold the lock
        connection.execute("BEGIN IMMEDIATE")
        version = _version(connection)
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
