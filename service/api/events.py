"""`/users/{user_id}/events`: append, read, forget."""

from typing import Annotated

import numpy as np
from fastapi import FastAPI, Path, Request, Response

from service.api.body import pointer, read_body
from service.api.openapi import body_of, problems
from service.api.schemas.base import MAX_ID_LENGTH, Identifier
from service.api.schemas.events import AppendRequest, AppendResponse, EventsResponse
from service.errors import InvalidRequestError, Violation
from service.serving import Serving
from service.store import Event
from service.store.protocol import wall_clock_ms

MAX_AHEAD_MS = 24 * 60 * 60 * 1000
"""How far in the future an event may be: clocks differ, but an event of next year would stay newest."""

# :path, so that an id may hold a slash.
_ROUTE = "/users/{user_id:path}/events"
UserId = Annotated[Identifier, Path(max_length=MAX_ID_LENGTH, examples=["u42"])]


def add_events(app: FastAPI, serving: Serving) -> None:
    """Add the routes to an application."""
    settings = serving.settings

    @app.post(
        _ROUTE,
        tags=["events"],
        response_model=AppendResponse,
        openapi_extra=body_of(AppendRequest),
        responses=problems(400, 413, 422, 503),
    )
    async def append_events(user_id: UserId, request: Request) -> Response:
        """Append interactions; once this answers 200 they survive the service's death."""
        body = await read_body(request, AppendRequest, settings.max_body_bytes)
        now_ms = wall_clock_ms()
        events = body.to_events(now_ms)
        _check_limits(events, settings.max_events, now_ms)
        catalogue = serving.recommender_for(user_id).model.catalogue
        known = catalogue.indices_of([event.item_id for event in events])
        with request.state.timings.measure("store"):
            result = await serving.store.append(user_id, events)
        answer = AppendResponse(**result._asdict(), unknown=int(np.count_nonzero(known < 0)))
        serving.metrics.appended(result, answer.unknown)
        return _json(answer.model_dump_json())

    @app.get(_ROUTE, tags=["events"], response_model=EventsResponse, responses=problems(422, 503))
    async def read_events(user_id: UserId, request: Request) -> Response:
        """Return what is stored of a user, oldest first."""
        with request.state.timings.measure("store"):
            events = await serving.store.read(user_id, settings.store_max_events)
        return _json(EventsResponse.of(events).model_dump_json())

    @app.delete(_ROUTE, tags=["events"], status_code=204, responses=problems(422, 503))
    async def delete_events(user_id: UserId, request: Request) -> Response:
        """Forget a user; replays of earlier events are stale for 24 hours."""
        with request.state.timings.measure("store"):
            await serving.store.delete(user_id)
        return Response(status_code=204)


def _check_limits(events: list[Event], max_events: int, now_ms: int) -> None:
    if len(events) > max_events:
        raise InvalidRequestError(
            [Violation(f"Found {len(events)}, the limit is {max_events}", pointer("events"))]
        )
    violations = [
        Violation("Input should not be more than a day in the future", pointer("events", i, "timestamp"))
        for i, event in enumerate(events)
        if event.time_ms > now_ms + MAX_AHEAD_MS
    ]
    if violations:
        raise InvalidRequestError(violations)


def _json(content: str) -> Response:
    return Response(content, headers={"Cache-Control": "private, no-store"}, media_type="application/json")
