"""The sockets on which the service is reached, bound before anything costly is done."""

import logging
import socket
from typing import Any

from service.errors import StartupError

_log = logging.getLogger(__name__)


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind a socket to each address of a host; they refuse connections until a server listens on them.

    Raises:
        StartupError: an address cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listeners = [_bind(family, address) for family, _, _, _, address in dict.fromkeys(found)]
    except OSError as error:
        raise StartupError(
            f"{host}:{port}: {error.strerror or error}; set RECJPQ_HOST, RECJPQ_PORT"
        ) from error
    for listener in listeners:
        _log.info("bound", extra={"address": listener.getsockname()[:2]})
    return listeners


def _bind(family: socket.AddressFamily, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
    listener.bind(address)
    listener.setblocking(False)
    return listener
