r"""The stored form of one user's sequence, shared by the stores.

One text for each user, because both stores then read and write it with one operation on one key:

    1 TAB deleted_at_ms TAB number of events TAB newest event's time NL
    time_ms TAB item_id TAB event_id NL          (one line for each event, oldest first)

`deleted_at_ms` is 0 if the user was not deleted; an absent event id is empty. Ids hold no control
characters, so that `TAB event_id NL` can only be the end of that event's line: a duplicate is found by
one search for it. Redis does the same as `SequenceRecord.append` inside the server, in append.lua.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal, Self

from service.store.protocol import TOMBSTONE_MS, AppendResult, Event

RECORD_VERSION = "1"
_VERSION_FIELD = RECORD_VERSION.encode() + b"\t"
_SEPARATOR = re.compile(r"[\t\n]")


@dataclass(slots=True)
class SequenceRecord:
    """One user's events, oldest first, and when the user was last deleted (0: never)."""

    deleted_at_ms: int = 0
    events: list[Event] = field(default_factory=list)

    @classmethod
    def decode(cls, record: bytes) -> Self:
        """Read the stored form; raises ValueError if it is not one of this release."""
        header, *lines = record.decode().split("\n")
        version, deleted_at_ms, *_ = header.split("\t")
        if version != RECORD_VERSION:
            raise ValueError(f"record version {version[:20]!r}, expected {RECORD_VERSION!r}")
        rows = (line.split("\t") for line in lines[:-1])  # the last line ends in NL too
        return cls(int(deleted_at_ms), [Event(item, int(time), event or None) for time, item, event in rows])

    def encode(self) -> bytes:
        """Return the stored form."""
        newest_ms = self.events[-1].time_ms if self.events else 0
        header = f"{RECORD_VERSION}\t{self.deleted_at_ms}\t{len(self.events)}\t{newest_ms}\n"
        return (header + "".join(map(event_line, self.events))).encode()

    def append(self, events: Sequence[Event], max_events: int, now_ms: int) -> AppendResult:
        """Add events as `SequenceStore.append` says."""
        if now_ms >= self.deleted_at_ms + TOMBSTONE_MS:
            self.deleted_at_ms = 0
        del self.events[:-max_events]  # the maximum may have been lowered
        outcomes = Counter(self._add(event, max_events) for event in events)
        return AppendResult(outcomes["stored"], outcomes["duplicate"], outcomes["stale"])

    def _add(self, event: Event, max_events: int) -> Literal["stored", "duplicate", "stale"]:
        full = len(self.events) == max_events
        forgotten = self.deleted_at_ms > 0 and event.time_ms <= self.deleted_at_ms
        if forgotten or (full and event.time_ms < self.events[0].time_ms):
            return "stale"
        if event.event_id and any(event.event_id == other.event_id for other in self.events):
            return "duplicate"
        self.events.insert(bisect_right(self.events, event.time_ms, key=attrgetter("time_ms")), event)
        del self.events[:-max_events]
        return "stored"


def last_items(record: bytes, limit: int) -> list[str]:
    """Return the item ids of a stored form's last `limit` events, oldest first, without decoding the rest.

    Three tabs stand in the header, and then two in each event's line; so between tabs every second text
    from the fifth on is an item id. Raises ValueError if the record is not one of this release.
    """
    if not record.startswith(_VERSION_FIELD):
        found = record.partition(b"\t")[0][:20].decode(errors="replace")
        raise ValueError(f"record version {found!r}, expected {RECORD_VERSION!r}")
    return record.decode().split("\t")[4::2][-limit:]


def event_line(event: Event) -> str:
    """Return an event's line; raises ValueError for an id that would break the form."""
    line = f"{event.time_ms}\t{event.item_id}\t{event.event_id or ''}\n"
    if len(_SEPARATOR.findall(line)) != 3:
        raise ValueError("an item id or event id holds a tab or a newline")
    return line
