"""`POST /recommend` and `POST /recommend/batch`."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from time import perf_counter
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from recjpq.errors import FilterError
from service.api.auth import take_more
from service.api.body import MOST_ERRORS, parse_body, pointer, read_bytes, refusal_of
from service.api.openapi import body_of, problems
from service.api.problems import PROBLEMS, document_of
from service.api.routes import add_direct_post
from service.api.schemas.recommend import (
    BatchRequest,
    BatchResponse,
    PlainRecommendRequest,
    RecommendRequest,
    RecommendResponse,
)
from service.errors import InvalidRequestError, MalformedBodyError, ServiceError, Violation
from service.explanation import Contributions
from service.recommender import Recommendation, Recommender, Refusal
from service.serving import Serving
from service.settings import Settings

MOST_CONTRIBUTIONS = 3
"""How many items of a history an explanation names."""


def add_recommend(app: FastAPI, serving: Serving) -> None:
    """Add the routes to an application."""
    settings = serving.settings

    async def recommend(request: Request) -> Response:
        """Recommend items to follow a history, that of the request, that of a user, or both."""
        body = _parse(await read_bytes(request, settings.max_body_bytes))
        _check_limits(body, settings)
        recommender = serving.recommender_for(body.user_id)
        request.state.model_version = recommender.model.description.version
        (result,) = await recommender.recommend(
            [body.to_query()],
            request.state.timings,
            _deadline(request, body.timeout_ms, settings),
            lambda: _disconnected(request),
        )
        if not isinstance(result, Recommendation):
            raise _told(result)
        with request.state.timings.measure("respond"):
            content = _answer(request.state.request_id, result, body.include)
            _count(serving, recommender, result, perf_counter() - request.state.timings.began)
            return _json(content)

    async def recommend_batch(request: Request) -> Response:
        """Answer several requests together: each has its own answer, or its own problem."""
        entries, timeout_ms = _parse_batch(await read_bytes(request, settings.max_body_bytes), settings)
        take_more(request, len(entries))
        deadline = _deadline(request, timeout_ms, settings)
        groups: dict[int, list[int]] = {}
        recommenders: dict[int, Recommender] = {}
        for place, entry in enumerate(entries):
            if isinstance(entry, RecommendRequest):
                recommender = serving.recommender_for(entry.user_id)
                recommenders[id(recommender)] = recommender
                groups.setdefault(id(recommender), []).append(place)

        results = [
            _refused(serving, request, entry) if isinstance(entry, ServiceError) else {} for entry in entries
        ]
        given: list[tuple[Recommender, Recommendation, float]] = []

        async def answer(recommender: Recommender, places: list[int]) -> None:
            bodies = [
                entry for entry in map(entries.__getitem__, places) if isinstance(entry, RecommendRequest)
            ]
            queries = [body.to_query() for body in bodies]
            answers = await recommender.recommend(
                queries, request.state.timings, deadline, lambda: _disconnected(request)
            )
            seconds = perf_counter() - request.state.timings.began
            for place, body, result in zip(places, bodies, answers, strict=True):
                if isinstance(result, Recommendation):
                    given.append((recommender, result, seconds))
                    results[place] = _answer(request.state.request_id, result, body.include)
                else:
                    results[place] = _refused(serving, request, _told(result))

        await _all_or_none([answer(recommenders[key], places) for key, places in groups.items()])
        _name_versions(request, [recommendation for _, recommendation, _ in given])
        for recommender, recommendation, seconds in given:
            _count(serving, recommender, recommendation, seconds)
        with request.state.timings.measure("respond"):
            return _json({"request_id": request.state.request_id, "results": results})

    add_direct_post(
        app,
        "/recommend",
        recommend,
        tags=["recommendations"],
        response_model=RecommendResponse,
        openapi_extra=body_of(RecommendRequest),
        responses=problems(400, 404, 413, 422, 503, 504),
    )
    add_direct_post(
        app,
        "/recommend/batch",
        recommend_batch,
        tags=["recommendations"],
        response_model=BatchResponse,
        openapi_extra=body_of(BatchRequest),
        responses=problems(400, 413, 422, 503, 504),
    )


async def _all_or_none(parts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for every part; when one fails, give the others up and raise its error."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _parse(body: bytes) -> RecommendRequest:
    try:
        return PlainRecommendRequest.model_validate_json(body)
    except ValidationError:
        return parse_body(body, RecommendRequest)  # other entries than ids, or it tells what is wrong


def _parse_batch(body: bytes, settings: Settings) -> tuple[list[RecommendRequest | ServiceError], int | None]:
    """Return each request of a batch, or what is wrong with it, and the batch's timeout.

    Raises:
        MalformedBodyError, InvalidRequestError: the batch itself is wrong.
    """
    try:
        batch = BatchRequest.model_validate_json(body)
    except ValidationError as error:
        if error.error_count() > MOST_ERRORS:
            raise refusal_of(error) from error
        places = [detail["loc"][:2] for detail in error.errors(include_url=False, include_input=False)]
        if not all(len(place) == 2 and place[0] == "requests" for place in places):
            raise refusal_of(error) from error
        raw = from_json(body)
        found = len(raw["requests"])
        entries = [_parse_entry(to_json(entry)) for entry in raw["requests"]]
        timeout_ms = raw.get("timeout_ms")
    else:
        found = len(batch.requests)
        entries = list(batch.requests)
        timeout_ms = batch.timeout_ms
    if found > settings.max_batch:
        raise InvalidRequestError(
            [Violation(f"Found {found}, the limit is {settings.max_batch}", pointer("requests"))]
        )
    return [_checked(entry, settings) for entry in entries], timeout_ms


def _parse_entry(entry: bytes) -> RecommendRequest | ServiceError:
    try:
        return parse_body(entry, RecommendRequest)
    except (InvalidRequestError, MalformedBodyError) as error:
        return error


def _checked(entry: RecommendRequest | ServiceError, settings: Settings) -> RecommendRequest | ServiceError:
    if isinstance(entry, RecommendRequest):
        try:
            _check_limits(entry, settings)
        except InvalidRequestError as error:
            return error
    return entry


def _check_limits(body: RecommendRequest, settings: Settings) -> None:
    values = sum(len(given.any_of or ()) + len(given.none_of) for given in body.filters.values())
    found = {
        "k": (body.k, settings.max_k),
        "history": (len(body.history or ()), settings.max_history),
        "exclude": (len(body.exclude), settings.max_exclude),
        "candidates": (len(body.candidates or ()), settings.max_candidates),
        "filters": (values + len(body.filters), settings.max_filter_values),
    }
    violations = [
        Violation(f"Found {value}, the limit is {limit}", pointer(name))
        for name, (value, limit) in found.items()
        if value > limit
    ]
    if violations:
        raise InvalidRequestError(violations)


def _deadline(request: Request, timeout_ms: int | None, settings: Settings) -> float:
    """Return when to give up, on `perf_counter`'s clock: counted from the request's arrival."""
    timeout_s = settings.request_timeout_s
    if timeout_ms is not None:
        timeout_s = min(timeout_s * 1000, timeout_ms) / 1000  # a huge integer cannot be divided
    began: float = request.state.timings.began
    return began + timeout_s


async def _disconnected(request: Request) -> None:
    """Return when the client has closed its connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _name_versions(request: Request, given: Sequence[Recommendation]) -> None:
    """Have the answer's header name the versions that made it: two where there is a challenger."""
    if versions := {recommendation.model.description.version for recommendation in given}:
        request.state.model_version = ", ".join(sorted(versions))


def _told(refusal: Refusal) -> ServiceError:
    """Return a refusal in the API's terms."""
    if isinstance(refusal, FilterError):
        return InvalidRequestError([Violation(refusal.detail, pointer("filters", refusal.attribute))])
    return refusal


def _refused(serving: Serving, request: Request, error: ServiceError) -> dict[str, Any]:
    """Return the problem document of one request of a batch, and count it."""
    serving.metrics.rejected(PROBLEMS[type(error)].reason)
    return document_of(request, error)


def _answer(request_id: str, recommendation: Recommendation, include: Sequence[str]) -> dict[str, Any]:
    """Return a `RecommendResponse`; as plain objects, since validating what we made ourselves costs time."""
    about, history = recommendation.model.description, recommendation.history
    return {
        "request_id": request_id,
        "items": _items(recommendation, include),
        "strategy": recommendation.strategy,
        "exhausted": recommendation.exhausted,
        "degraded": recommendation.degraded,
        "model": {"name": about.name, "version": about.version},
        "history": {
            "source": recommendation.source,
            "used": recommendation.used,
            "received": history.received,
            "unknown_items": history.unknown_items,
        },
    }


def _items(recommendation: Recommendation, include: Sequence[str]) -> list[dict[str, Any]]:
    catalogue, best = recommendation.model.catalogue, recommendation.best
    items: list[dict[str, Any]] = [
        {"item_id": item_id, "rank": rank} for rank, item_id in enumerate(catalogue.ids_of(best.ids), 1)
    ]
    columns: dict[str, Sequence[Any]] = {}
    if "scores" in include:
        columns["score"] = best.scores.tolist()
    if "metadata" in include:
        columns["metadata"] = catalogue.metadata_of(best.ids)
    if "explanation" in include:
        columns["explanation"] = _explanations(recommendation)
    for name, column in columns.items():
        for item, value in zip(items, column, strict=True):
            item[name] = value
    return items


def _explanations(recommendation: Recommendation) -> list[list[dict[str, Any]]]:
    contributions = recommendation.contributions
    if contributions is None:  # popular items are not recommended because of the history
        return [[] for _ in recommendation.best.ids]
    return [_explanation(recommendation, contributions, row) for row in range(len(contributions.scores))]


def _explanation(
    recommendation: Recommendation, contributions: Contributions, row: int
) -> list[dict[str, Any]]:
    scores = contributions.scores[row]
    most = [place for place in (-scores).argsort(kind="stable")[:MOST_CONTRIBUTIONS] if scores[place] > 0]
    ids = recommendation.model.catalogue.ids_of(contributions.history[most])
    return [
        {"item_id": item_id, "contribution": float(scores[place])}
        for item_id, place in zip(ids, most, strict=True)
    ]


def _json(content: dict[str, Any]) -> Response:
    return Response(
        to_json(content, inf_nan_mode="null", bytes_mode="base64"),
        headers={"Cache-Control": "private, no-store"},
        media_type="application/json",
    )


def _count(
    serving: Serving, recommender: Recommender, recommendation: Recommendation, seconds: float
) -> None:
    serving.metrics.recommended(
        recommendation.strategy,
        recommender.variant,
        recommendation.degraded,
        len(recommendation.history.unknown_items),
        seconds,
    )
