"""Wiring: the one place where the service's parts are built and joined."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from recjpq import __version__
from service.api.admin import add_admin
from service.api.auth import AuthMiddleware
from service.api.events import add_events
from service.api.items import add_items
from service.api.items_read import add_items_read
from service.api.middleware import RequestMiddleware, StartupErrorMiddleware
from service.api.openapi import DocumentedApp
from service.api.operations import add_operations
from service.api.page import add_page
from service.api.problems import PROBLEMS, problem, problem_of
from service.api.recommend import add_recommend
from service.errors import ClientGoneError, InvalidRequestError, ServiceError, Violation
from service.lifecycle.models import LoadModel
from service.metrics import Metrics
from service.model import load_model
from service.serving import Serving
from service.settings import Settings

if TYPE_CHECKING:
    from service.tracing import Tracing

_COLLECTOR_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_log = logging.getLogger(__name__)


def create_app(settings: Settings, *, load_model: LoadModel = load_model) -> FastAPI:
    """Build the application; its lifespan opens the store and loads the model.

    Args:
        settings: all of them.
        load_model: how to come by the model, for tests that need one of their own.

    Returns:
        The application; `app.state.serving` is its `Serving`.
    """
    metrics = Metrics()
    serving = Serving(settings, metrics, load_model)
    tracing = _open_tracing()
    app = DocumentedApp(
        title="RecJPQ recommendations",
        version=__version__,
        lifespan=lambda _: _running(serving, tracing),
        redirect_slashes=False,
        docs_url=None,  # it would load scripts from elsewhere; ours is in add_page
        redoc_url=None,
    )
    app.state.serving = serving
    add_recommend(app, serving)
    add_events(app, serving)
    add_items(app, serving)
    add_admin(app, serving)
    add_operations(app, serving)
    add_items_read(app, serving)  # last of what is below /items
    if settings.page:
        add_page(app)
    routes = _statuses_by_route(app, settings)
    metrics.declare_routes(routes)
    metrics.declare_rejections(kind.reason for kind in PROBLEMS.values())
    _handle_errors(app, serving)
    app.add_middleware(AuthMiddleware, serving=serving)
    app.add_middleware(RequestMiddleware, serving=serving, routes=frozenset(routes), tracing=tracing)
    app.add_middleware(StartupErrorMiddleware)
    return app


def _open_tracing() -> "Tracing | None":
    """Return what traces requests if OpenTelemetry's variables name a collector; else import nothing."""
    named = next(filter(os.environ.get, _COLLECTOR_VARIABLES), None)
    if named is None:
        return None
    try:
        from service.tracing import Tracing  # noqa: PLC0415
    except ImportError as error:
        _log.warning("%s is set, but there are no traces: %s; install recjpq[tracing]", named, error)
        return None
    return Tracing()


@asynccontextmanager
async def _running(serving: Serving, tracing: "Tracing | None") -> AsyncIterator[None]:
    try:
        async with serving.running():
            yield
    finally:
        if tracing:
            await asyncio.to_thread(tracing.close)


def _statuses_by_route(app: FastAPI, settings: Settings) -> dict[tuple[str, str], list[int]]:
    """Return what each (method, route template) says of itself that it can answer, or is answered for it."""
    refusals = [401] * settings.has_api_keys + [429] * (settings.rate_limit > 0)
    return {
        (method, route.path_format): [route.status_code or 200, *map(int, route.responses), *refusals]
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    }


def _handle_errors(app: FastAPI, serving: Serving) -> None:
    @app.exception_handler(ServiceError)
    async def service_error(request: Request, error: ServiceError) -> Response:
        serving.metrics.rejected(PROBLEMS[type(error)].reason)
        return problem_of(request, error, serving.settings.retry_after_s)

    @app.exception_handler(ClientGoneError)
    async def client_gone(_: Request, error: ClientGoneError) -> Response:
        raise ClientDisconnect from error  # the middleware ends such a request without an answer

    @app.exception_handler(RequestValidationError)
    async def wrong_parameter(request: Request, error: RequestValidationError) -> Response:
        violations = [Violation(str(e["msg"]), parameter=str(e["loc"][-1])) for e in error.errors()]
        return await service_error(request, InvalidRequestError(violations))

    @app.exception_handler(HTTPException)
    async def no_such_route(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        return problem(request, status, f"{status.phrase}.", headers=dict(error.headers or {}))
