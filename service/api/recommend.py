"""`POST /recommend`."""

from collections.abc import Sequence

from fastapi import FastAPI, Request, Response

from service.api.body import pointer, read_body
from service.api.openapi import body_of, problems
from service.api.schemas import HistoryUse, ModelName, RecommendedItem, RecommendRequest, RecommendResponse
from service.errors import InvalidRequestError, Violation
from service.recommender import Query, Recommendation
from service.serving import Serving
from service.settings import Settings


def add_recommend(app: FastAPI, serving: Serving) -> None:
    """Add the route to an application."""
    settings = serving.settings

    @app.post(
        "/recommend",
        tags=["recommendations"],
        response_model=RecommendResponse,
        openapi_extra=body_of(RecommendRequest),
        responses=problems(400, 404, 413, 422, 503),
    )
    async def recommend(request: Request) -> Response:
        """Recommend items to follow a history, that of the request, that of a user, or both."""
        body = await read_body(request, RecommendRequest, settings.max_body_bytes)
        _check_limits(body, settings)
        timings = request.state.timings
        recommendation = await serving.recommender.recommend(_query(body), timings)
        with timings.measure("respond"):
            answer = _answer(request.state.request_id, recommendation, body.include)
            content = answer.model_dump_json(exclude_unset=True)
        _count(serving, recommendation)
        headers = {"Cache-Control": "private, no-store"}
        return Response(content, headers=headers, media_type="application/json")


def _check_limits(body: RecommendRequest, settings: Settings) -> None:
    found = {
        "k": (body.k, settings.max_k),
        "history": (len(body.history or ()), settings.max_history),
        "exclude": (len(body.exclude), settings.max_exclude),
    }
    violations = [
        Violation(f"Found {value}, the limit is {limit}", pointer(name))
        for name, (value, limit) in found.items()
        if value > limit
    ]
    if violations:
        raise InvalidRequestError(violations)


def _query(body: RecommendRequest) -> Query:
    return Query(
        history=body.item_ids(),
        user_id=body.user_id,
        k=body.k,
        exclude_seen=body.exclude_seen,
        exclude=body.exclude,
        fallback=body.fallback == "popular",
    )


def _answer(request_id: str, recommendation: Recommendation, include: Sequence[str]) -> RecommendResponse:
    about = recommendation.model.description
    history = recommendation.history
    return RecommendResponse(
        request_id=request_id,
        items=_items(recommendation, include),
        strategy=recommendation.strategy,
        exhausted=recommendation.exhausted,
        degraded=list(recommendation.degraded),
        model=ModelName(name=about.name, version=about.version),
        history=HistoryUse(
            source=recommendation.source,
            used=recommendation.used,
            received=history.received,
            unknown_items=history.unknown_items,
        ),
    )


def _items(recommendation: Recommendation, include: Sequence[str]) -> list[RecommendedItem]:
    catalogue, best = recommendation.model.catalogue, recommendation.best
    items = [{"item_id": item_id, "rank": rank} for rank, item_id in enumerate(catalogue.ids_of(best.ids), 1)]
    columns: dict[str, list[object]] = {}
    if "scores" in include:
        columns["score"] = best.scores.tolist()
    if "metadata" in include:
        columns["metadata"] = list(catalogue.metadata_of(best.ids))
    for name, column in columns.items():
        for item, value in zip(items, column, strict=True):
            item[name] = value
    return [RecommendedItem.model_validate(item) for item in items]


def _count(serving: Serving, recommendation: Recommendation) -> None:
    serving.metrics.recommended(
        recommendation.strategy,
        "champion",
        recommendation.degraded,
        len(recommendation.history.unknown_items),
    )
