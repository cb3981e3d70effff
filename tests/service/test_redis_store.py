"""What is Redis' own: keys, expiry, one round trip, and the form that both stores share."""

import pytest
import redis

from service.errors import SettingsError, StoreUnavailableError
from service.store import TOMBSTONE_MS, Event, Retention
from service.store.open import StoreOptions, open_store
from service.store.record import SequenceRecord
from service.store.redis_connection import RedisConnection
from service.store.redis_store import RedisStore

TTL_MS = 30 * 86_400_000
NOW = 1_800_000_000_000
KEY = "recjpq:sequence:{u}"


@pytest.fixture
def server(redis_server):
    with redis.Redis.from_url(redis_server.url, protocol=2) as client:
        client.flushdb()
        yield client


@pytest.fixture
def store(redis_server, runner, server):
    async def make():
        connection = RedisConnection(redis_server.url, timeout_s=5)
        return RedisStore(connection, Retention(4, TTL_MS), clock=lambda: NOW)

    store = runner.run(make())
    yield store
    runner.run(store.close())


def test_a_user_is_one_key_with_a_hash_tag_and_a_jittered_expiry(store, runner, server):
    runner.run(store.append("u", [Event("i", 1, "e")]))
    assert server.keys("*") == [KEY.encode()]
    assert TTL_MS - 60_000 < server.pttl(KEY) <= TTL_MS * 1.05
    for user in range(20):
        runner.run(store.append(f"u{user}", [Event("i", 1)]))
    days = {server.pttl(key) // 86_400_000 for key in server.keys("*")}
    assert len(days) > 1  # they do not expire together


def test_a_tombstone_is_the_same_key_and_expires(store, runner, server):
    runner.run(store.append("u", [Event("i", 1)]))
    runner.run(store.delete("u"))
    assert server.keys("*") == [KEY.encode()]
    assert TOMBSTONE_MS - 60_000 < server.pttl(KEY) <= TOMBSTONE_MS


def test_what_stores_nothing_does_not_renew_the_expiry(store, runner, server):
    runner.run(store.append("u", [Event("i", 1, "e")]))
    server.pexpire(KEY, 60_000)
    runner.run(store.append("u", [Event("i", 1, "e")]))
    assert server.pttl(KEY) <= 60_000
    runner.run(store.append("u", [Event("i", 2)]))
    assert server.pttl(KEY) > 60_000


def test_the_script_writes_the_form_of_the_record(store, runner, server):
    events = [Event("ü", 5, "e"), Event("b", 1), Event("c", NOW), Event("d", 3, "f"), Event("g", 4)]
    record = SequenceRecord()
    runner.run(store.append("u", events))
    record.append(events, 4, NOW)
    assert server.get(KEY) == record.encode()
    assert SequenceRecord.decode(record.encode()) == record


def test_two_hundred_events_take_little_memory(store, runner, server):
    options = StoreOptions(Retention(200, TTL_MS), 5)
    big = open_store(f"redis://127.0.0.1:{server.connection_pool.connection_kwargs['port']}/0", options)
    runner.run(big.append("u", [Event(f"{1_000_000 + i}", NOW + i) for i in range(200)]))
    runner.run(big.close())
    assert server.memory_usage(KEY) < 6000  # a sorted set takes 20 kB


def test_the_script_is_sent_again_to_a_server_that_lost_it(store, runner, server):
    runner.run(store.append("u", [Event("i", 1)]))
    server.script_flush()
    assert runner.run(store.append("u", [Event("i", 2)])).stored == 1


def test_a_record_of_another_version_is_unavailable_and_not_overwritten(store, runner, server):
    server.set(KEY, "9\t0\t0\t0\n")
    for read in (store.read("u", 10), store.read_items(["u"], 10)):
        with pytest.raises(StoreUnavailableError, match="record version '9'"):
            runner.run(read)
    with pytest.raises(StoreUnavailableError, match="not a sequence record of version 1"):
        runner.run(store.append("u", [Event("i", 1)]))
    assert server.get(KEY) == b"9\t0\t0\t0\n"


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:no-port/0",
        "redis://host/0?socket_timeout=soon",
        "redis://host/0?max_connections=3",
        "redis+cluster://host",
        "redis+cluster://a:1,b:no-port",
        "redis+cluster://a:1/3",
    ],
)
def test_a_url_that_cannot_be_read_is_refused(url):
    with pytest.raises(SettingsError, match="RECJPQ_STORE_URL"):
        open_store(url, StoreOptions(Retention(4, TTL_MS), 5))


@pytest.mark.parametrize("password", ["se/cret", "se?cret", "se#cret"])
@pytest.mark.parametrize("url", ["redis://me:{}@host:6379/0", "rediss+cluster://:{}@one:1,two:2"])
def test_a_password_that_ends_the_url_early_is_refused_and_not_told(url, password):
    with pytest.raises(SettingsError, match="write %2F, %3F or %23") as refused:
        open_store(url.format(password), StoreOptions(Retention(4, TTL_MS), 5))
    assert "cret" not in str(refused.value)
