"""The JSON of what is read of the catalogue: items and their attributes."""

from typing import Any, Literal

from pydantic import (
    ConfigDict,
    Field,
)

from service.api.schemas.base import Answer


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
