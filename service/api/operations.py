"""What operators and machines ask: probes, metrics, and which model this is."""

from dataclasses import asdict

from fastapi import FastAPI, Request, Response
from prometheus_client.exposition import choose_encoder

from service.api.openapi import problems
from service.api.schemas import MAX_ID_LENGTH, Limits, ModelResponse, Sizes, Status
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

    @app.get("/metrics", tags=["operations"], response_class=Response)
    def metrics(request: Request) -> Response:  # in a thread: it takes milliseconds
        """Return the metrics in Prometheus' text format, or OpenMetrics where it is asked for."""
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(serving.metrics), headers={"Content-Type": media_type})

    @app.get("/model", tags=["operations"], responses=problems(503))
    async def model() -> ModelResponse:
        """Describe the served model and the limits of requests."""
        served, settings = serving.recommender.model, serving.settings
        about = served.description
        return ModelResponse(
            name=about.name,
            version=about.version,
            created_at=about.created_at,
            backbone=about.backbone,
            sizes=Sizes(**{name: asdict(about)[name] for name in Sizes.model_fields}),
            limits=Limits(
                max_k=settings.max_k,
                max_history=settings.max_history,
                max_exclude=settings.max_exclude,
                max_candidates=settings.max_candidates,
                max_filter_values=settings.max_filter_values,
                max_batch=settings.max_batch,
                max_timeout_ms=int(settings.request_timeout_s * 1000),
                max_events=settings.max_events,
                max_body_bytes=settings.max_body_bytes,
                max_id_length=MAX_ID_LENGTH,
            ),
            metrics=dict(about.metrics),
            providers=served.encoder.providers,
            scorer=served.scorer.backend,
        )
