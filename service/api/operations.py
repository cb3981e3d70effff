"""What operators and machines ask: probes, metrics, and which model this is."""

from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client.exposition import choose_encoder

from service.api.openapi import problems
from service.api.schemas.base import MAX_ID_LENGTH
from service.api.schemas.model import ChallengerModel, Limits, ModelResponse, Sizes, Status
from service.model import Model
from service.serving import Serving


def add_operations(app: FastAPI, serving: Serving) -> None:
    """Add the routes to an application."""

    @app.get("/livez", tags=["operations"])
    async def livez() -> Status:
        """Say that the process answers."""
        return Status(status="alive")

    @app.get("/readyz", tags=["operations"], responses=problems(503))
    async def readyz() -> Status:
        """Say whether to send requests here: the model is loaded, and the process is not about to end."""
        await serving.check_ready()
        return Status(status="ready")

    @app.get("/startupz", tags=["operations"], responses=problems(503))
    async def startupz() -> Status:
        """Say whether the model has been loaded; still so while the process is about to end."""
        serving.recommender  # noqa: B018  # raises
        return Status(status="started")

    @app.get("/metrics", tags=["operations"], response_class=Response)
    def metrics(request: Request) -> Response:  # in a thread: it takes milliseconds
        """Return the metrics in Prometheus' text format, or OpenMetrics where it is asked for."""
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(serving.metrics), headers={"Content-Type": media_type})

    @app.get("/model", tags=["operations"], responses=problems(503))
    async def model() -> ModelResponse:
        """Describe the served models and the limits of requests."""
        lineup, settings = serving.models.lineup, serving.settings
        challenger = None
        if lineup.challenger is not None:
            challenger = ChallengerModel(**_described(lineup.challenger), share=lineup.share)
        return ModelResponse(
            **_described(lineup.champion),
            limits=Limits(
                max_k=settings.max_k,
                max_history=settings.max_history,
                max_exclude=settings.max_exclude,
                max_candidates=settings.max_candidates,
                max_filter_values=settings.max_filter_values,
                max_batch=settings.max_batch,
                max_timeout_ms=int(settings.request_timeout_s * 1000),
                max_new_items=settings.max_new_items,
                max_events=settings.max_events,
                max_found_items=settings.max_found_items,
                max_body_bytes=settings.max_body_bytes,
                max_id_length=MAX_ID_LENGTH,
            ),
            challenger=challenger,
            previous=serving.models.state.previous,
        )


def _described(model: Model) -> dict[str, Any]:
    """Return the fields of a `ServedModel`."""
    about = model.description
    return {
        "name": about.name,
        "version": about.version,
        "created_at": about.created_at,
        "backbone": about.backbone,
        "sizes": Sizes(**{name: getattr(about, name) for name in Sizes.model_fields}),
        "added_items": model.catalogue.num_added,
        "retired_items": model.catalogue.num_retired,
        "metrics": dict(about.metrics),
        "providers": model.encoder.providers,
        "scorer": model.scorer.backend,
    }
