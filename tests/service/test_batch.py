"""`POST /recommend/batch`: each answer is that of `/recommend`, each mistake its request's own."""

import json
import re
from typing import Any

import pytest


def batch(client: Any, *requests: Any, **fields: Any) -> list[dict[str, Any]]:
    response = client.post("/recommend/batch", json={"requests": list(requests)} | fields)
    assert response.status_code == 200, response.text
    assert response.json()["request_id"] == response.headers["x-request-id"]
    return response.json()["results"]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two answers are equal, apart from the request's id and rounding in larger batches."""

    def comparable(answer: dict[str, Any]) -> Any:
        items = [{**item, "score": pytest.approx(item["score"], rel=1e-5)} for item in answer["items"]]
        return {**answer, "request_id": "", "items": items}

    return comparable(one) == {**other, "request_id": ""}


def test_answers_are_those_of_single_requests(client):
    for user in ("ada", "bob"):
        client.post(
            f"/users/{user}/events", json={"events": [{"item_id": f"i{len(user)}"}, {"item_id": "i9"}]}
        )
    requests = [
        {"history": ["i1"]},
        {"user_id": "ada", "k": 3},
        {"user_id": "bob", "history": ["i4", "i2"], "filters": {"price": {"max": 6}}},
        {"history": ["unknown"]},
        {"user_id": "nobody", "exclude": ["i5"]},
        {"history": ["i1", "i2", "i3"], "candidates": ["i7", "i8"]},
    ]
    results = batch(client, *requests)
    for request, result in zip(requests, results, strict=True):
        assert same(result, client.post("/recommend", json=request).json()), request


def rejections(client, reason):
    [count] = re.findall(f'recjpq_rejections_total{{reason="{reason}"}} (.*)', client.get("/metrics").text)
    return float(count)


def test_each_mistake_is_its_requests_own(client):
    before = rejections(client, "invalid_request"), rejections(client, "no_history")
    good = {"history": ["i1"], "k": 2}
    results = batch(
        client, good, {"history": ["i1"], "k": 0}, {"k": 3}, {"history": [3]},
        {"history": ["i1"], "k": 10**6},
        {"history": [], "fallback": "none"}, {"history": ["i1"], "filters": {"colour": {"any": ["red"]}}},
        {"history": ["i1", {"item_id": "i2", "timestamp": "2026-01-01T00:00:00Z"}]}, "not an object", good,
    )  # fmt: skip
    assert [result.get("status", 200) for result in results] == [
        200, 422, 422, 422, 422, 404, 422, 200, 422, 200
    ]  # fmt: skip
    assert results[1]["type"] == "urn:recjpq:problem:invalid-request"
    pointers = [
        [error.get("pointer") for error in result["errors"]] for result in results if "errors" in result
    ]
    assert pointers == [["/k"], [""], ["/history/0"], ["/k"], ["/filters/colour"], [""]]
    assert rejections(client, "invalid_request") == before[0] + 6
    assert rejections(client, "no_history") == before[1] + 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"requests": []}', 422),
        (b'{"requests": {}}', 422),
        (b'{"requests": [{"history": ["i1"]}], "timeout_ms": 0}', 422),
        (b'{"requests": [{"history": ["i1"], "k": 0}], "timeout_ms": 0}', 422),
        (json.dumps({"requests": [{"history": ["i1"]}] * 101}).encode(), 422),
        (json.dumps({"requests": [{"k": 0}] * 101}).encode(), 422),
    ],
)
def test_a_batch_that_is_itself_wrong_is_refused_whole(client, body, status):
    response = client.post("/recommend/batch", content=body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


def test_a_batch_reads_its_users_in_one_call(client):
    def reads() -> Any:
        registry = client.app.state.serving.metrics.registry
        labels = {"operation": "read_items"}
        return registry.get_sample_value("recjpq_store_operation_duration_seconds_count", labels)

    before = reads()
    batch(client, *({"user_id": f"u{n}"} for n in range(20)), {"user_id": "u3"})
    assert reads() == before + 1


def test_recommendations_of_a_batch_are_counted_one_by_one(client):
    def count(strategy: str) -> Any:
        registry = client.app.state.serving.metrics.registry
        labels = {"strategy": strategy, "variant": "champion"}
        return registry.get_sample_value("recjpq_recommendations_total", labels)

    batch(client, {"history": ["i1"]}, {"history": ["i2"]}, {"history": ["unknown"]})
    assert (count("model"), count("popular")) == (2, 1)
