"""The sequence store on Redis or a server that speaks its protocol."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from service.errors import StoreUnavailableError
from service.store.protocol import TOMBSTONE_MS, AppendResult, Clock, Event, Retention, wall_clock_ms
from service.store.record import SequenceRecord, event_line, last_items
from service.store.redis_connection import RedisCommands

_JITTER = 0.05  # share of the time to live: users who came together must not expire together


class RedisStore:
    """One string for each user, in the form of record.py; see `SequenceStore` for the contract.

    A packed string takes a twentieth of the memory of a sorted set, and each operation is one command on
    one key: GET, SET, or one script. So it works in a cluster, and no other client sees a state between.
    """

    def __init__(self, server: RedisCommands, retention: Retention, *, clock: Clock = wall_clock_ms) -> None:
        self._server = server
        self._script = files("service.store").joinpath("append.lua").read_text(encoding="utf-8")
        self._script_digest = sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        self._retention = retention
        self._clock = clock

    async def append(self, user_id: str, events: Sequence[Event]) -> AppendResult:
        """See `SequenceStore.append`."""
        ttl_ms = int(self._retention.ttl_ms * random.uniform(1, 1 + _JITTER))  # noqa: S311  # not a secret
        arguments: list[int | str] = [self._clock(), ttl_ms, self._retention.max_events, TOMBSTONE_MS]
        for event in events:
            arguments += (event.time_ms, event.event_id or "", event_line(event))
        async with _failures():
            return AppendResult(*await self._run_script(_key(user_id), arguments))

    async def read(self, user_id: str, limit: int) -> list[Event]:
        """See `SequenceStore.read`."""
        async with _failures():
            record = await self._execute("GET", _key(user_id))
            return [] if record is None else SequenceRecord.decode(record).last(limit)

    async def read_items(self, user_ids: Sequence[str], limit: int) -> list[list[str]]:
        """See `SequenceStore.read_items`."""
        async with _failures():
            records = await self._server.execute([("GET", _key(user_id)) for user_id in user_ids])
            return [[] if record is None else last_items(record, limit) for record in records]

    async def delete(self, user_id: str) -> None:
        """See `SequenceStore.delete`."""
        tombstone = SequenceRecord(deleted_at_ms=self._clock()).encode()
        async with _failures():
            await self._execute("SET", _key(user_id), tombstone, "PX", TOMBSTONE_MS)

    def shard_of(self, user_id: str) -> str:
        """See `SequenceStore.shard_of`."""
        return self._server.node_of(_key(user_id))

    async def ping(self) -> None:
        """See `SequenceStore.ping`."""
        async with _failures():
            await self._execute("PING")

    async def close(self) -> None:
        """See `SequenceStore.close`."""
        await self._server.close()

    async def _execute(self, *command: str | bytes | int) -> Any:
        return (await self._server.execute([command]))[0]

    async def _run_script(self, key: str, arguments: Sequence[int | str]) -> Any:
        try:
            return await self._execute("EVALSHA", self._script_digest, 1, key, *arguments)
        except NoScriptError:  # a new server, or one that forgot: nothing has happened yet
            return await self._execute("EVAL", self._script, 1, key, *arguments)


def _key(user_id: str) -> str:
    return f"recjpq:sequence:{{{user_id}}}"  # the braces: what a cluster hashes


@asynccontextmanager
async def _failures() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError, ValueError) as error:
        raise StoreUnavailableError(f"Redis: {type(error).__name__}: {error}") from error
