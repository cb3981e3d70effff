"""The sequence store's contract, the same for every implementation and tested by one suite."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

TOMBSTONE_MS = 24 * 60 * 60 * 1000
"""How long a deletion refuses replays of what happened before it."""

Clock = Callable[[], int]
"""Milliseconds since 1970."""


def wall_clock_ms() -> int:
    """Return the machine's time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Event(NamedTuple):
    """One interaction.

    Attributes:
        item_id: which item; need not be known to any model.
        time_ms: when it happened, milliseconds since 1970, not negative.
        event_id: the caller's name for it, or None if the caller has none.

    Ids hold no control characters: the boundary refuses them, and the stored form relies on it.
    """

    item_id: str
    time_ms: int
    event_id: str | None = None


class AppendResult(NamedTuple):
    """What became of the events of one append."""

    stored: int
    duplicate: int
    stale: int


@dataclass(frozen=True, slots=True)
class Retention:
    """What a store keeps: events for each user, and milliseconds after the last stored one."""

    max_events: int
    ttl_ms: int


class SequenceStore(Protocol):
    """Keeps each user's recent events.

    Every method raises StoreUnavailableError when the store fails; an append that returned is on disk
    (SQLite) or in the server and its log (Redis), and survives the death of this process.
    """

    async def append(self, user_id: str, events: Sequence[Event]) -> AppendResult:
        """Add events, one after the other; each is exactly one of the three results.

        An event is `stale` if its user was deleted less than 24 hours ago and it is not later than that
        deletion, or if the list is full and it is older than the oldest in it. Otherwise it is `duplicate`
        if its event id is in the list. Otherwise it is `stored`: the list is ordered by event time, ties in
        the order of arrival, and of a list that is too long the oldest goes. Storing anything renews the
        user's time to live.
        """
        ...

    async def read(self, user_id: str, limit: int) -> list[Event]:
        """Return the last `limit` events (at least 1), oldest first; none for a user never seen."""
        ...

    async def read_items(self, user_ids: Sequence[str], limit: int) -> Sequence[list[str] | None]:
        """Return for each user the item ids of what `read` returns, in one round trip; users may repeat.

        None stands for a user whose shard failed while another's answered.
        """
        ...

    async def delete(self, user_id: str) -> None:
        """Forget a user; late replays do not bring back what happened until now for 24 hours."""
        ...

    def shard_of(self, user_id: str) -> str:
        """Return the name of the part that keeps a user, as far as known: parts fail apart.

        Empty where there is one part, or it is not known.
        """
        ...

    async def ping(self) -> None:
        """Return if the store answers."""
        ...

    async def close(self) -> None:
        """Release connections and threads; the store is not used again."""
        ...
