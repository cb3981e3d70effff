"""A real process: what survives kill -9, how it ends, and what it does without its store."""

import contextlib
import http.client
import json
import os
import signal
import threading
import time

import httpx
import pytest

BODY = json.dumps({"history": ["i1", "i2"]}).encode()


@pytest.fixture
def store_url(store_kind, redis_servers, tmp_path):
    if store_kind == "sqlite":
        return f"sqlite:///{tmp_path}/kill.sqlite3"
    return redis_servers(store_kind).url


def test_an_acknowledged_event_survives_kill_9(start_service, store_url, tmp_path):
    """Four writers append until the process is killed among them; each then asks for what it was promised."""
    service = start_service(store_url=store_url, store_max_events=5000)
    acknowledged: dict[str, list[str]] = {f"{tmp_path}-{writer}": [] for writer in range(4)}
    enough = threading.Semaphore(0)

    def write(user: str) -> None:
        with httpx.Client(base_url=service.url) as client, contextlib.suppress(httpx.TransportError):
            for number in range(100_000):
                body = {"events": [{"item_id": "i1", "event_id": f"e{number}"}]}
                if client.post(f"/users/{user}/events", json=body).status_code == 200:
                    acknowledged[user].append(f"e{number}")
                    enough.release()

    writers = [threading.Thread(target=write, args=[user.strip("/")]) for user in acknowledged]
    acknowledged = {user.strip("/"): ids for user, ids in acknowledged.items()}
    for writer in writers:
        writer.start()
    for _ in range(100):
        assert enough.acquire(timeout=20)
    os.kill(service.process.pid, signal.SIGKILL)
    for writer in writers:
        writer.join()

    again = start_service(store_url=store_url, store_max_events=5000)
    assert sum(map(len, acknowledged.values())) >= 100
    for user, ids in acknowledged.items():
        stored = httpx.get(f"{again.url}/users/{user}/events").json()["events"]
        assert set(ids) <= {event["event_id"] for event in stored}


def test_sigterm_finishes_what_is_in_flight(start_service, eventually):
    service = start_service(drain_s=1)
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
    connection.putrequest("POST", "/recommend")
    connection.putheader("Content-Length", str(len(BODY)))
    connection.endheaders(BODY[:5])
    # Another request is answered only after the first one's head was read: they go to one event loop.
    assert httpx.get(f"{service.url}/livez").status_code == 200

    service.process.send_signal(signal.SIGTERM)
    eventually(lambda: httpx.get(f"{service.url}/readyz").status_code == 503)

    def refuses() -> bool:
        try:
            return httpx.get(f"{service.url}/livez") is None
        except httpx.ConnectError:
            return True
        except httpx.TransportError:  # just as the socket was closed
            return False

    eventually(refuses)
    assert service.process.poll() is None
    connection.send(BODY[5:])
    response = connection.getresponse()
    assert response.status == 200
    assert len(json.loads(response.read())["items"]) == 10
    connection.close()
    service.process.wait(20)
    messages = [json.loads(line)["message"] for line in service.log.read_text().splitlines()]
    assert "Application shutdown complete." in messages


def test_without_redis_reads_degrade_writes_are_refused_and_it_recovers(start_service, own_redis, eventually):
    service = start_service(
        store_url=own_redis.url, store_breaker_reset_s=0.1, store_breaker_failures=2, store_read_timeout_s=1
    )
    with httpx.Client(base_url=service.url, timeout=20) as client:

        def append(event_id):
            body = {"events": [{"item_id": "i1", "event_id": event_id}]}
            return client.post("/users/u/events", json=body)

        def recommend(**body):
            response = client.post("/recommend", json={"user_id": "u", **body})
            assert response.status_code == 200
            return response.json()

        assert append("before").status_code == 200
        assert recommend()["strategy"] == "model"

        own_redis.kill()
        for _ in range(4):  # through the breaker's opening
            answer = recommend()
            assert (answer["strategy"], answer["degraded"]) == ("popular", ["store_unavailable"])
            assert answer["history"]["source"] == "none"
        answer = recommend(history=["i2"])
        assert (answer["strategy"], answer["degraded"]) == ("model", ["store_unavailable"])
        assert answer["history"]["source"] == "request"
        refused = append("during")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["type"] == "urn:recjpq:problem:store-unavailable"
        assert str(own_redis.port) not in refused.text  # nor anything else of the exception
        assert str(own_redis.port) in service.log.read_text()
        assert client.get("/users/u/events").status_code == 503
        assert client.delete("/users/u/events").status_code == 503
        assert client.post("/recommend", json={"user_id": "u", "fallback": "none"}).status_code == 503
        assert client.get("/readyz").status_code == 200
        assert "recjpq_store_up 0.0" in client.get("/metrics").text

        own_redis.start()
        eventually(lambda: append("after").status_code == 200)
        assert [event["event_id"] for event in client.get("/users/u/events").json()["events"]] == [
            "before", "after"
        ]  # fmt: skip
        answer = recommend()
        assert (answer["strategy"], answer["degraded"]) == ("model", [])


def test_a_redis_that_hangs_holds_nobody_up_and_answers_are_not_mixed_up(
    start_service, own_redis, eventually
):
    service = start_service(
        store_url=own_redis.url, store_read_timeout_s=0.1, store_write_timeout_s=0.2, ready_needs_store=True,
        store_breaker_reset_s=0.1,
    )  # fmt: skip
    with httpx.Client(base_url=service.url, timeout=20) as client:

        def append(user):
            return client.post(
                f"/users/{user}/events", json={"events": [{"item_id": user, "event_id": user}]}
            )

        def stored(user):
            response = client.get(f"/users/{user}/events")
            return response.status_code == 200 and [e["item_id"] for e in response.json()["events"]]

        eventually(lambda: append("i1").status_code == 200)
        eventually(lambda: client.get("/readyz").status_code == 200)
        own_redis.process.send_signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            for _ in range(20):
                answer = client.post("/recommend", json={"user_id": "i1", "history": ["i2"]}).json()
                assert answer["degraded"] == ["store_unavailable"]
            assert append("i2").status_code == 503
            assert client.get("/readyz").status_code == 503
            assert time.monotonic() - started < 10  # 22 waits of 5 s without the deadlines
        finally:
            own_redis.process.send_signal(signal.SIGCONT)
        # The answers to what was given up must not become the answers to other questions.
        eventually(lambda: append("i3").status_code == 200)
        for _ in range(10):
            eventually(lambda: stored("i3") == ["i3"])
            assert stored("i1") in (["i1"], False)
            assert stored("nobody") in ([], False)


def test_it_starts_without_its_redis(start_service, own_redis):
    own_redis.kill()
    service = start_service(store_url=own_redis.url)
    answer = httpx.post(f"{service.url}/recommend", json={"user_id": "u", "history": ["i1"]}).json()
    assert (answer["strategy"], answer["degraded"]) == ("model", ["store_unavailable"])


def test_a_raw_body_beyond_the_limit_is_refused_before_it_is_read(start_service):
    service = start_service(max_body_bytes=1000)
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
    connection.putrequest("POST", "/recommend")
    connection.putheader("Content-Length", "1000000000")
    connection.endheaders(b"x" * 2000)
    assert connection.getresponse().status == 413
    connection.close()
