r"""The stored form of one user's sequence, shared by the stores.

One text for each user, because both stores then read and write it with one operation on one key:

    1 TAB deleted_at_ms TAB number of events TAB newest event's time NL
    time_ms TAB item_id TAB event_id NL          (one line for each event, oldest first)

`deleted_at_ms` is 0 if the user was not deleted; an absent event id is empty. Ids hold no control
characters, so that `TAB event_id NL` can only be the end of that event's line: a duplicate is found by
one search for it. Redis does the same as `SequenceRecord.append` inside the server, in append.lua.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from service.store.protocol import TOMBSTONE_MS, AppendResult, Event

RECORD_VERSION = "1"
_VERSION_FIELD = RECORD_VERSION.encode() + b"\t"
_SEPARATOR = re.compile(r"[\t\n]")


@dataclass(slots=True)
class SequenceRecord:
    """One user's record, its events as they are stored: an append touches a few bytes, not every event.

    Attributes:
        deleted_at_ms: when the user was last deleted (0: never).
        count: how many events there are.
        newest_ms: the last one's time.
        body: their lines, oldest first.
    """

    deleted_at_ms: int = 0
    count: int = 0
    newest_ms: int = 0
    body: bytes = b""

    @classmethod
    def decode(cls, record: bytes) -> Self:
        """Read the stored form; raises ValueError if it is not one of this release."""
        _check_version(record)
        header, _, body = record.partition(b"\n")
        deleted_at_ms, count, newest_ms = map(int, header.split(b"\t")[1:])
        return cls(deleted_at_ms, count, newest_ms, body)

    def encode(self) -> bytes:
        """Return the stored form."""
        header = f"{RECORD_VERSION}\t{self.deleted_at_ms}\t{self.count}\t{self.newest_ms}\n"
        return header.encode() + self.body

    def last(self, limit: int) -> list[Event]:
        """Return the last `limit` events, oldest first."""
        lines = self.body.decode().split("\n")[:-1][-limit:]  # the last line ends in NL too
        rows = (line.split("\t") for line in lines)
        return [Event(item, int(time), event or None) for time, item, event in rows]

    def append(self, events: Sequence[Event], max_events: int, now_ms: int) -> AppendResult:
        """Add events as `SequenceStore.append` says."""
        if now_ms >= self.deleted_at_ms + TOMBSTONE_MS:
            self.deleted_at_ms = 0
        while self.count > max_events:  # the maximum may have been lowered
            self._drop_oldest()
        outcomes = Counter(self._add(event, max_events) for event in events)
        return AppendResult(outcomes["stored"], outcomes["duplicate"], outcomes["stale"])

    def _add(self, event: Event, max_events: int) -> Literal["stored", "duplicate", "stale"]:
        full = self.count == max_events
        forgotten = self.deleted_at_ms > 0 and event.time_ms <= self.deleted_at_ms
        if forgotten or (full and event.time_ms < self._time_at(0)):
            return "stale"
        if event.event_id and f"\t{event.event_id}\n".encode() in self.body:
            return "duplicate"
        position = self._position_of(event.time_ms)
        self.body = self.body[:position] + event_line(event).encode() + self.body[position:]
        self.newest_ms = max(self.newest_ms, event.time_ms)
        self.count += 1
        if full:
            self._drop_oldest()
        return "stored"

    def _position_of(self, time_ms: int) -> int:
        """Return where a line of this time belongs: behind the last one that is not later."""
        end = len(self.body)
        if time_ms >= self.newest_ms:
            return end
        while end > 0:
            start = self.body.rfind(b"\n", 0, end - 1) + 1
            if self._time_at(start) <= time_ms:
                break
            end = start
        return end

    def _time_at(self, start: int) -> int:
        return int(self.body[start : self.body.index(b"\t", start)])

    def _drop_oldest(self) -> None:
        self.body = self.body[self.body.index(b"\n") + 1 :]
        self.count -= 1


def last_items(record: bytes, limit: int) -> list[str]:
    """Return the item ids of a stored form's last `limit` events, oldest first, without decoding the rest.

    Three tabs stand in the header, and then two in each event's line; so between tabs every second text
    from the fifth on is an item id. Raises ValueError if the record is not one of this release.
    """
    _check_version(record)
    return record.decode().split("\t")[4::2][-limit:]


def _check_version(record: bytes) -> None:
    if not record.startswith(_VERSION_FIELD):
        found = record.partition(b"\t")[0][:20].decode(errors="replace")
        raise ValueError(f"record version {found!r}, expected {RECORD_VERSION!r}")


def event_line(event: Event) -> str:
    """Return an event's line; raises ValueError for an id that would break the form."""
    line = f"{event.time_ms}\t{event.item_id}\t{event.event_id or ''}\n"
    if len(_SEPARATOR.findall(line)) != 3:
        raise ValueError("an item id or event id holds a tab or a newline")
    return line
