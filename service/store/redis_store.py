"""The sequence store on Redis or a server that speaks its protocol."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.errors import StoreUnavailableError
from service.store.protocol import TOMBSTONE_MS, AppendResult, Clock, Event, Retention, wall_clock_ms
from service.store.record import SequenceRecord, event_line

_JITTER = 0.05  # share of the time to live: users who came together must not expire together


class RedisStore:
    """One string for each user, in the form of record.py; see `SequenceStore` for the contract.

    A packed string takes a twentieth of the memory of a sorted set, and each operation is one command on
    one key: GET, SET, or one script. So it works in a cluster, and no other client sees a state between.
    """

    def __init__(
        self,
        url: str,
        retention: Retention,
        *,
        connections: int,
        connect_timeout_s: float,
        timeout_s: float,
        clock: Clock = wall_clock_ms,
    ) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=connect_timeout_s,  # for a free connection
            socket_connect_timeout=connect_timeout_s,
            socket_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),  # an append without event ids must not be sent twice
            protocol=2,
        )
        self._redis = Redis.from_pool(pool)
        self._append = self._redis.register_script(
            files("service.store").joinpath("append.lua").read_text(encoding="utf-8")
        )
        self._retention = retention
        self._clock = clock

    async def append(self, user_id: str, events: Sequence[Event]) -> AppendResult:
        """See `SequenceStore.append`."""
        ttl_ms = int(self._retention.ttl_ms * random.uniform(1, 1 + _JITTER))  # noqa: S311  # not a secret
        arguments: list[int | str] = [self._clock(), ttl_ms, self._retention.max_events, TOMBSTONE_MS]
        for event in events:
            arguments += (event.time_ms, event.event_id or "", event_line(event))
        async with _failures():
            return AppendResult(*await self._append(keys=[_key(user_id)], args=arguments))

    async def read(self, user_id: str, limit: int) -> list[Event]:
        """See `SequenceStore.read`."""
        async with _failures():
            return _last(cast("bytes | None", await self._redis.get(_key(user_id))), limit)

    async def read_many(self, user_ids: Sequence[str], limit: int) -> list[list[Event]]:
        """See `SequenceStore.read_many`."""
        async with _failures(), self._redis.pipeline(transaction=False) as pipeline:
            for user_id in user_ids:
                pipeline.get(_key(user_id))
            return [_last(record, limit) for record in await pipeline.execute()]

    async def delete(self, user_id: str) -> None:
        """See `SequenceStore.delete`."""
        tombstone = SequenceRecord(deleted_at_ms=self._clock()).encode()
        async with _failures():
            await self._redis.set(_key(user_id), tombstone, px=TOMBSTONE_MS)

    async def ping(self) -> None:
        """See `SequenceStore.ping`."""
        async with _failures():
            await self._redis.ping()

    async def close(self) -> None:
        """See `SequenceStore.close`."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


def _key(user_id: str) -> str:
    return f"recjpq:sequence:{{{user_id}}}"  # the braces: what a cluster hashes


def _last(record: bytes | None, limit: int) -> list[Event]:
    return [] if record is None else SequenceRecord.decode(record).events[-limit:]


@asynccontextmanager
async def _failures() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError, ValueError) as error:
        raise StoreUnavailableError(f"Redis: {type(error).__name__}: {error}") from error
