"""The store fails in every way that it can, under the real service."""

import asyncio
import itertools
import re
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from service.app import create_app

USERS = [f"u{number}" for number in range(8)]
STORE = re.compile(r'recjpq_store_operation_duration_seconds_count\{operation="read_items"\} (\d+)')


class Load:
    """Readers and writers that ask a service without pause, and remember every answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.reads: list[tuple[int, list[str]]] = []  # status, degraded
        self.writes: list[int] = []
        self.acknowledged: dict[str, set[str]] = {user: set() for user in USERS}

    async def run(self, scenario: Callable[["Load"], object]) -> None:
        """Ask until a scenario, which runs in a thread, has ended."""
        async with httpx.AsyncClient(base_url=self._url, timeout=20) as client:
            tasks = [
                asyncio.create_task(work(client, user))
                for user in USERS
                for work in (self._read, self._write)
            ]
            try:
                await asyncio.to_thread(scenario, self)
            finally:
                for task in tasks:
                    task.cancel()
                for ended in await asyncio.gather(*tasks, return_exceptions=True):
                    assert isinstance(ended, asyncio.CancelledError), ended

    async def _read(self, client: httpx.AsyncClient, user: str) -> None:
        while True:
            response = await client.post("/recommend", json={"user_id": user, "history": ["i2"]})
            degraded = response.json()["degraded"] if response.status_code == 200 else []
            self.reads.append((response.status_code, degraded))

    async def _write(self, client: httpx.AsyncClient, user: str) -> None:
        for number in itertools.count():
            events = [{"item_id": "i1", "event_id": f"{user}-{number}"}]
            response = await client.post(f"/users/{user}/events", json={"events": events})
            self.writes.append(response.status_code)
            if response.status_code == 200:
                self.acknowledged[user].add(f"{user}-{number}")


def test_redis_killed_and_restarted_under_load(start_service, own_redis, eventually, runner):
    """No /recommend fails, no acknowledged event is lost, and the service needs no restart; three times."""
    own_redis.kill()
    own_redis.options = ("--appendfsync", "always")
    own_redis.start()
    service = start_service(store_url=own_redis.url, store_max_events=100_000, store_breaker_reset_s=0.2,
                            store_read_timeout_s=5)  # fmt: skip

    def seen(load: Load, *, reads: int, writes: int, well: bool) -> None:
        """Wait for so many more answers of a kind."""
        first_read, first_write = len(load.reads), len(load.writes)
        degraded = [] if well else ["store_unavailable"]
        status = 200 if well else 503
        eventually(lambda: load.reads[first_read:].count((200, degraded)) >= reads)
        eventually(lambda: load.writes[first_write:].count(status) >= writes)

    def scenario(load: Load) -> None:
        for _ in range(3):
            seen(load, reads=100, writes=50, well=True)
            own_redis.kill()
            in_flight = len(USERS)
            seen(load, reads=in_flight, writes=in_flight, well=False)
            read, written = len(load.reads), len(load.writes)
            seen(load, reads=50, writes=50, well=False)
            assert {str(answer) for answer in load.reads[read:]} == {"(200, ['store_unavailable'])"}
            assert set(load.writes[written:]) == {503}
            own_redis.start()
        seen(load, reads=100, writes=50, well=True)

    load = Load(service.url)
    runner.run(load.run(scenario))
    assert {status for status, _ in load.reads} == {200}
    assert set(load.writes) == {200, 503}
    for user, ids in load.acknowledged.items():
        stored = httpx.get(f"{service.url}/users/{user}/events", timeout=20).json()["events"]
        assert ids
        assert ids <= {event["event_id"] for event in stored}


def test_metrics_know_of_the_store_without_a_request_that_needs_it(start_service, own_redis, eventually):
    service = start_service(store_url=own_redis.url, store_breaker_reset_s=0.2)
    with httpx.Client(base_url=service.url) as client:

        def is_up(value: str) -> bool:
            return f"recjpq_store_up {value}" in client.get("/metrics").text

        eventually(lambda: is_up("1.0"))
        own_redis.kill()
        eventually(lambda: is_up("0.0"))
        own_redis.start()
        eventually(lambda: is_up("1.0"))


def test_a_redis_that_hangs_costs_the_timeout_a_few_times_and_then_nothing(start_service, own_redis):
    service = start_service(store_url=own_redis.url, store_read_timeout_s=0.2, store_write_timeout_s=0.2,
                            store_breaker_failures=3, store_breaker_reset_s=600)  # fmt: skip
    with httpx.Client(base_url=service.url, timeout=20) as client:

        def tried() -> int:
            return int(STORE.findall(client.get("/metrics").text)[0])

        def recommend() -> list[str]:
            response = client.post("/recommend", json={"user_id": "u", "history": ["i2"]})
            assert response.status_code == 200
            return response.json()["degraded"]

        assert recommend() == []
        before = tried()
        own_redis.process.send_signal(signal.SIGSTOP)
        try:
            assert [recommend() for _ in range(30)] == [["store_unavailable"]] * 30
        finally:
            own_redis.process.send_signal(signal.SIGCONT)
        assert tried() == before + 3


def test_a_deadline_holds_while_the_store_hangs_which_is_noticed_all_the_same(
    start_service, own_redis, eventually
):
    """Whoever waits less than the store may take is answered in time, and the breaker opens as for others."""
    service = start_service(store_url=own_redis.url, store_read_timeout_s=1.5, store_breaker_failures=3,
                            store_breaker_reset_s=600)  # fmt: skip
    with httpx.Client(base_url=service.url, timeout=20) as client:

        def ask(**more: object) -> httpx.Response:
            return client.post("/recommend", json={"user_id": "u", "timeout_ms": 20, **more})

        assert client.post("/recommend", json={"user_id": "u"}).status_code == 200
        own_redis.process.send_signal(signal.SIGSTOP)
        try:
            for more in ({}, {"history": ["i2"]}, {"history": ["unknown"]}):
                response = ask(**more)
                assert response.status_code == 504
                assert response.elapsed < timedelta(seconds=1)
            # By what these three became: the service's own pings would have failed three times after 15 s.
            eventually(lambda: ask(timeout_ms=500).json().get("degraded") == ["store_unavailable"], 5)
        finally:
            own_redis.process.send_signal(signal.SIGCONT)


@pytest.fixture
def open_on(settings, open_client):
    """Open an application in this process on a store, with some settings."""

    def open_(url: str, **values: object):
        return open_client(create_app(settings.model_copy(update={"store_url": url, **values})))

    return open_


def append(client, user="u", item="i1"):
    return client.post(f"/users/{user}/events", json={"events": [{"item_id": item}]}).status_code


def recommend(client, user="u"):
    """Return what an answer says of the store, and how many entries of the history came from there."""
    response = client.post("/recommend", json={"user_id": user})
    assert response.status_code == 200
    return response.json()["degraded"], response.json()["history"]["received"]


DEGRADED = (["store_unavailable"], 0)


def test_a_slow_redis_is_waited_for_as_long_as_the_settings_say(own_redis, open_on, eventually):
    patient = open_on(own_redis.url)
    hasty = open_on(own_redis.url, store_read_timeout_s=0.01, store_breaker_reset_s=0.05)
    assert append(patient) == 200
    eventually(lambda: recommend(hasty) == ([], 1))
    own_redis.call("CLIENT PAUSE", 300, "ALL")
    assert recommend(hasty) == DEGRADED
    assert recommend(patient) == ([], 1)
    eventually(lambda: recommend(hasty) == ([], 1))


def test_a_wrong_password_is_a_store_that_is_down_until_it_is_right(own_redis, open_on, eventually, caplog):
    client = open_on(own_redis.url.replace("redis://", "redis://:s3cret@"), store_breaker_reset_s=0.05)
    for _ in range(3):
        assert append(client) == 503  # a password where none is wanted is refused too
        assert recommend(client) == DEGRADED
    own_redis.call("CONFIG SET", "requirepass", "s3cret")
    eventually(lambda: append(client) == 200)
    eventually(lambda: recommend(client) == ([], 1))
    assert "s3cret" not in caplog.text
    assert "AUTH" in caplog.text


def test_a_missing_password_is_a_store_that_is_down(own_redis, open_on):
    own_redis.call("CONFIG SET", "requirepass", "s3cret")
    client = open_on(own_redis.url)
    assert append(client) == 503
    assert recommend(client) == DEGRADED


def test_a_replica_answers_reads_and_refuses_writes_until_it_is_promoted(own_redis, open_on, eventually):
    client = open_on(own_redis.url, store_breaker_failures=2, store_breaker_reset_s=0.05)
    assert append(client) == 200
    own_redis.call("CONFIG SET", "replica-serve-stale-data", "yes")
    own_redis.call("REPLICAOF", "127.0.0.1", 1)  # a primary that cannot be reached
    for _ in range(6):
        assert append(client) == 503
        assert recommend(client) == ([], 1)
    own_redis.call("REPLICAOF", "NO", "ONE")
    eventually(lambda: append(client) == 200)
    assert recommend(client) == ([], 2)


def test_a_redis_without_memory_answers_reads_and_refuses_writes(own_redis, open_on, eventually):
    client = open_on(own_redis.url, store_breaker_failures=2, store_breaker_reset_s=0.05)
    assert append(client) == 200
    own_redis.call("CONFIG SET", "maxmemory", 1)
    for _ in range(6):
        assert append(client) == 503
        assert append(client, "somebody-else") == 503
        assert recommend(client) == ([], 1)
    own_redis.call("CONFIG SET", "maxmemory", 0)
    eventually(lambda: append(client) == 200)
    assert recommend(client) == ([], 2)


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock of an SQLite file from another process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"locked\n"
        yield
        holder.stdin.close()


def test_a_file_that_another_process_locks_answers_reads_and_refuses_writes(tmp_path, open_on, eventually):
    path = tmp_path / "locked.sqlite3"
    client = open_on(f"sqlite:///{path}", store_write_timeout_s=0.1, store_breaker_reset_s=0.05)
    eventually(lambda: append(client) == 200)
    with locked(path):
        for _ in range(7):  # the breaker opens, for writes
            assert append(client) == 503
            assert recommend(client)[0] == []
    eventually(lambda: append(client) == 200)


def test_a_full_disk_refuses_writes_and_loses_nothing(start_service, tmp_path, eventually):
    """The file may grow no further: what was acknowledged stays readable, and space mends it."""
    service = start_service(store_url=f"sqlite:///{tmp_path}/full.sqlite3", store_breaker_reset_s=0.05)
    with httpx.Client(base_url=service.url, timeout=20) as client:
        limit = (tmp_path / "full.sqlite3-wal").stat().st_size + 200_000
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        acknowledged: list[str] = []

        def append(user: str) -> int:
            events = [{"item_id": f"{'x' * 200}-{user}-{n}"} for n in range(50)]
            return client.post(f"/users/{user}/events", json={"events": events}).status_code

        while append(f"u{len(acknowledged)}") == 200:
            acknowledged.append(f"u{len(acknowledged)}")
        assert append("later") == 503
        assert acknowledged
        for user in acknowledged:
            events = client.get(f"/users/{user}/events").json()["events"]
            assert [event["item_id"] for event in events] == [f"{'x' * 200}-{user}-{n}" for n in range(50)]
        assert client.post("/recommend", json={"user_id": "u0"}).json()["history"]["received"] == 50
        resource.prlimit(
            service.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
        eventually(lambda: append("later") == 200)
        assert len(client.get("/users/later/events").json()["events"]) == 50
    with sqlite3.connect(tmp_path / "full.sqlite3") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_users_never_mix(store_kind, redis_servers, tmp_path, start_service):
    """Thirty users at once, asking now this worker, now that: what a user is told came from that user."""
    url = f"sqlite:///{tmp_path}/mix.sqlite3" if store_kind == "sqlite" else redis_servers(store_kind).url
    service = start_service(store_url=url, store_max_events=20, workers=2, store_read_timeout_s=10,
                            store_write_timeout_s=10)  # fmt: skip
    prefix = tmp_path.name
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()  # than any deletion of the test

    async def live(client: httpx.AsyncClient, number: int) -> None:
        user, written = f"{prefix}-{number}", list[str]()
        for step in range(8):
            item = f"of-{number}-{step}"
            events = {"events": [{"item_id": item, "event_id": str(step), "timestamp": later}]}
            response = await client.post(f"/users/{user}/events", json=events)
            assert response.json() == {"stored": 1, "duplicate": 0, "stale": 0, "unknown": 1}
            written.append(item)
            if step == number % 8:
                assert (await client.delete(f"/users/{user}/events")).status_code == 204
                written.clear()
            response = await client.get(f"/users/{user}/events")
            assert [event["item_id"] for event in response.json()["events"]] == written
            response = await client.post("/recommend", json={"user_id": user, "history": ["i1"]})
            assert response.json()["degraded"] == []
            assert response.json()["history"]["unknown_items"] == written

    async def all_at_once() -> None:
        one_request_each = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=service.url, timeout=30, limits=one_request_each) as client:
            await asyncio.gather(*(live(client, number) for number in range(30)))

    asyncio.run(all_at_once())
