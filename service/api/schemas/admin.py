"""The JSON of what operators ask: which models are served, and items added while serving."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from service.api.schemas.base import Answer, Body, Identifier, ModelName
from service.lifecycle.journal import NewItem
from service.lifecycle.models import Lineup, version_of
from service.lifecycle.state import ChallengerState, Failure, ServiceState, Share, VersionName
from service.lifecycle.versions import Version

SubId = Annotated[int, Field(ge=0, le=255)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ChallengerRequest(Body):
    """A version to try, and on what share of the users."""

    version: VersionName
    share: Share

    model_config = ConfigDict(json_schema_extra={"examples": [{"version": "v2", "share": 0.1}]})


class KnownVersion(Answer):
    """A version that can be activated."""

    version: str
    created_at: str


class ModelsResponse(Answer):
    """Which versions are served, and which there are."""

    champion: str = Field(description="Serves everybody whom the challenger does not serve")
    activated: bool = Field(description="Whether it stays after a restart; else the newest version is served")
    previous: str | None = Field(description="What a rollback brings back")
    challenger: ChallengerState | None
    loaded: list[str] = Field(description="Versions that this process can serve at once")
    versions: list[KnownVersion] | None = Field(
        description="The newest first; null if the place where they are kept does not answer"
    )
    last_failure: Failure | None = Field(
        description="Of a version that was to be served, since the last change"
    )

    @classmethod
    def of(cls, state: ServiceState, lineup: Lineup, versions: list[Version] | None) -> "ModelsResponse":
        """Write the models' state in the API's form."""
        return cls(
            champion=version_of(lineup.champion),
            activated=state.champion is not None,
            previous=state.previous,
            challenger=state.challenger,
            loaded=sorted(lineup.loaded()),
            versions=None
            if versions is None
            else [KnownVersion(version=v.name, created_at=v.created_at) for v in versions],
            last_failure=state.last_failure,
        )


class NewItemBody(Body):
    """An item to add, with either `codes` or `similar`."""

    item_id: Identifier
    metadata: dict[str, Any] = Field({}, description="Values of the catalogue's metadata columns")
    codes: Annotated[list[SubId], Field(min_length=1)] | None = Field(
        None,
        description="A sub-id for each split, of the served version; another version will not know the item",
    )
    similar: Annotated[list[Identifier], Field(min_length=1)] | None = Field(
        None,
        description="Known items that it is like, the most similar first; it gets the codes of most",
    )
    weights: list[Weight] | None = Field(None, description="Of the similar items; 1 each by default")

    @model_validator(mode="after")
    def _one_origin(self) -> "NewItemBody":
        if (self.codes is None) == (self.similar is None):
            raise PydanticCustomError("origin", "Give either codes or similar")
        if self.weights is not None and len(self.weights) != len(self.similar or ()):
            raise PydanticCustomError("weights", "Give one weight for each similar item")
        return self

    def to_item(self) -> NewItem:
        """Return the item in the journal's form."""
        return NewItem(
            item_id=self.item_id,
            metadata=self.metadata,
            codes=None if self.codes is None else tuple(self.codes),
            similar=None if self.similar is None else tuple(self.similar),
            weights=None if self.weights is None else tuple(self.weights),
        )


class AddItemsRequest(Body):
    """Items to add, all of them or none."""

    items: Annotated[list[NewItemBody], Field(min_length=1)]
    model_version: VersionName | None = Field(
        None, description="The version that the codes are of; refused if another is served"
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"items": [{"item_id": "i900", "metadata": {"title": "New"}, "similar": ["i3", "i1"]}]}
            ]
        },
        protected_namespaces=(),
    )


class AddItemsResponse(Answer):
    """What became of the items."""

    added: int
    unchanged: int = Field(description="Items that had been added before, with the same content")
    model: ModelName


class SimilarItem(Answer):
    """An item like the one asked for."""

    item_id: str
    rank: int
    score: float = Field(description="Mean cosine of the sub-embeddings, at most 1")
    metadata: dict[str, Any]


class SimilarResponse(Answer):
    """The items most like an item, the most similar first."""

    item_id: str
    items: list[SimilarItem]
    exhausted: bool = Field(description="Whether fewer than k items are offered")
    model: ModelName
