"""`/items`, `/items/{item_id}`, `/attributes`: what the catalogue holds."""

from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Response
from pydantic_core import to_json

from recjpq.growing_catalogue import GrowingCatalogue
from recjpq.scoring import ItemIndices
from service.api.openapi import problems
from service.api.schemas.base import MAX_ID_LENGTH, Identifier
from service.api.schemas.items import AttributesResponse, Item, ItemsResponse
from service.errors import InvalidRequestError, ItemNotFoundError, Violation
from service.item_reader import ItemReader
from service.serving import Serving

MOST_VALUES = 100
"""How many of an attribute's commonest values are told."""

ItemId = Annotated[Identifier, Path(max_length=MAX_ID_LENGTH, examples=["i1"])]
Ids = Annotated[
    list[Identifier],
    Query(default_factory=list, description="Look these up, in this order; unknown ones are left out"),
]
Words = Annotated[str, Query(max_length=MAX_ID_LENGTH, description="Words, or the whole of an id")]


def add_items_read(app: FastAPI, serving: Serving) -> None:
    """Add the routes to an application, after every other below `/items/`: an id may hold a slash."""
    settings = serving.settings
    reader = ItemReader(settings.search_items, settings.queue_limit)

    @app.get("/items", tags=["items"], response_model=ItemsResponse, responses=problems(422, 503))
    async def items(item_id: Ids, query: Words = "", limit: Annotated[int, Query(ge=1)] = 10) -> Response:
        """Search ids and texts, or look ids up; without either, return the most popular items.

        Words are found without regard to case and accents, those that begin with a word of the query before
        those that have it inside, the most popular first.
        """
        _check(query, item_id, limit, settings.max_found_items)
        catalogue = serving.recommender.model.catalogue
        searched = None
        if item_id:
            known = catalogue.indices_of(item_id)
            found = known[known >= 0]
        elif query.strip():
            found, searched = await reader.find(catalogue, query.strip(), limit)
        else:
            found = catalogue.most_popular(limit)
        return _json({"items": _items(catalogue, found), "searched": searched})

    @app.get("/attributes", tags=["items"], response_model=AttributesResponse, responses=problems(503))
    async def attributes() -> Response:
        """Describe the metadata columns, by which recommendations can be filtered."""
        found = await reader.attributes(serving.recommender.model.catalogue)
        described = [
            {
                "name": one.name,
                "type": one.type,
                "list": one.is_list,
                "distinct": None if one.values is None else len(one.values),
                "values": [{"value": v, "count": count} for v, count in (one.values or ())[:MOST_VALUES]],
                "min": one.least,
                "max": one.greatest,
            }
            for one in found
        ]
        return _json({"attributes": described})

    @app.get("/items/{item_id:path}", tags=["items"], response_model=Item, responses=problems(404, 422, 503))
    async def item(item_id: ItemId) -> Response:
        """Return what the catalogue holds of an item."""
        catalogue = serving.recommender.model.catalogue
        found = catalogue.indices_of([item_id])
        if found[0] < 0:
            raise ItemNotFoundError(f"The model does not know item {item_id!r}.")
        return _json(_items(catalogue, found)[0])


def _check(query: str, item_ids: list[str], limit: int, most: int) -> None:
    violations = []
    if query and item_ids:
        violations.append(Violation("Give query or item_id, not both", parameter="query"))
    for name, value in {"limit": limit, "item_id": len(item_ids)}.items():
        if value > most:
            violations.append(Violation(f"Found {value}, the limit is {most}", parameter=name))
    if violations:
        raise InvalidRequestError(violations)


def _items(catalogue: GrowingCatalogue, indices: ItemIndices) -> list[dict[str, Any]]:
    rows = zip(
        catalogue.ids_of(indices),
        catalogue.counts[indices].tolist(),
        catalogue.metadata_of(indices),
        strict=True,
    )
    return [{"item_id": item_id, "count": count, "metadata": metadata} for item_id, count, metadata in rows]


def _json(content: dict[str, Any]) -> Response:
    return Response(
        to_json(content, inf_nan_mode="null", bytes_mode="base64"),
        headers={"Cache-Control": "no-cache"},
        media_type="application/json",
    )
