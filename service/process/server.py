"""Running the application under uvicorn, and ending it without losing a request."""

import asyncio
import gc
import logging
import multiprocessing
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import uvicorn

from recjpq.errors import RecJPQError
from service.app import create_app
from service.errors import StartupError
from service.logs import configure_logging
from service.metrics import keep_values_of_worker
from service.process.connection import bounded_protocol
from service.process.listen import let_nobody_in
from service.serving import Serving
from service.settings import Settings

# Longer than load balancers keep idle connections (60 s is common), so that the service never closes one
# just as a request arrives on it.
_KEEP_ALIVE_S = 75
# Within this the last connections are accepted; within as much again they send their first request.
_LINGER_S = 0.2
_BACKLOG = 2048

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hooks:
    """What to do when the server serves, and when it has drained."""

    ready: Callable[[], None] = lambda: None
    drained: Callable[[], None] = lambda: None


class DrainingServer(uvicorn.Server):
    """On a signal: not ready, then a short drain, then uvicorn's own graceful shutdown.

    A subclass because uvicorn offers no hook between the signal and the closing of its sockets.
    """

    def __init__(self, config: uvicorn.Config, serving: Serving, hooks: Hooks) -> None:
        super().__init__(config)
        self._serving = serving
        self._hooks = hooks

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if any(each.fileno() < 0 for each in sockets or ()):  # uvloop closes it and raises nothing
            _log.error("cannot start: another process listens at this address since; set RECJPQ_PORT")
            await self.lifespan.shutdown()
            sys.exit(3)
        gc.collect()
        gc.freeze()  # what a start makes stays: no collection looks at it again while a request waits
        self._hooks.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, let nobody in, answer who is, and shut down.

        From the beginning of the drain every answer closes its connection (see RequestMiddleware), so that
        those that uvicorn closes in the end are ones on which nothing is asked any more.
        """
        self._serving.begin_drain()
        await asyncio.sleep(self._serving.settings.drain_s)
        self._hooks.drained()
        await asyncio.sleep(_LINGER_S)
        for server in self.servers:
            server.close()
        await asyncio.sleep(_LINGER_S)
        await super().shutdown(sockets)


def make_server(settings: Settings, hooks: Hooks) -> DrainingServer:
    """Return a server that is ready to run."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http=bounded_protocol(settings.receive_timeout_s),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # it would write user ids
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
    )
    return DrainingServer(config, app.state.serving, hooks)


def serve(settings: Settings, listeners: Sequence[socket.socket]) -> int:
    """Serve in this process until a signal; return the exit status."""
    _run(make_server(settings, Hooks(drained=lambda: let_nobody_in(listeners))), listeners)
    return 0


def check(settings: Settings) -> int:
    """Do all that a start does but listen; return the exit status."""

    async def start_and_stop() -> None:
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            pass

    try:
        asyncio.run(start_and_stop())
    except (StartupError, RecJPQError) as error:
        _log.error("cannot start: %s", error)
        return 3
    return 0


def work(settings: Settings, slot: int, listeners: Sequence[socket.socket], ready: Connection) -> None:
    """Serve as one of several workers until SIGTERM, or until the supervisor is no more.

    Args:
        settings: all of them.
        slot: which of the workers this is, from 0.
        listeners: shared by all of them.
        ready: where to say that this one serves.
    """
    configure_logging(settings.log_level)
    keep_values_of_worker(slot)

    def tell() -> None:
        with suppress(BrokenPipeError):  # the supervisor is gone: `_end_with_parent` ends this worker
            ready.send(None)

    server = make_server(settings, Hooks(ready=tell))
    threading.Thread(target=_end_with_parent, args=[server], name="lifeline", daemon=True).start()
    _run(server, listeners)


def _run(server: DrainingServer, listeners: Sequence[socket.socket]) -> None:
    # Once it has ended well uvicorn raises the signal again, which by default would be the process' status.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with suppress(KeyboardInterrupt):
            server.run(list(listeners))
    finally:
        for listener in listeners:
            listener.close()


def _end_with_parent(server: DrainingServer) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        _log.warning("the supervisor is gone; ending")
        server.should_exit = True
