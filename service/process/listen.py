"""The sockets on which the service is reached: bound before anything costly is done, closed without loss."""

import ctypes
import logging
import socket
import struct
import sys
from collections.abc import Iterable
from typing import Any

from service.errors import StartupError

_SO_ATTACH_FILTER = 26  # Linux', which Python does not name
# A program of the classic packet filter, over a TCP segment: code, jump if true, jump if false, operand.
_DROP_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of the flags
        (0x45, 0, 1, 0x02),  # is SYN set?
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFF_FFFF),  # keep
    )
)

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
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def let_nobody_in(listeners: Iterable[socket.socket]) -> None:
    """Drop attempts to connect from now on, while connections that are already made can still be accepted.

    A socket that is closed with connections in its queue resets them, though their callers may have sent
    requests: so this, then accept what is there, then close. Who tries meanwhile tries again a second later
    and is refused. Where the kernel has no such filter the last few connections are reset.
    """
    if sys.platform != "linux":
        return
    for listener in listeners:
        program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
        filter_of_socket = struct.pack("HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
        try:
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_of_socket)
        except OSError as error:
            _log.info("connections made as the service ends may be reset: %s", error)
