"""Probes, metrics, the model's description, headers and the OpenAPI document."""

import re

import pytest

from service.app import create_app

PRESENT_FROM_THE_START = [
    'recjpq_requests_total{method="POST",route="/recommend",status="503"} 0.0',
    'recjpq_requests_total{method="GET",route="/users/{user_id}/events",status="200"} 0.0',
    'recjpq_request_duration_seconds_bucket{le="0.0005",method="POST",route="/recommend"} 0.0',
    'recjpq_stage_duration_seconds_bucket{le="5e-05",stage="encode"} 0.0',
    'recjpq_stage_duration_seconds_count{stage="queue"} 0.0',
    "recjpq_requests_in_progress 1.0",  # this one
    "recjpq_queue_depth 0.0",
    'recjpq_rejections_total{reason="overloaded"} 0.0',
    'recjpq_recommendations_total{strategy="popular",variant="champion"} 0.0',
    'recjpq_degraded_total{reason="store_unavailable"} 0.0',
    'recjpq_events_total{result="stale"} 0.0',
    'recjpq_store_errors_total{operation="append"} 0.0',
    'recjpq_model_info{backbone="sasrec",name="tiny",provider="CPUExecutionProvider",scorer="cpu",'
    'variant="champion",version="v1"} 1.0',
    'recjpq_model_reloads_total{result="failed"} 0.0',
    'recjpq_batch_size_bucket{le="1.0"} 0.0',
    "recjpq_workers 1.0",
    "recjpq_worker_starts_total 1.0",
    "recjpq_model_items 12.0",
]


def metrics(client):
    response = client.get("/metrics")
    assert response.status_code == 200
    return response.text.splitlines()


def test_every_series_is_there_before_the_first_request(client):
    assert set(PRESENT_FROM_THE_START) <= set(metrics(client))


def test_a_recommendation_is_measured_by_route_and_stage(client):
    client.post("/users/u1/events", json={"events": [{"item_id": "i1"}]})
    client.post("/recommend", json={"user_id": "u1"})
    lines = set(metrics(client))
    assert 'recjpq_requests_total{method="POST",route="/recommend",status="200"} 1.0' in lines
    assert 'recjpq_requests_total{method="POST",route="/users/{user_id}/events",status="200"} 1.0' in lines
    for stage, count in {"store": 2, "queue": 1, "encode": 1, "score": 1, "respond": 1}.items():
        assert f'recjpq_stage_duration_seconds_count{{stage="{stage}"}} {count}.0' in lines


def test_labels_come_from_closed_sets(client):
    client.get("/no/such/route")
    client.request("PROPFIND", "/recommend")
    text = "\n".join(metrics(client))
    assert 'recjpq_requests_total{method="other",route="other",status="404"} 1.0' in text
    assert 'recjpq_requests_total{method="other",route="other",status="405"} 1.0' in text
    assert "PROPFIND" not in text
    assert "such" not in text


def test_two_applications_do_not_share_metrics(client, settings, open_client):
    other = open_client(create_app(settings))
    client.post("/recommend", json={"history": []})
    line = 'recjpq_recommendations_total{strategy="popular",variant="champion"}'
    assert f"{line} 1.0" in metrics(client)
    assert f"{line} 0.0" in metrics(other)


def test_openmetrics_where_it_is_asked_for(shared_client):
    response = shared_client.get(
        "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


def test_model_describes_the_model_and_the_limits(shared_client):
    assert shared_client.get("/model").json() == {
        "name": "tiny",
        "version": "v1",
        "created_at": "2026-01-01T00:00:00+00:00",
        "backbone": "sasrec",
        "sizes": {"num_items": 12, "max_length": 5, "num_splits": 2, "num_sub_ids": 4, "dim": 3},
        "limits": {
            "max_k": 1000, "max_history": 10_000, "max_exclude": 10_000,
            "max_candidates": 10_000, "max_filter_values": 1000, "max_batch": 100, "max_timeout_ms": 10_000,
            "max_new_items": 1000, "max_events": 500, "max_found_items": 100,
            "max_body_bytes": 2 * 1024 * 1024, "max_id_length": 256,
        },
        "metrics": {"ndcg@10": 0.5, "protocol": "leave one out"},
        "providers": ["CPUExecutionProvider"],
        "scorer": "cpu",
        "added_items": 0,
        "retired_items": 0,
        "challenger": None,
        "previous": None,
    }  # fmt: skip


def test_probes(client):
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/startupz").json() == {"status": "started"}
    assert client.get("/readyz").json() == {"status": "ready"}
    client.app.state.serving.begin_drain()
    response = client.get("/readyz")
    assert (response.status_code, response.json()["type"]) == (503, "urn:recjpq:problem:not-ready")
    assert client.get("/livez").status_code == 200
    assert client.post("/recommend", json={"history": ["i1"]}).status_code == 200  # still served


def test_before_the_model_is_loaded_nothing_but_probes_and_metrics_answers(settings, open_client):
    client = open_client(create_app(settings))
    client.stop()
    assert client.get("/livez").status_code == 200
    assert client.get("/metrics").status_code == 200
    for method, path, body in [
        ("GET", "/readyz", None),
        ("GET", "/startupz", None),
        ("GET", "/model", None),
        ("GET", "/items/i1/similar", None),
        ("POST", "/recommend", {"history": ["i1"]}),
        ("POST", "/users/u/events", {"events": [{"item_id": "i1"}]}),
        ("GET", "/users/u/events", None),
        ("DELETE", "/users/u/events", None),
    ]:
        response = client.request(method, path, json=body)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.json()["type"] == "urn:recjpq:problem:not-ready"
        assert "x-model-version" not in response.headers


def test_headers_of_a_recommendation(shared_client):
    response = shared_client.post("/recommend", json={"user_id": "u", "history": ["i1"]})
    assert response.headers["cache-control"] == "private, no-store"
    assert response.headers["x-model-version"] == "v1"
    timings = response.headers["server-timing"].split(", ")
    assert [re.fullmatch(r"(\w+);dur=\d+\.\d{3}", timing)[1] for timing in timings] == [
        "store", "queue", "encode", "score", "respond"
    ]  # fmt: skip


@pytest.mark.parametrize("given", ["a", "r-1.2_3~4:/+=@", "x" * 128])
def test_a_safe_request_id_is_taken_over(shared_client, given):
    assert shared_client.get("/livez", headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a,b", "ü".encode(), '"', "<script>"])
def test_any_other_request_id_is_replaced(shared_client, given):
    first, second = (
        shared_client.get("/livez", headers={"X-Request-ID": given}).headers["x-request-id"] for _ in range(2)
    )
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first != second


def test_the_openapi_document_describes_bodies_answers_and_problems(shared_client):
    document = shared_client.get("/openapi.json").json()
    assert shared_client.get("/openapi.json").json() == document
    schemas = document["components"]["schemas"]
    operation = document["paths"]["/recommend"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/RecommendRequest"}
    assert schemas["RecommendRequest"]["examples"]
    assert set(operation["responses"]) == {"200", "400", "401", "404", "413", "422", "429", "503", "504"}
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert references <= set(schemas)
    assert "/users/{user_id}/events" in document["paths"]


def test_no_log_record_holds_a_user_id(settings, open_client, caplog):
    caplog.set_level("DEBUG", logger="service")
    client = open_client(create_app(settings.model_copy(update={"access_log": True})))
    client.post("/users/very-private/events", json={"events": [{"item_id": "i1"}]})
    client.post("/recommend", json={"user_id": "very-private"}, headers={"X-Request-ID": "r-1"})
    assert "very-private" not in str([record.__dict__ for record in caplog.records])
    [record] = [r for r in caplog.records if getattr(r, "request_id", None) == "r-1"]
    assert (record.method, record.route, record.status) == ("POST", "/recommend", 200)
    assert record.duration_ms > 0
