"""The JSON of `/recommend` and `/recommend/batch`."""

from typing import Annotated, Any, Literal, cast

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from recjpq.attributes import Condition, Filters
from service.api.problems import Problem
from service.api.schemas.base import Answer, Body, Identifier, ModelName, Timestamp
from service.recommender import Degradation, Query, Source, Strategy


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

    history: Annotated[tuple[HistoryItem, ...], Field(fail_fast=True)] | None = Field(
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
            return list(cast("tuple[str, ...]", self.history))
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

    history: Annotated[tuple[Identifier, ...], Field(fail_fast=True)] | None = None


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
