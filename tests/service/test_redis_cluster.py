"""What is a cluster's own: which node has a key, and what happens when that changes or a node is gone."""

import asyncio
import signal

import pytest
from redis.crc import key_slot

from service.errors import StoreUnavailableError
from service.store import Event, Retention
from service.store.guard import Breaker, GuardedStore
from service.store.redis_cluster import NOWHERE, RedisCluster
from service.store.redis_store import RedisStore

USERS = [f"user-{number}" for number in range(60)]
BOUNDS = (5461, 10923)


@pytest.fixture
def store(own_cluster, runner):
    store = RedisStore(RedisCluster(own_cluster.url, timeout_s=5), Retention(4, 10**10))
    yield store
    runner.run(store.close())


def key_of(user):
    return f"recjpq:sequence:{{{user}}}"


def slot_of(user):
    return key_slot(key_of(user).encode())


def node_of(user):
    return sum(slot_of(user) >= bound for bound in BOUNDS)


def append_all(runner, store, number):
    async def all_at_once():
        return await asyncio.gather(
            *(store.append(user, [Event(f"{user}-{number}", number)]) for user in USERS)
        )

    assert runner.run(all_at_once()) == [(1, 0, 0)] * len(USERS)


def test_every_node_has_its_users_and_many_are_read_at_once(own_cluster, store, runner):
    append_all(runner, store, 1)  # all of them before anything is known of the cluster
    for number, node in enumerate(own_cluster.nodes):
        expected = {key_of(user).encode() for user in USERS if node_of(user) == number}
        assert expected
        assert set(node.call("KEYS", "*")) == expected
    nobody = "nobody"
    assert runner.run(store.read_items([*USERS, nobody, USERS[0]], 5)) == [
        *([f"{user}-1"] for user in USERS), [], [f"{USERS[0]}-1"]
    ]  # fmt: skip


def test_a_slot_that_moves_is_followed(own_cluster, store, runner):
    """First while it is being moved (ASK), then when it has moved (MOVED): no call fails."""
    first, second, third = own_cluster.nodes
    user = next(user for user in USERS if node_of(user) == 0)
    slot = slot_of(user)
    ids = [node.call("CLUSTER MYID").decode() for node in own_cluster.nodes]
    assert runner.run(store.append(user, [Event("a", 1)])).stored == 1
    second.call("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
    first.call("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
    first.call("MIGRATE", "127.0.0.1", second.port, key_of(user), 0, 5000)
    assert runner.run(store.append(user, [Event("b", 2)])).stored == 1
    assert runner.run(store.read_items([user, *USERS], 5))[0] == ["a", "b"]
    for node in (second, first, third):
        node.call("CLUSTER SETSLOT", slot, "NODE", ids[1])
    assert runner.run(store.append(user, [Event("c", 3)])).stored == 1
    assert runner.run(store.read_items([user], 5)) == [["a", "b", "c"]]
    assert second.call("EXISTS", key_of(user)) == 1


def test_without_one_node_the_users_of_the_others_are_served_and_it_comes_back(
    own_cluster, store, runner, eventually
):
    append_all(runner, store, 1)
    own_cluster.nodes[0].kill()
    for user in USERS:
        if node_of(user) == 0:
            with pytest.raises(StoreUnavailableError):
                runner.run(store.read_items([user], 5))
        else:
            assert runner.run(store.read_items([user], 5)) == [[f"{user}-1"]]
    own_cluster.nodes[0].start()

    def all_back():
        try:
            return runner.run(store.read_items(USERS, 5)) == [[f"{user}-1"] for user in USERS]
        except StoreUnavailableError:
            return False

    eventually(all_back, 20)  # a node that was given up waits before it is trusted again


@pytest.mark.parametrize("end", ["kill", "hang"])
def test_a_node_that_is_gone_or_hangs_degrades_its_own_users_only(own_cluster, runner, end):
    """Through the guard, as served: each node has a breaker of its own, and none waits for another."""
    plain = RedisStore(RedisCluster(own_cluster.url, timeout_s=1), Retention(4, 10**10))
    guarded = GuardedStore(
        plain, lambda: Breaker(5, 60), lambda *_: None, read_timeout_s=0.5, write_timeout_s=1
    )
    append_all(runner, guarded, 1)
    if end == "kill":
        own_cluster.nodes[0].kill()
    else:
        own_cluster.nodes[0].process.send_signal(signal.SIGSTOP)

    async def read_each():
        return await asyncio.gather(*(guarded.read_items([u], 5) for u in USERS), return_exceptions=True)

    expected = [None if node_of(user) == 0 else [f"{user}-1"] for user in USERS]
    for _ in range(5):
        told = runner.run(read_each())
        assert [isinstance(one, StoreUnavailableError) or one[0] for one in told] == [
            one or True for one in expected
        ]
        assert runner.run(guarded.read_items(USERS, 5)) == expected
        runner.run(guarded.ping())
    for user, items in zip(USERS, expected, strict=True):
        if items:
            assert runner.run(guarded.append(user, [Event("b", 2)])).stored == 1
        else:
            with pytest.raises(StoreUnavailableError):
                runner.run(guarded.append(user, [Event("b", 2)]))
    runner.run(guarded.close())


@pytest.mark.parametrize("dead", [0, 2])
def test_a_ping_asks_whichever_node_is_there(own_cluster, runner, eventually, dead):
    """Of a process that nobody asks for a user: with that it is ready, or not."""
    store = RedisStore(RedisCluster(own_cluster.url, timeout_s=1), Retention(4, 10**10))
    users = [next(user for user in USERS if node_of(user) == node) for node in range(3)]
    runner.run(store.read_items([users[dead]], 5))  # whose node is the last that answered
    own_cluster.nodes[dead].kill()

    def answers():
        try:
            runner.run(store.ping())
        except StoreUnavailableError:
            return False
        return True

    eventually(answers, 5)
    assert [answers() for _ in range(5)] == [True] * 5
    runner.run(store.close())


def test_keys_that_no_node_has_are_a_shard_of_their_own(own_cluster, store, runner):
    user = next(user for user in USERS if node_of(user) == 0)
    own_cluster.nodes[0].call("CLUSTER DELSLOTSRANGE", 0, BOUNDS[0] - 1)
    runner.run(store.ping())
    assert store.shard_of(user) == NOWHERE
    with pytest.raises(StoreUnavailableError, match="no node has the slot"):
        runner.run(store.read_items([user], 5))
    runner.run(store.ping())


def test_any_node_that_is_up_tells_of_the_others(own_cluster, runner):
    dead, *living = own_cluster.nodes
    dead.kill()
    store = RedisStore(RedisCluster(own_cluster.url, timeout_s=5), Retention(4, 10**10))
    user = next(user for user in USERS if node_of(user) == 2)  # of a node that the URL does not name
    assert f":{living[-1].port}" not in own_cluster.url
    assert runner.run(store.append(user, [Event("a", 1)])).stored == 1
    runner.run(store.close())


def test_without_any_node_the_store_is_unavailable(own_cluster, runner):
    own_cluster.kill()
    store = RedisStore(RedisCluster(own_cluster.url, timeout_s=5), Retention(4, 10**10))
    with pytest.raises(StoreUnavailableError, match="no node says who has which slots"):
        runner.run(store.read_items(["u"], 5))
    with pytest.raises(StoreUnavailableError, match="no node says who has which slots"):
        runner.run(store.ping())
    runner.run(store.close())
