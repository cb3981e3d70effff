"""Who may ask for what, and how often: API keys, the admin key, and a limit on each client's rate.

Plain ASGI, as all that every request goes through. Keys are compared by their digests, all of them every
time, so that neither their bytes nor their order shows in the time that it takes; they are never logged.
"""

import hmac
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import sha256
from time import monotonic
from typing import Literal

from fastapi import Request
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.page import page_files
from service.api.problems import PROBLEMS, problem_of
from service.errors import (
    AdminDisabledError,
    ForbiddenError,
    RateLimitedError,
    RequestError,
    UnauthorizedError,
)
from service.serving import Serving
from service.settings import Settings

PROBES = frozenset({"/livez", "/readyz", "/startupz"})
MOST_CLIENTS = 10_000
"""How many clients' rates are known at a time; whoever asked least recently is forgotten, at no loss."""

Role = Literal["client", "admin"]


class Keys:
    """The keys that are valid, as digests."""

    def __init__(self, api_keys: Iterable[str], admin_key: str | None) -> None:
        self._api = [_digest(key.encode()) for key in api_keys]
        self._admin = None if admin_key is None else _digest(admin_key.encode())

    @classmethod
    def of(cls, settings: Settings) -> "Keys":
        """Take the keys of settings."""
        admin = settings.admin_key
        return cls(settings.all_api_keys(), None if admin is None else admin.get_secret_value())

    @property
    def needed(self) -> bool:
        """Whether a request needs a key."""
        return bool(self._api)

    @property
    def has_admin(self) -> bool:
        """Whether there is an admin key."""
        return self._admin is not None

    def role_of(self, key: bytes) -> tuple[Role | None, bytes]:
        """Return what a key opens, and its digest; in the same time for every key of one length."""
        digest = _digest(key)
        is_api = False
        for known in self._api:
            is_api |= hmac.compare_digest(digest, known)
        if self._admin is not None and hmac.compare_digest(digest, self._admin):
            return "admin", digest
        return ("client" if is_api else None), digest


class RateLimit:
    """A bucket of tokens for each client, in a bounded table; on the event loop only."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def take(self, client: object, tokens: int = 1) -> None:
        """Take tokens, more than a bucket holds if it is full: what is owed is waited for by the next.

        Raises:
            RateLimitedError: there are not enough; none was taken.
        """
        now = self._clock()
        left, at = self._buckets.get(client, (float(self._burst), now))
        left = min(self._burst, left + (now - at) * self._rate)
        missing = min(tokens, self._burst) - left
        if missing > 0:
            wait_s = math.ceil(missing / self._rate)
            raise RateLimitedError(f"More than {self._rate:g} requests a second.", wait_s)
        self._buckets[client] = (left - tokens, now)
        self._buckets.move_to_end(client)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)


class AuthMiddleware:
    """Refuses requests without a valid key, and clients that ask too often; inside `RequestMiddleware`."""

    def __init__(self, app: ASGIApp, serving: Serving) -> None:
        settings = serving.settings
        self._app = app
        self._serving = serving
        self._keys = Keys.of(settings)
        self._open = PROBES | set(page_files()) | (set() if settings.metrics_need_key else {"/metrics"})
        self._limit = RateLimit(settings.rate_limit, settings.rate_burst) if settings.rate_limit else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; what is not HTTP passes through."""
        if scope["type"] == "http" and scope["path"] not in self._open:
            try:
                self._admit(scope)
            except RequestError as error:
                self._serving.metrics.rejected(PROBLEMS[type(error)].reason)
                _find_route(scope)
                answer = problem_of(Request(scope), error, self._serving.settings.retry_after_s)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        state = scope["state"]
        role: Role | None = None
        client: object = (scope.get("client") or ("",))[0]
        key = _key_in(scope) if self._keys.needed or self._keys.has_admin else None
        if key is not None:
            role, digest = self._keys.role_of(key)
            client = client if role is None else digest
        if self._limit is not None:  # before anything else: who guesses keys may do so at this rate
            state["take"] = partial(self._limit.take, client)
            self._limit.take(client)
        if self._keys.needed and role is None:
            raise UnauthorizedError(_HOW)
        state["role"], state["has_key"], state["has_admin"] = role, key is not None, self._keys.has_admin


async def require_admin(request: Request) -> None:
    """Let only the admin key through; the dependency of every route that changes what is served.

    Raises:
        AdminDisabledError: no admin key is set.
        UnauthorizedError: the request has no valid key.
        ForbiddenError: its key is a client's.
    """
    state = request.state
    if not state.has_admin:
        raise AdminDisabledError("Administration is off; set RECJPQ_ADMIN_KEY to turn it on.")
    if state.role is None:
        raise UnauthorizedError(_HOW)
    if state.role != "admin":
        raise ForbiddenError("This needs the admin key.")


def take_more(request: Request, requests: int) -> None:
    """Count a request that holds several as that many; raises RateLimitedError if they are too many."""
    if requests > 1 and (take := getattr(request.state, "take", None)) is not None:
        take(requests - 1)


def _find_route(scope: Scope) -> None:
    """Name the route that was meant, for the metrics: what is refused here never comes to the router."""
    for route in scope["app"].routes:
        if route.matches(scope)[0] is Match.FULL:
            scope["route"] = route
            return


_HOW = "Send a valid key, as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."


def _key_in(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return bytes(value)
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return bytes(key.strip())
    return None


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()
