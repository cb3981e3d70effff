"""The OpenAPI document: bodies are read by hand, so they are described by hand."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.api.problems import MEDIA_TYPE, Problem
from service.api.schemas.admin import AddItemsRequest, ChallengerRequest
from service.api.schemas.events import AppendRequest
from service.api.schemas.recommend import BatchRequest, RecommendRequest

_REFERENCE = "#/components/schemas/{model}"
_DESCRIBED: tuple[type[BaseModel], ...] = (
    RecommendRequest,
    BatchRequest,
    AppendRequest,
    AddItemsRequest,
    ChallengerRequest,
    Problem,
)
_PROBES = ("/livez", "/readyz", "/startupz")
_KEY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the part of an operation that says its body is a `kind`."""
    schema = {"$ref": _REFERENCE.format(model=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the part of an operation that says how it can fail."""
    schema = {"$ref": _REFERENCE.format(model=Problem.__name__)}
    return {
        status: {"description": "Problem document", "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


class DocumentedApp(FastAPI):
    """An application whose document has what bodies, problems and keys need besides the routes."""

    def openapi(self) -> dict[str, Any]:
        """Return the document, which FastAPI makes once and keeps."""
        if self.openapi_schema is None:
            self.openapi_schema = _completed(super().openapi())
        return self.openapi_schema


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schemas that `body_of` and `problems` refer to, and the keys."""
    _, schemas = models_json_schema([(kind, "validation") for kind in _DESCRIBED], ref_template=_REFERENCE)
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas["$defs"])
    components["securitySchemes"] = _KEY_SCHEMES
    for path, operations in document["paths"].items():
        if path not in _PROBES:
            for operation in operations.values():
                _say_that_keys_may_be_needed(operation)
    return document


def _say_that_keys_may_be_needed(operation: dict[str, Any]) -> None:
    """Add what the middleware answers in front of every route, if there are keys or a limit on rates."""
    operation["security"] = [{}, *({name: []} for name in _KEY_SCHEMES)]
    for status, answer in problems(401, 429).items():
        operation["responses"].setdefault(str(status), answer)
