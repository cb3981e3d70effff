"""What happens around every request: its id, its timings, its metrics, and the last resort for errors.

Plain ASGI: the framework's own base class for middleware costs more than the rest of the service's code.
"""

import logging
import re
from collections.abc import Iterable
from http import HTTPStatus
from random import getrandbits
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recjpq.errors import RecJPQError
from service.api.problems import problem
from service.errors import StartupError
from service.metrics import OTHER
from service.serving import Serving
from service.timings import Timings

_SAFE_TOKEN = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")

if TYPE_CHECKING:
    from service.tracing import Tracing

RawHeaders = list[tuple[bytes, bytes]]

_log = logging.getLogger(__name__)
_access_log = logging.getLogger("service.access")


class RequestMiddleware:
    """Names, times, counts and, if all else fails, answers each request."""

    def __init__(
        self,
        app: ASGIApp,
        serving: Serving,
        routes: frozenset[tuple[str, str]],
        tracing: "Tracing | None" = None,
    ) -> None:
        self._app = app
        self._tracing = tracing
        self._serving = serving
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; what is not HTTP passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, timings = 0, Timings()
        request_id = _request_id(scope["headers"])
        scope.setdefault("state", {}).update(request_id=request_id, timings=timings)

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                self._add_headers(message["headers"], scope["state"], timings)
                status = message["status"]
                # Before it is sent: a process that is killed has counted whatever its clients have received.
                self._serving.metrics.answered(*self._label(scope), status)
            await send(message)

        in_progress = self._serving.metrics.in_progress
        in_progress.inc()
        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            _log.debug("the client left before its request was whole", extra={"request_id": request_id})
        except Exception:  # the last resort: whatever it is, it is logged, and the client gets an answer
            _log.exception("request failed", extra={"request_id": request_id})
            if not status:
                failure = problem(Request(scope), HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed.")
                await failure(scope, receive, send_with_headers)
        finally:
            in_progress.dec()
        if status:
            self._record(scope, status, perf_counter(), timings)

    def _add_headers(self, headers: RawHeaders, state: dict[str, Any], timings: Timings) -> None:
        """Append to an answer's headers, which have none of these: no look-ups are needed."""
        headers.append((b"x-request-id", state["request_id"].encode()))
        if version := state.get("model_version") or self._serving.model_version:
            headers.append((b"x-model-version", version.encode()))
        if timings.seconds:
            headers.append((b"server-timing", timings.header().encode()))
        if self._serving.draining:
            headers.append((b"connection", b"close"))

    def _label(self, scope: Scope) -> tuple[str, str]:
        label = (scope["method"], getattr(scope.get("route"), "path_format", OTHER))
        return label if label in self._routes else (OTHER, OTHER)

    def _record(self, scope: Scope, status: int, ended: float, timings: Timings) -> None:
        seconds = ended - timings.began
        method, route = self._label(scope)
        self._serving.metrics.took(method, route, seconds, timings)
        if self._serving.settings.access_log:
            fields = {
                "method": method,
                "route": route,
                "status": status,
                "duration_ms": round(seconds * 1000, 3),
            }
            _access_log.info("request", extra={"request_id": scope["state"]["request_id"], **fields})
        if self._tracing:
            attributes: dict[str, str | int] = {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "recjpq.request_id": scope["state"]["request_id"],
            }
            name = f"{method} {route}"
            self._tracing.record(name, scope["headers"], timings.began, ended, timings, attributes)


class StartupErrorMiddleware:
    """Reports an expected failure to start as its message alone, without a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; only the lifespan's is changed."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failure: Message | None = None

        async def hold_failure(message: Message) -> None:
            nonlocal failure
            if message["type"] == "lifespan.startup.failed":
                failure = message
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold_failure)
        except (StartupError, RecJPQError) as error:
            await send({"type": "lifespan.startup.failed", "message": f"cannot start: {error}"})
        except Exception:  # a fault: uvicorn is told of it as it is, with its traceback
            if failure:
                await send(failure)
            raise


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the caller's id of the request if it can be written anywhere as it is, else a new one."""
    for name, value in headers:
        if name == b"x-request-id" and _SAFE_TOKEN.fullmatch(value):
            return value.decode()
    return f"{getrandbits(128):032x}"
