"""Commands to a Redis Cluster, each to the node that has its key."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import hiredis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import ClusterError, RedisError

from service.store.redis_connection import Command, RedisConnection, check_replies

SCHEMES = ("redis+cluster", "rediss+cluster")
NOWHERE = "no node"
"""In place of a node's address, where no node has a key's slot."""
_MOST_REDIRECTIONS = 5
_POSITION_OF_KEY = {"GET": 1, "SET": 1, "EVALSHA": 3, "EVAL": 3}


class RedisCluster:
    """One shared connection to each node; see `RedisCommands`.

    Which node has which slots is asked of the nodes: at first, and again after a command was sent to the
    wrong one, found none, or was not answered. Meanwhile the last answer holds: a node that is gone must
    not keep those from answering that are there. Only refusals are sent on (MOVED, ASK): what a broken
    connection may have done is not known, and is not done again. See the Redis Cluster specification for
    both.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """Read `redis+cluster://[user:password@]host:port,host:port[?options]`; raises ValueError."""
        scheme, netloc, path, self._options, _ = urlsplit(url)
        if path.strip("/"):
            raise ValueError(f"found the database {path!r}, but a cluster has only one")
        login, at, hosts = netloc.rpartition("@")
        self._prefix = f"{scheme.partition('+')[0]}://{login}{at}"
        self._timeout_s = timeout_s
        self._seeds = [_place(host) for host in hosts.split(",")]
        self._nodes: dict[str, RedisConnection] = {}
        self._owners: list[str | None] = []  # of each slot; empty until known
        self._looking: asyncio.Task[list[str | None]] | None = None
        self._last_answered = ""
        for place in self._seeds:
            self._node(place)  # a URL that cannot be read is found here

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """See `RedisCommands.execute`: one round trip to each node concerned, all at once."""
        owners = self._owners or await self._look()
        groups: defaultdict[str, list[int]] = defaultdict(list)
        for index, command in enumerate(commands):
            groups[self._owner(owners, command)].append(index)
        replies: list[Any] = [None] * len(commands)
        answers = await asyncio.gather(
            *(self._ask(place, [commands[index] for index in group]) for place, group in groups.items())
        )
        for group, answer in zip(groups.values(), answers, strict=True):
            for index, reply in zip(group, answer, strict=True):
                replies[index] = await self._follow(commands[index], reply)
        check_replies(replies)
        return replies

    def node_of(self, key: str) -> str:
        """See `RedisCommands.node_of`."""
        return (self._owners[key_slot(key.encode())] or NOWHERE) if self._owners else ""

    async def close(self) -> None:
        """See `RedisCommands.close`."""
        if self._looking is not None:
            self._looking.cancel()
        for node in self._nodes.values():
            await node.close()

    def _owner(self, owners: list[str | None], command: Command) -> str:
        position = _POSITION_OF_KEY.get(str(command[0]))
        if position is None:  # any will do: best one that is there
            return self._last_answered or next(place for place in owners if place is not None)
        place = owners[key_slot(str(command[position]).encode())]
        if place is None:
            self._look_again()
            raise ClusterError("no node has the slot of this key")
        return place

    async def _ask(self, place: str, commands: Sequence[Command]) -> list[Any]:
        try:
            answers = await self._node(place).replies(commands)
        except (RedisError, OSError, asyncio.CancelledError):  # cancelled: not answered in time
            self._look_again()  # another node may have its slots by now
            if self._last_answered == place:
                self._last_answered = ""
            raise
        self._last_answered = place
        return answers

    async def _follow(self, command: Command, reply: Any) -> Any:
        """Send a command on to where a refusal says, if it is one, and return the reply from there."""
        for _ in range(_MOST_REDIRECTIONS):
            kind, _, rest = (
                str(reply).partition(" ") if isinstance(reply, hiredis.ReplyError) else ("", "", "")
            )
            if kind == "CLUSTERDOWN":
                self._look_again()
            if kind not in ("MOVED", "ASK"):
                break
            place = rest.rpartition(" ")[2]
            if kind == "MOVED":
                self._look_again()
                reply = (await self._ask(place, [command]))[0]
            else:  # the slot is being moved: this key is there already, the next may not be
                reply = (await self._ask(place, [("ASKING",), command]))[1]
        return reply

    def _node(self, place: str) -> RedisConnection:
        if place not in self._nodes:
            query = f"?{self._options}" if self._options else ""
            self._nodes[place] = RedisConnection(f"{self._prefix}{place}{query}", timeout_s=self._timeout_s)
        return self._nodes[place]

    async def _look(self) -> list[str | None]:
        """Ask who has which slots; callers that come meanwhile wait for the same answer."""
        return await asyncio.shield(self._look_again())

    def _look_again(self) -> asyncio.Task[list[str | None]]:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._ask_for_slots())
            self._looking.add_done_callback(lambda task: task.cancelled() or task.exception())  # retrieved
        return self._looking

    async def _ask_for_slots(self) -> list[str | None]:
        problems = []
        for place in dict.fromkeys([*self._nodes, *self._seeds]):
            try:
                async with asyncio.timeout(self._timeout_s):
                    ranges = (await self._node(place).execute([("CLUSTER", "SLOTS")]))[0]
            except (RedisError, OSError) as error:
                problems.append(f"{place}: {error}")
                continue
            owners: list[str | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
            for first, last, (host, port, *_), *_ in ranges:
                name = (
                    host.decode() if host else place.rpartition(":")[0]
                )  # a node that knows no name of its own
                owners[first : last + 1] = [_place(f"{name}:{port}")] * (last + 1 - first)
            if any(owners):
                self._owners, self._last_answered = owners, place
                return owners
            problems.append(f"{place}: no slots")
        raise ClusterError(f"no node says who has which slots ({'; '.join(problems)})")


def _place(text: str) -> str:
    """Return host:port as a URL has it."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"found {text!r} among the cluster's nodes, expected host:port")
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else text
