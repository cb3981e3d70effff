"""`/items`: what is like an item, items added to the served catalogue, and items taken out of it."""

import asyncio
from typing import Annotated

from fastapi import Depends, FastAPI, Path, Query, Request, Response

from recjpq.scoring import ItemIndices, TopK
from service.api.auth import require_admin
from service.api.body import pointer, read_body
from service.api.openapi import body_of, problems
from service.api.schemas.admin import (
    AddItemsRequest,
    AddItemsResponse,
    SimilarItem,
    SimilarResponse,
)
from service.api.schemas.base import MAX_ID_LENGTH, Identifier, ModelName
from service.errors import InvalidRequestError, ItemNotFoundError, NoSimilarItemsError, Violation
from service.model import Model
from service.serving import Serving

# :path, so that an id may hold a slash.
_ROUTE = "/items/{item_id:path}"
ItemId = Annotated[Identifier, Path(max_length=MAX_ID_LENGTH, examples=["i1"])]


def add_items(app: FastAPI, serving: Serving) -> None:
    """Add the routes to an application."""
    settings = serving.settings
    admin = Depends(require_admin)
    # Where requests need keys, what they are answered is for no cache that others share.
    caching = "private, no-cache" if settings.has_api_keys else "public, no-cache"

    @app.post(
        "/items",
        tags=["items"],
        dependencies=[admin],
        response_model=AddItemsResponse,
        openapi_extra=body_of(AddItemsRequest),
        responses=problems(400, 401, 403, 409, 413, 422, 503),
    )
    async def add(request: Request) -> AddItemsResponse:
        """Add items to the served catalogue, all or none; once this answers 200 they survive a restart."""
        body = await read_body(request, AddItemsRequest, settings.max_body_bytes)
        _check(body, settings.max_new_items)
        models, model = serving.models, serving.recommender.model
        items = [item.to_item() for item in body.items]
        added = await asyncio.to_thread(models.items.add, items, model, of_version=body.model_version)
        serving.catalogue_changed()
        return AddItemsResponse(added=added.added, unchanged=added.unchanged, model=_name(model))

    @app.delete(
        _ROUTE,
        tags=["items"],
        dependencies=[admin],
        status_code=204,
        responses=problems(401, 403, 404, 422, 503),
    )
    async def retire(item_id: ItemId) -> Response:
        """Never recommend an item again, unless it is added again; histories still understand it."""
        models, model = serving.models, serving.recommender.model
        await asyncio.to_thread(models.items.retire, item_id, model)
        serving.catalogue_changed()
        return Response(status_code=204)

    @app.get(
        f"{_ROUTE}/similar",
        tags=["items"],
        response_model=SimilarResponse,
        responses={304: {"description": "As `If-None-Match` knows it"}, **problems(404, 422, 503)},
    )
    async def similar(
        item_id: ItemId, request: Request, k: Annotated[int, Query(ge=1, le=settings.max_k)] = 10
    ) -> Response:
        """Return the items most like an item, by what the model learnt of them."""
        model = serving.recommender.model
        request.state.model_version = model.description.version
        item = model.catalogue.indices_of([item_id])
        if item[0] < 0:
            raise ItemNotFoundError(f"The model does not know item {item_id!r}.")
        if model.similarity is None:
            raise NoSimilarItemsError(
                "This version has no sub-embeddings to compare items by; export the model again."
            )
        headers = {"ETag": _etag(model), "Cache-Control": caching}
        if _is_known(request.headers.get("if-none-match", ""), headers["ETag"]):
            return Response(status_code=304, headers=headers)
        best = await serving.similar.find(model, model.similarity, item, k, request.state.timings)
        with request.state.timings.measure("respond"):
            content = _answer(item_id, model, best, k).model_dump_json()
        return Response(content, headers=headers, media_type="application/json")


def _check(body: AddItemsRequest, most: int) -> None:
    if len(body.items) > most:
        raise InvalidRequestError(
            [Violation(f"Found {len(body.items)}, the limit is {most}", pointer("items"))]
        )
    seen: set[str] = set()
    violations = []
    for number, item in enumerate(body.items):
        if item.item_id in seen:
            violations.append(Violation("This id stands here twice", pointer("items", number, "item_id")))
        seen.add(item.item_id)
    if violations:
        raise InvalidRequestError(violations)


def _etag(model: Model) -> str:
    """Return what changes with every answer about similar items: the version, and the items added to it."""
    return f'"{model.description.version}.{model.catalogue.changes}"'


def _is_known(if_none_match: str, etag: str) -> bool:
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in known or etag in known


def _answer(item_id: str, model: Model, best: TopK, k: int) -> SimilarResponse:
    ids: ItemIndices = best.ids
    rows = zip(
        model.catalogue.ids_of(ids), best.scores.tolist(), model.catalogue.metadata_of(ids), strict=True
    )
    return SimilarResponse(
        item_id=item_id,
        items=[
            SimilarItem(item_id=other, rank=rank, score=score, metadata=metadata)
            for rank, (other, score, metadata) in enumerate(rows, 1)
        ],
        exhausted=len(ids) < k,
        model=_name(model),
    )


def _name(model: Model) -> ModelName:
    return ModelName(name=model.description.name, version=model.description.version)
