"""The JSON of a user's events."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import (
    ConfigDict,
    Field,
)

from service.api.schemas.base import Answer, Body, Identifier, Timestamp, from_ms, to_ms
from service.store import Event


class EventBody(Body):
    """One interaction to store."""

    item_id: Identifier
    timestamp: Timestamp | None = Field(None, description="When it happened; by default when it arrives")
    event_id: Identifier | None = Field(None, description="Makes a repeated append harmless")


class AppendRequest(Body):
    """Interactions of one user, in the order in which they happened."""

    events: Annotated[list[EventBody], Field(min_length=1)]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"events": [{"item_id": "i1", "timestamp": "2026-11-20T10:00:00Z", "event_id": "e-1"}]}
            ]
        }
    )

    def to_events(self, now_ms: int) -> list[Event]:
        """Return the events in the store's form; what has no timestamp happened now."""
        return [
            Event(
                event.item_id, now_ms if event.timestamp is None else to_ms(event.timestamp), event.event_id
            )
            for event in self.events
        ]


class AppendResponse(Answer):
    """What became of the events: each was stored, duplicate or stale; unknown ones are counted beside."""

    stored: int
    duplicate: int
    stale: int
    unknown: int = Field(description="Events whose item the served model does not know; stored all the same")


class StoredEvent(Answer):
    """One stored interaction."""

    item_id: str
    timestamp: datetime
    event_id: str | None


class EventsResponse(Answer):
    """A user's stored interactions, oldest first."""

    events: list[StoredEvent]

    @classmethod
    def of(cls, events: Sequence[Event]) -> "EventsResponse":
        """Write the store's events in the API's form."""
        return cls(
            events=[
                StoredEvent(item_id=event.item_id, timestamp=from_ms(event.time_ms), event_id=event.event_id)
                for event in events
            ]
        )
