"""One client's connection: what it may cost before a request is whole, and until its answer is taken.

uvicorn's protocol on httptools waits forever for the rest of a request and for a client to take its answer,
and keeps a head of any size and any number of pipelined requests. Behind a proxy that never shows; facing
anyone it would be a way to hold every connection, or all memory, at no cost.
"""

import asyncio
import json
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

MAX_HEAD_BYTES = 64 * 1024
"""Of request line and headers together; what one read brings (256 kB at most) is looked at as a whole."""
MAX_PIPELINED = 64
"""Requests of one connection that may wait for the answer to an earlier one."""


class BoundedProtocol(HttpToolsProtocol):
    """Refuses heads that are too large and clients that are too slow, as problem documents.

    A client that takes nothing of an answer between two looks, `receive_timeout_s` apart, is cut off.
    """

    receive_timeout_s: float

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._receiving_since: float | None = None  # None between requests
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head_bytes = 0
        self._read_bytes = 0
        self._refusal = HTTPStatus.BAD_REQUEST
        self._unsent_bytes = 0  # the least of late, and since when
        self._unsent_since = 0.0
        self._unanswered: list[RequestResponseCycle] = []
        self._deaf = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(cast("asyncio.Transport", transport))  # uvloop's is no instance of it
        self._receiving_since = self.loop.time()
        self._deadline = self.loop.call_later(self.receive_timeout_s, self._check_deadline)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._deadline is not None:
            self._deadline.cancel()
        for cycle in self._unanswered:  # uvicorn tells only the last of several that were pipelined
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._deaf:
            return
        if self._receiving_since is None:
            self._receiving_since = self.loop.time()
        self._read_bytes = len(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A request's first byte is here."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._receiving_since = self._receiving_since or self.loop.time()

    def on_headers_complete(self) -> None:
        """A request's head is whole. What is raised here refuses it."""
        self._in_head = False
        if self._read_bytes > MAX_HEAD_BYTES:  # else it was counted as it came
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > MAX_HEAD_BYTES:
                self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                raise ValueError("head too large")
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many pipelined requests")
        if not self.transport.get_write_buffer_size():  # all that was answered has been taken
            self._unsent_bytes = 0
        super().on_headers_complete()
        self._unanswered = [cycle for cycle in self._unanswered if not cycle.response_complete]
        self._unanswered.append(self.cycle)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._receiving_since = None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's signature
        """Refuse what the parser, or a method above, could not take."""
        self._refuse(self._refusal)

    def resume_writing(self) -> None:
        """The client has taken much of what was to be sent."""
        self._unsent_bytes = 0
        super().resume_writing()

    def _check_deadline(self) -> None:
        """Close if a request has not become whole in time, or its answer is not taken; else look again."""
        if self._is_stuck():
            self.transport.abort()  # to close it would wait until all is sent
            return
        now, since = self.loop.time(), self._receiving_since
        ends = (now if since is None else since) + self.receive_timeout_s
        if ends <= now:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
            ends = now + self.receive_timeout_s  # until it has gone
        self._deadline = self.loop.call_at(ends, self._check_deadline)

    def _is_stuck(self) -> bool:
        """Say whether the client has taken nothing of what is to be sent for as long as it may."""
        unsent, now = self.transport.get_write_buffer_size(), self.loop.time()
        if not unsent or not 0 < self._unsent_bytes <= unsent:
            self._unsent_bytes, self._unsent_since = unsent, now
        return bool(unsent) and now - self._unsent_since >= self.receive_timeout_s

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer without the application, unless it is answering, and close; hear no more."""
        if self.transport.is_closing() or self._deaf:
            return
        unanswered = [cycle for cycle in self._unanswered if not cycle.response_complete]
        if unanswered and not unanswered[-1].more_body:
            unanswered[-1].keep_alive = False  # what came whole is answered; then it closes
            self._deaf = True
            return
        if not any(cycle.response_started for cycle in unanswered):  # else it would stand inside an answer
            problem = {"type": "about:blank", "title": status.phrase, "status": status.value}
            body = json.dumps(problem | {"detail": f"{status.phrase}."}).encode()
            self.transport.write(
                STATUS_LINE[status.value]
                + b"content-type: application/problem+json\r\nconnection: close\r\n"
                + b"content-length: %d\r\n\r\n%s" % (len(body), body)
            )
        self.transport.close()


def bounded_protocol(receive_timeout_s: float) -> type[BoundedProtocol]:
    """Return the protocol with this timeout: uvicorn wants a class, of which it makes one a connection."""

    class Bounded(BoundedProtocol):
        pass

    Bounded.receive_timeout_s = receive_timeout_s
    return Bounded
