"""Stores of every kind, opened and called by tests on one event loop."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from service.store import AppendResult, Event, Retention, SequenceStore
from service.store.redis_cluster import RedisCluster
from service.store.redis_connection import RedisCommands, RedisConnection
from service.store.redis_store import RedisStore
from service.store.sqlite_store import SqliteStore

NOW = 1_800_000_000_000
HOUR = 3_600_000
_users = itertools.count()


class Clock:
    """A clock that stands still until a test moves it."""

    now_ms = NOW

    def __call__(self) -> int:
        return self.now_ms


def new_user() -> str:
    """A user of whom no other test knows."""
    return f"user-{next(_users)}"


class Stores:
    """Opens stores of one kind over the same data, and calls them on one event loop."""

    def __init__(self, runner: asyncio.Runner, make: Callable[..., SequenceStore]) -> None:
        self._runner = runner
        self._make = make
        self._opened: list[SequenceStore] = []

    def open(self, clock: Callable[[], int], max_events: int = 4, ttl_ms: int = 30 * 24 * HOUR) -> "Calls":
        async def make() -> SequenceStore:
            return self._make(Retention(max_events, ttl_ms), clock)

        store = self._runner.run(make())
        self._opened.append(store)
        return Calls(self._runner, store)

    def close(self) -> None:
        while self._opened:
            self._runner.run(self._opened.pop().close())


class Calls:
    """A store whose methods wait for their result."""

    def __init__(self, runner: asyncio.Runner, store: SequenceStore) -> None:
        self.store = store
        self._runner = runner

    def append(self, user: str, *events: Event) -> AppendResult:
        return self._runner.run(self.store.append(user, events))

    def read(self, user: str, limit: int = 1000) -> list[Event]:
        return self._runner.run(self.store.read(user, limit))

    def read_items(self, *users: str, limit: int = 1000) -> Sequence[list[str] | None]:
        return self._runner.run(self.store.read_items(users, limit))

    def delete(self, user: str) -> None:
        self._runner.run(self.store.delete(user))

    def together(self, *calls: Awaitable[Any]) -> list[Any]:
        async def gather() -> list[Any]:
            return await asyncio.gather(*calls)

        return self._runner.run(gather())

    def ping(self) -> None:
        self._runner.run(self.store.ping())


def stores_of(kind: str, runner: asyncio.Runner, redis_servers: Any, directory: Path) -> Stores:
    """Open stores of a kind: SQLite in a directory, or on a shared server."""
    if kind == "sqlite":
        path = directory / "store.sqlite3"

        def make(retention: Retention, clock: Callable[[], int]) -> SequenceStore:
            return SqliteStore.open(str(path), retention, lock_timeout_s=5, clock=clock)
    else:
        url = redis_servers(kind).url

        def make(retention: Retention, clock: Callable[[], int]) -> SequenceStore:
            server: RedisCommands
            if kind == "cluster":
                server = RedisCluster(url, timeout_s=5)
            else:
                server = RedisConnection(url, timeout_s=5)
            return RedisStore(server, retention, clock=clock)

    return Stores(runner, make)


def at(time: int, item: str = "i", event_id: str | None = None) -> Event:
    return Event(item, NOW - 1_000_000 + time, event_id)
