"""The JSON of requests and answers."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    StrictBool,
    StrictInt,
    StrictStr,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from recjpq.attributes import Condition, Filters
from service.api.problems import Problem
from service.recommender import Degradation, Query, Source, Strategy
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


AttributeValue = StrictStr | StrictBool | StrictInt | FiniteFloat

HistoryItem = Annotated[
    Annotated[Identifier, Tag("id")] | Annotated[HistoryEntry, Tag("entry")],
    Discriminator(
        _entry_kind,
        custom_error_type="history_entry",
        custom_error_message="Input should be an item id or an object with item_id",
    ),
]


class Filter(Body):
    """What one attribute must be; every part that is given must hold."""

    any_of: Annotated[list[AttributeValue], Field(min_length=1, fail_fast=True)] | None = Field(
        None, alias="any", description="It has at least one of these values"
    )
    none_of: Annotated[list[AttributeValue], Field(fail_fast=True)] = Field(
        [], alias="none", description="It has none of these values"
    )
    at_least: FiniteFloat | None = Field(None, alias="min", description="It is a number of at least this")
    at_most: FiniteFloat | None = Field(None, alias="max", description="It is a number of at most this")

    def to_condition(self) -> Condition:
        """Return it in the catalogue's form."""
        any_of = None if self.any_of is None else tuple(self.any_of)
        return Condition(any_of, tuple(self.none_of), self.at_least, self.at_most)


class RecommendRequest(Body):
    """A question: at least one of `history` and `user_id`."""

    history: Annotated[list[HistoryItem], Field(fail_fast=True)] | None = Field(
        None,
        description="Item ids, oldest first, or objects; if every entry has a timestamp, that is the order",
    )
    user_id: Identifier | None = Field(None, description="Whose stored history to use; `history` follows it")
    k: Annotated[int, Field(ge=1)] = 10
    exclude_seen: bool = Field(True, description="Leave out every item of the whole history")
    exclude: Annotated[list[Identifier], Field(fail_fast=True)] = Field(
        default_factory=list, description="Item ids to leave out"
    )
    candidates: Annotated[list[Identifier], Field(fail_fast=True)] | None = Field(
        None, description="The only item ids to consider; unknown ones are ignored"
    )
    filters: dict[Identifier, Filter] = Field(
        default_factory=dict, description="Conditions on items' metadata by column, all of which must hold"
    )
    fallback: Literal["popular", "none"] = Field("popular", description="If no item of the history is known")
    include: tuple[Literal["metadata", "scores", "explanation"], ...] = ("metadata", "scores")
    timeout_ms: Annotated[int, Field(ge=1)] | None = Field(
        None, description="How long the caller waits; a request that has not begun by then is not begun"
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"history": ["i1", "i3"], "k": 5},
                {"user_id": "u42", "k": 5, "include": ["metadata", "explanation"], "timeout_ms": 1000},
            ]
        }
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
        if not entries:
            return cast("list[str]", self.history)
        times = [entry.timestamp for entry in entries if entry.timestamp is not None]
        if len(times) == len(self.history):
            order = sorted(range(len(times)), key=times.__getitem__)  # stable
            return [entries[position].item_id for position in order]
        return [entry if isinstance(entry, str) else entry.item_id for entry in self.history]

    def to_filters(self) -> Filters:
        """Return the filters in the catalogue's form."""
        return tuple((name, given.to_condition()) for name, given in self.filters.items())

    def to_query(self) -> Query:
        """Return the question in the recommender's form."""
        return Query(
            history=self.item_ids(),
            user_id=self.user_id,
            k=self.k,
            exclude_seen=self.exclude_seen,
            exclude=self.exclude,
            candidates=self.candidates,
            filters=self.to_filters() or None,
            fallback=self.fallback == "popular",
            explain="explanation" in self.include,
        )


class PlainRecommendRequest(RecommendRequest):
    """The same with ids alone: what most requests are, and validated without a call into Python."""

    history: Annotated[list[Identifier], Field(fail_fast=True)] | None = None  # type: ignore[assignment]  # a narrower list, never written to


class BatchRequest(Body):
    """Several questions, answered together."""

    requests: Annotated[list[RecommendRequest], Field(min_length=1)]
    timeout_ms: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Of the whole batch, in place of those of its requests"
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"requests": [{"history": ["i1", "i3"], "k": 5}, {"user_id": "u42", "k": 5}]}]
        }
    )


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


class Contribution(Answer):
    """How much an item of the history raised a recommended item's score."""

    item_id: str
    contribution: float = Field(description="The score, less the score of the same history without the item")


class RecommendedItem(Answer):
    """One item; `score`, `metadata` and `explanation` are there if `include` names them."""

    item_id: str
    rank: int
    score: float | None = None
    metadata: dict[str, Any] | None = None
    explanation: list[Contribution] | None = Field(
        None, description="The items of the history that contributed most, the first the most"
    )


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


class BatchResponse(Answer):
    """For each request, in their order, what `POST /recommend` would answer, or the problem it has."""

    request_id: str
    results: list[RecommendResponse | Problem]


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


class Item(Answer):
    """An item of the catalogue."""

    item_id: str
    count: int = Field(description="Interactions in the training data")
    metadata: dict[str, Any]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"item_id": "i1", "count": 583, "metadata": {"title": "...", "genres": ["Drama"]}}]
        }
    )


class ItemsResponse(Answer):
    """Items that were asked for."""

    items: list[Item]
    searched: int | None = Field(
        description="Among how many items words were looked for: the most popular, and those added since"
    )


class AttributeValueCount(Answer):
    """A value of an attribute, and how many items have it."""

    value: str | bool | int | float
    count: int


class Attribute(Answer):
    """A metadata column."""

    name: str
    type: Literal["text", "number", "boolean", "other"] = Field(description="Of `other` there are no filters")
    list_: bool = Field(alias="list", description="Whether each item has a list of values")
    distinct: int | None = Field(description="How many different values there are; null if very many")
    values: list[AttributeValueCount] = Field(
        description="The commonest values, if there are not very many different ones"
    )
    min: float | None = Field(description="The least of its numbers")
    max: float | None = Field(description="The greatest of its numbers")


class AttributesResponse(Answer):
    """The metadata columns."""

    attributes: list[Attribute]


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
    max_candidates: int
    max_filter_values: int
    max_batch: int
    max_timeout_ms: int
    max_new_items: int
    max_events: int
    max_found_items: int
    max_body_bytes: int
    max_id_length: int


class ServedModel(Answer):
    """A served model."""

    name: str
    version: str
    created_at: str
    backbone: str
    sizes: Sizes = Field(description="As the model was exported")
    added_items: int = Field(description="Items added since, while serving")
    retired_items: int = Field(description="Items that are recommended no more")
    metrics: dict[str, Any] = Field(description="Offline metrics with the protocol they were measured under")
    providers: list[str] = Field(description="ONNX Runtime's execution providers, the one in use first")
    scorer: str


class ChallengerModel(ServedModel):
    """The model that serves a share of the users."""

    share: float


class ModelResponse(ServedModel):
    """The served models, the champion first, and the limits of requests."""

    limits: Limits
    challenger: ChallengerModel | None
    previous: str | None = Field(description="The version that a rollback brings back")


class Status(Answer):
    """The answer of a probe."""

    status: Literal["alive", "ready", "started"]


def to_ms(timestamp: datetime) -> int:
    """Return milliseconds since 1970, exactly."""
    return (timestamp - EPOCH) // _MILLISECOND


def from_ms(time_ms: int) -> datetime:
    """Return the time of milliseconds since 1970, exactly."""
    return EPOCH + time_ms * _MILLISECOND
