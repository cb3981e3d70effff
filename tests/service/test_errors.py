"""Every way in which a request can be refused."""

import asyncio
import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from service.app import create_app
from service.model import load_model

HISTORY_LIMIT = 10_000


def problem(response, status):
    """Check that a response is a problem document, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    document = response.json()
    assert document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    assert {"type", "title", "detail"} <= set(document)
    return document


def pointers(response):
    return [error["pointer"] for error in problem(response, 422)["errors"]]


@pytest.mark.parametrize("path", ["/recommend", "/users/u/events"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'k': 1}",
        b"\xff\xfe",
        b'{"history": ["\\ud800"]}',  # a lone surrogate
        b'{"history": ["\xed\xa0\x80"]}',  # the same as bytes
        b'{"history": ' + b"[" * 100_000,
        b'{"history": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"k": ' + b"9" * 10_000 + b"}",
        b'{"k": Infinity',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_not_json_is_400(shared_client, path, body):
    document = problem(shared_client.post(path, content=body), 400)
    assert document["type"] == "urn:recjpq:problem:malformed-body"
    assert document["detail"].startswith("Invalid JSON")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("[]", [""]),
        ("null", [""]),
        ('"x"', [""]),
        ("{}", [""]),
        ('{"history": null}', [""]),
        ('{"history": "i1"}', ["/history"]),
        ('{"history": [1]}', ["/history/0"]),
        ('{"history": ["i1", ""]}', ["/history/1"]),
        ('{"history": [{"timestamp": "2026-11-20T10:00:00Z"}]}', ["/history/0/item_id"]),
        ('{"history": [{"item_id": "i1", "timestamp": NaN}]}', ["/history/0/timestamp"]),
        ('{"history": [{"item_id": "i1", "timestamp": 1700000000}]}', ["/history/0/timestamp"]),
        ('{"history": [{"item_id": "i1", "timestamp": "2026-11-20T10:00:00"}]}', ["/history/0/timestamp"]),
        ('{"history": [{"item_id": "i1", "timestamp": "1969-12-31T23:00:00Z"}]}', ["/history/0/timestamp"]),
        ('{"history": [{"item_id": "i1", "price": 3}]}', ["/history/0/price"]),
        ('{"history": ["a\\u0000b"]}', ["/history/0"]),
        ('{"history": ["a\\nb"]}', ["/history/0"]),
        ('{"history": ["a\\u0085b"]}', ["/history/0"]),
        ('{"history": ["i1"], "k": 0}', ["/k"]),
        ('{"history": ["i1"], "k": -1}', ["/k"]),
        ('{"history": ["i1"], "k": 1.0}', ["/k"]),
        ('{"history": ["i1"], "k": "10"}', ["/k"]),
        ('{"history": ["i1"], "k": true}', ["/k"]),
        ('{"history": ["i1"], "k": null}', ["/k"]),
        ('{"history": ["i1"], "k": NaN}', ["/k"]),
        ('{"history": ["i1"], "k": -Infinity}', ["/k"]),
        ('{"history": ["i1"], "k": 1e400}', ["/k"]),
        ('{"history": ["i1"], "k": 1001}', ["/k"]),
        ('{"history": ["i1"], "k": 100000000000000000000}', ["/k"]),
        ('{"history": ["i1"], "exclude_seen": 1}', ["/exclude_seen"]),
        ('{"history": ["i1"], "exclude": [null]}', ["/exclude/0"]),
        ('{"history": ["i1"], "fallback": "random"}', ["/fallback"]),
        ('{"history": ["i1"], "include": ["prices"]}', ["/include/0"]),
        ('{"history": ["i1"], "a/b~c": 1}', ["/a~1b~0c"]),
        ('{"user_id": ""}', ["/user_id"]),
        ('{"user_id": 7}', ["/user_id"]),
        (json.dumps({"user_id": "x" * 257}), ["/user_id"]),
        ('{"history": [1, 2], "k": 0}', ["/history/0", "/k"]),  # of a list the first alone
        (json.dumps({"history": ["i1"] * (HISTORY_LIMIT + 1)}), ["/history"]),
        (json.dumps({"history": [], "exclude": ["i1"] * 10_001, "k": 2000}), ["/k", "/exclude"]),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else None,
)
def test_wrong_fields_of_recommend_are_422(shared_client, body, expected):
    assert pointers(shared_client.post("/recommend", content=body)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{}", ["/events"]),
        ('{"events": []}', ["/events"]),
        ('{"events": [{}]}', ["/events/0/item_id"]),
        ('{"events": ["i1"]}', ["/events/0"]),
        ('{"events": [{"item_id": "i1", "event_id": "\\u0007"}]}', ["/events/0/event_id"]),
        ('{"events": [{"item_id": "i\\t1"}]}', ["/events/0/item_id"]),
        ('{"events": [{"item_id": "i1"}, {"item_id": "i1", "timestamp": "2999-01-01T00:00:00Z"}]}',
         ["/events/1/timestamp"]),
        (json.dumps({"events": [{"item_id": "i1"}] * 501}), ["/events"]),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else None,
)  # fmt: skip
def test_wrong_fields_of_events_are_422(shared_client, body, expected):
    assert pointers(shared_client.post("/users/u/events", content=body)) == expected


@pytest.mark.parametrize("user_id", ["a%00b", "a%09b", "%FF", "%ED%A0%80", "x" * 257, ""])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_wrong_user_id_in_the_path_is_422(shared_client, method, user_id):
    body = b'{"events": [{"item_id": "i1"}]}' if method == "POST" else None
    document = problem(shared_client.request(method, f"/users/{user_id}/events", content=body), 422)
    assert [error["parameter"] for error in document["errors"]] == ["user_id"]


def test_of_many_wrong_fields_only_the_first_are_listed(shared_client):
    document = problem(shared_client.post("/recommend", json={f"x{n}": 0 for n in range(5000)}), 422)
    assert len(document["errors"]) == 20
    assert "5000" in document["detail"]


def test_a_body_beyond_the_limit_is_413(shared_client):
    body = b'{"history": ["' + b"x" * shared_client.app.state.serving.settings.max_body_bytes + b'"]}'
    problem(shared_client.post("/recommend", content=body), 413)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/recommend/", 404),
        ("GET", "/users/u", 404),
        ("GET", "/recommend", 405),
        ("PUT", "/users/u/events", 405),
        ("POST", "/livez", 405),
        ("GET", "/users/a%0Ab/events", 404),  # the router's patterns end at a newline
    ],
)
def test_the_router_answers_with_problems_too(shared_client, method, path, status):
    response = shared_client.request(method, path)
    assert problem(response, status)["type"] == "about:blank"
    assert ("allow" in response.headers) == (status == 405)


def with_encoder(settings, encode):
    """An application whose encoder is replaced by a function."""

    class Encoder:
        providers = ["CPUExecutionProvider"]  # noqa: RUF012

        def encode(self, item_codes, lengths):
            return encode(item_codes, lengths)

    return create_app(settings, load_model=lambda *at: replace(load_model(*at), encoder=Encoder()))


def test_an_unexpected_error_is_500_and_tells_nothing(settings, open_client, caplog):
    def fail(item_codes, lengths):
        raise RuntimeError("a secret of the house")

    client = open_client(with_encoder(settings, fail))
    response = client.post("/recommend", json={"history": ["i1"]}, headers={"X-Request-ID": "r-1"})
    problem(response, 500)
    assert "secret" not in response.text
    [record] = [record for record in caplog.records if record.getMessage() == "request failed"]
    assert (record.request_id, str(record.exc_info[1])) == ("r-1", "a secret of the house")


def test_tables_that_are_not_finite_are_500_not_an_answer(settings, open_client):
    client = open_client(
        with_encoder(settings, lambda item_codes, lengths: np.full((1, 2, 4), np.nan, dtype=np.float32))
    )
    problem(client.post("/recommend", json={"history": ["i1"]}), 500)


def test_a_full_queue_is_503_at_once(settings, open_client):
    entered, gate = threading.Semaphore(0), threading.Event()

    def wait(item_codes, lengths):
        entered.release()
        assert gate.wait(20)
        return np.zeros((1, 2, 4), dtype=np.float32)

    limited = settings.model_copy(update={"inference_workers": 1, "queue_limit": 1, "retry_after_s": 7})
    client = open_client(with_encoder(limited, wait))

    async def three():
        def ask():
            return asyncio.create_task(client.http.post("/recommend", json={"history": ["i1"]}))

        running = ask()
        while not entered.acquire(blocking=False):
            await asyncio.sleep(0)
        waiting = ask()
        registry = client.app.state.serving.metrics.registry
        while not (depth := registry.get_sample_value("recjpq_queue_depth")):
            await asyncio.sleep(0)
        refused = await ask()
        gate.set()
        return depth, refused, await running, await waiting

    depth, refused, *answered = client.runner.run(three())
    assert depth == 1
    assert problem(refused, 503)["type"] == "urn:recjpq:problem:overloaded"
    assert refused.headers["retry-after"] == "7"
    assert [response.status_code for response in answered] == [200, 200]
    after = client.post("/recommend", json={"history": ["i1"]})
    assert after.status_code == 200


def test_refusals_are_counted_by_reason(client):
    def count(reason):
        registry = client.app.state.serving.metrics.registry
        return registry.get_sample_value("recjpq_rejections_total", {"reason": reason})

    client.post("/recommend", content=b"{")
    client.post("/recommend", json={"history": [1]})
    client.post("/recommend", json={"history": [], "fallback": "none"})
    assert [count(reason) for reason in ("malformed_body", "invalid_request", "no_history")] == [1, 1, 1]
    assert count("overloaded") == 0
