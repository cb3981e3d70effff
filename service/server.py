"""Running the application under uvicorn, and ending it without losing a request."""

import asyncio
import socket

import uvicorn

from service.app import create_app
from service.serving import Serving
from service.settings import Settings

# Longer than load balancers keep idle connections (60 s is common), so that the service never closes one
# just as a request arrives on it.
_KEEP_ALIVE_S = 75


class DrainingServer(uvicorn.Server):
    """On a signal: not ready, then a short drain, then uvicorn's own graceful shutdown.

    A subclass because uvicorn offers no hook between the signal and the closing of its sockets.
    """

    def __init__(self, config: uvicorn.Config, serving: Serving) -> None:
        super().__init__(config)
        self._serving = serving

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then shut down."""
        self._serving.begin_drain()
        await asyncio.sleep(self._serving.settings.drain_s)
        await super().shutdown(sockets)


def make_server(settings: Settings) -> DrainingServer:
    """Return a server that is ready to run."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        lifespan="on",
        log_config=None,
        access_log=False,  # it would write user ids
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
    )
    return DrainingServer(config, app.state.serving)
