"""The JSON of requests and answers."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from service.recommender import Degradation, Source, Strategy
from service.store import Event

MAX_ID_LENGTH = 256
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

Identifier = Annotated[
    str,
    # No control characters (the stored form relies on it), and not what a broken encoding decodes to.
    StringConstraints(min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^[^\x00-\x1f\x7f-\x9f\ufffd]+$"),
]
Timestamp = Annotated[AwareDatetime, Field(ge=EPOCH, description="RFC 3339, with an offset; not before 1970")]


class Body(BaseModel):
    """What every request's JSON shares: no coercion, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class HistoryEntry(Body):
    """One interaction of a history."""

    item_id: Identifier
    timestamp: Timestamp | None = None


def _entry_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "id"
    return "entry" if isinstance(value, dict | HistoryEntry) else None


HistoryItem = Annotated[
    Annotated[Identifier, Tag("id")] | Annotated[HistoryEntry, Tag("entry")],
    Discriminator(
        _entry_kind,
        custom_error_type="history_entry",
        custom_error_message="Input should be an item id or an object with item_id",
    ),
]


class RecommendRequest(Body):
    """A question: at least one of `history` and `user_id`."""

    history: list[HistoryItem] | None = Field(
        None,
        description="Item ids, oldest first, or objects; if every entry has a timestamp, that is the order",
    )
    user_id: Identifier | None = Field(None, description="Whose stored history to use; `history` follows it")
    k: Annotated[int, Field(ge=1)] = 10
    exclude_seen: bool = Field(True, description="Leave out every item of the whole history")
    exclude: list[Identifier] = Field([], description="Item ids to leave out")
    fallback: Literal["popular", "none"] = Field("popular", description="If no item of the history is known")
    include: list[Literal["metadata", "scores"]] = ["metadata", "scores"]

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"history": ["i1", "i3"], "k": 5}, {"user_id": "u42", "k": 5}]}
    )

    @model_validator(mode="after")
    def _someone(self) -> "RecommendRequest":
        if self.history is None and self.user_id is None:
            raise PydanticCustomError("no_history", "Give history, user_id or both")
        return self

    def item_ids(self) -> list[str] | None:
        """Return the history's ids, oldest first."""
        if self.history is None:
            return None
        entries = [entry for entry in self.history if isinstance(entry, HistoryEntry)]
        times = [entry.timestamp for entry in entries if entry.timestamp is not None]
        if len(times) == len(self.history):
            order = sorted(range(len(times)), key=times.__getitem__)  # stable
            return [entries[position].item_id for position in order]
        return [entry if isinstance(entry, str) else entry.item_id for entry in self.history]


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


class Answer(BaseModel):
    """What every answer's JSON shares; bytes among an item's metadata are written in base64."""

    model_config = ConfigDict(frozen=True, protected_namespaces=(), ser_json_bytes="base64")


class RecommendedItem(Answer):
    """One item; `score` and `metadata` are there if `include` names them."""

    item_id: str
    rank: int
    score: float | None = None
    metadata: dict[str, Any] | None = None


class ModelName(Answer):
    """Which model answered."""

    name: str
    version: str


class HistoryUse(Answer):
    """What became of the history."""

    source: Source
    used: int = Field(description="How many items the model saw")
    received: int = Field(description="How many entries the request and the store gave")
    unknown_items: list[str] = Field(description="Ids that the model does not know")


class RecommendResponse(Answer):
    """Items, the best first."""

    request_id: str
    items: list[RecommendedItem]
    strategy: Strategy
    exhausted: bool = Field(description="Whether fewer than k items were eligible")
    degraded: list[Degradation]
    model: ModelName
    history: HistoryUse


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


class Sizes(Answer):
    """A model's sizes, under the names of the artifact's manifest."""

    num_items: int
    max_length: int
    num_splits: int
    num_sub_ids: int
    dim: int


class Limits(Answer):
    """What a request may ask for."""

    max_k: int
    max_history: int
    max_exclude: int
    max_events: int
    max_body_bytes: int
    max_id_length: int


class ModelResponse(Answer):
    """The served model."""

    name: str
    version: str
    created_at: str
    backbone: str
    sizes: Sizes
    limits: Limits
    metrics: dict[str, Any] = Field(description="Offline metrics with the protocol they were measured under")
    providers: list[str] = Field(description="ONNX Runtime's execution providers, the one in use first")
    scorer: str


class Status(Answer):
    """The answer of a probe."""

    status: Literal["alive", "ready"]


def to_ms(timestamp: datetime) -> int:
    """Return milliseconds since 1970, exactly."""
    return (timestamp - EPOCH) // _MILLISECOND


def from_ms(time_ms: int) -> datetime:
    """Return the time of milliseconds since 1970, exactly."""
    return EPOCH + time_ms * _MILLISECOND
