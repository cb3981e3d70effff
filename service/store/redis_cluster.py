"""Commands to a Redis Cluster, each to the node that has its key."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.store.redis_connection import Command

SCHEMES = ("redis+cluster", "rediss+cluster")


class RedisClusterConnections:
    """redis-py's cluster client as a `RedisCommands`: it knows the slots and follows those that move."""

    def __init__(self, url: str, *, connections: int, connect_timeout_s: float, timeout_s: float) -> None:
        """Read `redis+cluster://[user:password@]host:port,host:port`; raises ValueError if it cannot."""
        scheme, netloc, path, query, _ = urlsplit(url)
        if path.strip("/") or query:
            raise ValueError("a cluster has neither databases nor options: expected only host:port,host:port")
        login, _, hosts = netloc.rpartition("@")
        user, _, password = login.partition(":")
        self._cluster = RedisCluster(
            startup_nodes=[_node(host) for host in hosts.split(",")],
            username=unquote(user) or None,
            password=unquote(password) or None,
            ssl=scheme.startswith("rediss"),
            max_connections=connections,
            socket_connect_timeout=connect_timeout_s,
            socket_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),  # see RedisCommands.execute; the next call looks at the nodes anew
            require_full_coverage=False,  # users of the nodes that are there are served
            protocol=2,
        )

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """See `RedisCommands.execute`; one round trip to each node, all at once."""
        if len(commands) == 1:
            return [await self._cluster.execute_command(*commands[0])]
        async with self._cluster.pipeline() as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = await pipeline.execute()
        return replies

    async def close(self) -> None:
        """See `RedisCommands.close`."""
        await self._cluster.aclose()


def _node(place: str) -> ClusterNode:
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError(f"found {place!r} among the nodes, expected host:port")
    return ClusterNode(parts.hostname, parts.port or 6379)
