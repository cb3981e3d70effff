"""One connection to a Redis server, shared by everything that waits for an answer."""

import asyncio
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Any, Protocol, cast

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

Command = tuple[str | bytes | int, ...]
"""A command's name and its arguments."""

_PLACE = frozenset({"host", "port", "path", "db", "username", "password", "connection_class"})


class RedisCommands(Protocol):
    """Whatever sends commands: one server's connection, or a cluster's connections."""

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one go and return their replies; raises RedisError for the first that failed.

        A command whose answer is lost is not sent again: an append without event ids must not happen twice.
        """
        ...

    def node_of(self, key: str) -> str:
        """Return the address of the node that has a key; empty where there is one, or it is not known."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class RedisConnection:
    """Sends commands as they come, without waiting for earlier answers, and connects when it must.

    A server answers one connection's commands in their order, so any number of calls can share it. A pool
    of connections, one for each call in flight, takes five times the processor time (docs/log.md).

    It has no deadline of its own: callers cancel what they no longer wait for. A connection whose oldest
    answer has been due for longer than `timeout_s` is given up by the next call.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """Read the URL, in redis-py's form; raises ValueError if it cannot be understood."""
        options: dict[str, Any] = {**parse_url(url)}
        tls = {name: options.pop(name) for name in list(options) if name.startswith("ssl_")}
        if unknown := options.keys() - _PLACE:
            raise ValueError(f"options that have no meaning here: {', '.join(sorted(unknown))}")
        secure = options.get("connection_class") is SSLConnection
        self._tls = SSLConnection(**tls).ssl_context.get() if secure else None
        self._host, self._port = options.get("host", "localhost"), options.get("port", 6379)
        self._path = options.get("path")
        self._greeting = _greeting(options)
        self._timeout_s = timeout_s
        self._link: _Link | None = None
        self._connecting: asyncio.Task[_Link] | None = None

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """See `RedisCommands.execute`."""
        replies = await self.replies(commands)
        check_replies(replies)
        return replies

    def node_of(self, key: str) -> str:  # noqa: ARG002  # the protocol's signature
        """See `RedisCommands.node_of`."""
        return ""

    async def replies(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands; return their replies, of which each may be a `hiredis.ReplyError`."""
        if not commands:
            return []
        link = self._link
        if link is None or not link.is_usable(self._timeout_s):
            link = await self._connected()
        return await link.send(commands)

    async def close(self) -> None:
        """See `RedisCommands.close`."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.end("closed")

    async def _connected(self) -> "_Link":
        """Return a usable connection; callers that come meanwhile wait for the same one."""
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())  # retrieved
        return await asyncio.shield(self._connecting)  # one caller's deadline is not the others'

    async def _connect(self) -> "_Link":
        if self._link is not None:
            self._link.end("given up: no answer")
        link = _Link()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._open(link)
                replies = await link.send(self._greeting) if self._greeting else ()
            check_replies(replies)
        except BaseException as error:
            link.end("not opened")
            if isinstance(error, OSError):  # uvloop's does not say where
                raise RedisConnectionError(
                    f"{self._path or f'{self._host}:{self._port}'}: {error}"
                ) from error
            raise
        self._link = link
        return link

    async def _open(self, link: "_Link") -> None:
        loop = asyncio.get_running_loop()
        if self._path is not None:
            await loop.create_unix_connection(lambda: link, self._path)
        else:
            await loop.create_connection(lambda: link, self._host, self._port, ssl=self._tls)


class _Call:
    """Commands that were sent together; their replies come into `done` when all are there."""

    __slots__ = ("done", "due", "replies", "sent_s")

    def __init__(self, due: int) -> None:
        self.due = due
        self.sent_s = monotonic()
        self.replies: list[Any] = []
        self.done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()


class _Link(asyncio.Protocol):
    """One connection's life: what was sent and is not answered, oldest first.

    Once it is leaving it takes no more commands, and closes when those sent are answered.
    """

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._calls: deque[_Call] = deque()
        self._transport: asyncio.Transport | None = None
        self._over = self._leaving = False

    def is_usable(self, timeout_s: float) -> bool:
        """Say whether the server may still answer here."""
        if self._over or self._leaving:
            return False
        return not self._calls or monotonic() - self._calls[0].sent_s < timeout_s

    def send(self, commands: Sequence[Command]) -> asyncio.Future[list[Any]]:
        """Write commands; the future gets their replies, or is cancelled by whoever stops waiting."""
        call = _Call(len(commands))
        self._calls.append(call)
        if self._transport is None:
            raise RedisConnectionError("not connected")
        self._transport.write(b"".join([_packed(command) for command in commands]))
        return call.done

    def end(self, reason: str) -> None:
        """Close at once; what is not answered never will be."""
        self._over = True
        if self._transport is not None:
            self._transport.abort()
        self._fail(reason)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._take(reply)
        except (hiredis.ProtocolError, IndexError) as error:
            self.end(f"not an answer of Redis: {error}")

    def _take(self, reply: Any) -> None:
        call = self._calls[0]
        call.replies.append(reply)
        if len(call.replies) < call.due:
            return
        self._calls.popleft()
        if any(isinstance(reply, hiredis.ReplyError) and _is_replica(reply) for reply in call.replies):
            self._leaving = True  # the primary is elsewhere by now: look its name up again
        if not call.done.done():
            call.done.set_result(call.replies)
        if self._leaving and not self._calls:
            self.end("left")

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._fail(str(exc or "closed by the server"))

    def _fail(self, reason: str) -> None:
        calls, self._calls = self._calls, deque()
        for call in calls:
            if not call.done.done():
                call.done.set_exception(RedisConnectionError(reason))


def _is_replica(error: hiredis.ReplyError) -> bool:
    return str(error).startswith("READONLY")


def _packed(command: Command) -> bytes:
    return cast("bytes", hiredis.pack_command(cast("Any", command)))  # hiredis' types know tuples of one


def check_replies(replies: Sequence[Any]) -> None:
    """Raise the first reply that is an error, as RedisError."""
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            message = str(reply)
            raise NoScriptError(message) if message.startswith("NOSCRIPT") else ResponseError(message)


def _greeting(options: dict[str, Any]) -> list[Command]:
    """Return what is said first on a connection: who we are, and which database is meant."""
    commands: list[Command] = []
    if password := options.get("password"):
        user = options.get("username")
        commands.append(("AUTH", user, password) if user else ("AUTH", password))
    if database := options.get("db", 0):
        commands.append(("SELECT", database))
    return commands
