"""`/users/{user_id}/events` over HTTP; the store's own rules are tested in test_store.py."""

import time
from datetime import UTC, datetime
from urllib.parse import quote

import pytest


def event(item, second, event_id=None):
    body = {"item_id": item, "timestamp": f"2026-01-20T10:00:{second:02}.500Z"}
    return body | ({"event_id": event_id} if event_id else {})


def append(client, user_id, *events):
    response = client.post(f"/users/{user_id}/events", json={"events": list(events)})
    assert response.status_code == 200, response.text
    return response.json()


def stored(client, user_id):
    response = client.get(f"/users/{user_id}/events")
    assert response.status_code == 200, response.text
    return response.json()["events"]


def test_appended_events_are_read_in_the_order_of_their_time(client):
    counts = append(client, "u", event("i2", 5, "b"), event("i1", 1, "a"), event("nope", 9))
    assert counts == {"stored": 3, "duplicate": 0, "stale": 0, "unknown": 1}
    assert stored(client, "u") == [
        {"item_id": "i1", "timestamp": "2026-01-20T10:00:01.500000Z", "event_id": "a"},
        {"item_id": "i2", "timestamp": "2026-01-20T10:00:05.500000Z", "event_id": "b"},
        {"item_id": "nope", "timestamp": "2026-01-20T10:00:09.500000Z", "event_id": None},
    ]


def test_a_repeated_append_stores_nothing(client):
    append(client, "u", event("i1", 1, "a"))
    assert append(client, "u", event("i1", 1, "a"))["duplicate"] == 1
    assert len(stored(client, "u")) == 1


def test_an_event_without_a_time_happens_now(client):
    before = time.time()
    append(client, "u", {"item_id": "i1"})
    happened = datetime.fromisoformat(stored(client, "u")[0]["timestamp"])
    assert happened.tzinfo == UTC
    assert before - 0.001 <= happened.timestamp() <= time.time()


def test_a_deleted_user_is_gone_and_stays_gone(client):
    append(client, "u", event("i1", 1, "a"))
    for _ in range(2):  # idempotent
        response = client.delete("/users/u/events")
        assert (response.status_code, response.content) == (204, b"")
    assert stored(client, "u") == []
    assert append(client, "u", event("i1", 1, "a"))["stale"] == 1
    assert stored(client, "u") == []


def test_a_user_never_seen_has_no_events(client):
    assert stored(client, "nobody") == []
    assert client.delete("/users/nobody/events").status_code == 204


@pytest.mark.parametrize(
    "user_id", ["a/b", "a/events", "a?b#c&d", "a b", "ü", "{x}", "a%2Fb", "💡", "'; DROP TABLE"]
)
def test_user_ids_of_any_printable_characters(client, user_id):
    path = quote(user_id, safe="")
    append(client, path, event("i1", 1))
    assert [e["item_id"] for e in stored(client, path)] == ["i1"]
    answer = client.post("/recommend", json={"user_id": user_id}).json()
    assert answer["history"]["received"] == 1
    client.delete(f"/users/{path}/events")
    assert stored(client, path) == []


def test_events_are_counted_by_result(client):
    append(client, "u", event("i1", 1, "a"), event("nope", 2, "b"), event("i1", 1, "a"))
    value = client.app.state.serving.metrics.registry.get_sample_value
    assert value("recjpq_events_total", {"result": "stored"}) == 2
    assert value("recjpq_events_total", {"result": "duplicate"}) == 1
    assert value("recjpq_unknown_items_total", {"source": "events"}) == 1
    assert value("recjpq_store_operation_duration_seconds_count", {"operation": "append"}) == 1
    assert value("recjpq_store_up") == 1
