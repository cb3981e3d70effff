"""A deadline, a circuit breaker and measurement around any store."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Literal, TypeVar

from service.errors import StoreUnavailableError
from service.store.protocol import AppendResult, Event, SequenceStore

T = TypeVar("T")

Operation = Literal["append", "read", "read_items", "delete", "ping"]
Access = Literal["reads", "writes"]
Observe = Callable[[Operation, float, bool], None]
"""``observe(operation, seconds, succeeded)``, called once for each call that reached the store."""

_LATE_S = 0.005
"""How late a timer is on an event loop that had other things to do."""
_ANOTHER_LOOK_S = 0.02

_log = logging.getLogger(__name__)


class Breaker:
    """Opens after failures in a row; then lets one call through in each interval until one succeeds."""

    def __init__(self, failures: int, reset_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._allowed_failures = failures
        self._reset_s = reset_s
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0

    def allows(self) -> bool:
        """Say whether a call may go through now; while open, asking takes the interval's one try."""
        if self._failures < self._allowed_failures:
            return True
        if self._clock() < self._open_until:
            return False
        self._open_until = self._clock() + self._reset_s
        return True

    def record(self, *, succeeded: bool) -> None:
        """Count the end of a call that was let through."""
        self._failures = 0 if succeeded else self._failures + 1
        self._open_until = self._clock() + self._reset_s


@dataclass(slots=True)
class _Side:
    """The reads, or the writes, of one shard: each may fail while the others do not."""

    name: str
    timeout_s: float
    breaker: Breaker
    up: bool = True


class GuardedStore:
    """Calls a store so that it fails soon, and is left alone while it does; a `SequenceStore` itself.

    Reads and writes have a breaker each: a server out of memory, a read-only replica or a locked file
    refuses every write and answers every read. So has each shard: a dead node of a cluster is left alone
    while the others are asked.
    """

    def __init__(
        self,
        store: SequenceStore,
        make_breaker: Callable[[], Breaker],
        observe: Observe,
        *,
        read_timeout_s: float,
        write_timeout_s: float,
    ) -> None:
        self._store = store
        self._make_breaker = make_breaker
        self._observe = observe
        self._timeouts_s: dict[Access, float] = {"reads": read_timeout_s, "writes": write_timeout_s}
        self._sides: dict[tuple[Access, str], _Side] = {}

    async def append(self, user_id: str, events: Sequence[Event]) -> AppendResult:
        """See `SequenceStore.append`."""
        side = self._side("writes", self._store.shard_of(user_id))
        return await self._call(side, "append", lambda: self._store.append(user_id, events))

    async def read(self, user_id: str, limit: int) -> list[Event]:
        """See `SequenceStore.read`."""
        side = self._side("reads", self._store.shard_of(user_id))
        return await self._call(side, "read", lambda: self._store.read(user_id, limit))

    async def read_items(self, user_ids: Sequence[str], limit: int) -> Sequence[list[str] | None]:
        """See `SequenceStore.read_items`; the deadline is that of one read."""
        shards: dict[str, list[int]] = {}
        for place, user_id in enumerate(user_ids):
            shards.setdefault(self._store.shard_of(user_id), []).append(place)
        if len(shards) <= 1:
            return await self._read_shard(next(iter(shards), ""), user_ids, limit)
        parts = [
            self._read_shard(shard, [user_ids[place] for place in places], limit)
            for shard, places in shards.items()
        ]
        answers = await asyncio.gather(*parts, return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        for failure in failures:
            if len(failures) == len(answers) or not isinstance(failure, StoreUnavailableError):
                raise failure
        items: list[list[str] | None] = [None] * len(user_ids)
        for places, answer in zip(shards.values(), answers, strict=True):
            if not isinstance(answer, BaseException):
                for place, sequence in zip(places, answer, strict=True):
                    items[place] = sequence
        return items

    async def delete(self, user_id: str) -> None:
        """See `SequenceStore.delete`."""
        side = self._side("writes", self._store.shard_of(user_id))
        await self._call(side, "delete", lambda: self._store.delete(user_id))

    def shard_of(self, user_id: str) -> str:
        """See `SequenceStore.shard_of`."""
        return self._store.shard_of(user_id)

    async def ping(self) -> None:
        """See `SequenceStore.ping`."""
        await self._call(self._side("reads", ""), "ping", self._store.ping)

    async def close(self) -> None:
        """See `SequenceStore.close`."""
        await self._store.close()

    def _side(self, access: Access, shard: str) -> _Side:
        side = self._sides.get((access, shard))
        if side is None:
            name = f"{access} at {shard}" if shard else access
            side = _Side(name, self._timeouts_s[access], self._make_breaker())
            self._sides[access, shard] = side
        return side

    async def _read_shard(
        self, shard: str, user_ids: Sequence[str], limit: int
    ) -> Sequence[list[str] | None]:
        side = self._side("reads", shard)
        return await self._call(side, "read_items", lambda: self._store.read_items(user_ids, limit))

    async def _call(self, side: _Side, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        if not side.breaker.allows():
            raise StoreUnavailableError(f"{operation}: not tried, the last calls failed")
        started = perf_counter()
        try:
            async with _limit(side.timeout_s):
                result = await call()
        except TimeoutError as error:
            failure = f"no answer in {side.timeout_s} s"
            self._ended(side, operation, started, failure)
            raise StoreUnavailableError(f"{operation}: {failure}") from error
        except StoreUnavailableError as error:
            self._ended(side, operation, started, str(error))
            raise
        self._ended(side, operation, started, None)
        return result

    def _ended(self, side: _Side, operation: Operation, started: float, failure: str | None) -> None:
        """Tell the breaker and the observer, and the log when the store goes or comes back."""
        if failure is not None and side.up:
            _log.warning("the sequence store is unavailable for %s: %s: %s", side.name, operation, failure)
        elif failure is None and not side.up:
            _log.info("the sequence store is back for %s", side.name)
        side.up = failure is None
        side.breaker.record(succeeded=side.up)
        self._observe(operation, perf_counter() - started, side.up)


@asynccontextmanager
async def _limit(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError like `asyncio.timeout`, but not for an event loop that was busy with other things.

    A loop that is late runs its timers before it looks at its sockets, where the answer may have been for
    long: such a timer is set once more. Otherwise a burst of requests would look like a store that fails.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as scope:
        due = loop.time() + seconds

        def expire() -> None:
            late = loop.time() - due
            scope.reschedule(loop.time() + (min(seconds, _ANOTHER_LOOK_S) if late > _LATE_S else 0))

        timer = loop.call_at(due, expire)
        try:
            yield
        finally:
            timer.cancel()
