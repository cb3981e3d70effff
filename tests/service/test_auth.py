"""Keys, the admin key, and limits on rates."""

import subprocess
import sys

import httpx
import pytest
from pydantic import SecretStr

from service.api.auth import MOST_CLIENTS, Keys, RateLimit
from service.app import create_app
from service.errors import RateLimitedError, SettingsError
from service.settings import read_settings

KEY, OTHER_KEY, ADMIN = "client-key-1", "client-key-2", "admin-key-1"
QUESTION = {"history": ["i1"]}


@pytest.fixture
def open_with(settings, open_client):
    def open_with(**changes):
        return open_client(create_app(settings.model_copy(update=changes)))

    return open_with


@pytest.fixture
def locked(open_with):
    return open_with(api_keys=SecretStr(f"{KEY}, {OTHER_KEY}"), admin_key=SecretStr(ADMIN))


def recommend(client, **headers):
    return client.post("/recommend", json=QUESTION, headers=headers)


def problem(response):
    return response.status_code, response.json()["type"].removeprefix("urn:recjpq:problem:")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": KEY},
        {"X-API-Key": OTHER_KEY},
        {"X-API-Key": ADMIN},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {KEY}"},
        {"Authorization": "Basic abc", "X-API-Key": KEY},
    ],
)
def test_a_valid_key_opens_the_service(locked, headers):
    assert recommend(locked, **headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": KEY[:-1]},
        {"X-API-Key": KEY + " x"},
        {"X-API-Key": f"{KEY}, {OTHER_KEY}"},
        {"X-API-Key": "ü".encode()},
        {"Authorization": KEY},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer " + "x" * 5000},
    ],
)
def test_no_valid_key_opens_nothing(locked, headers):
    response = recommend(locked, **headers)
    assert problem(response) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == 'Bearer realm="recjpq"'
    assert response.headers["x-request-id"] == response.json()["request_id"]
    for method, path in [
        ("GET", "/model"), ("GET", "/users/u/events"), ("GET", "/items/i1/similar"), ("GET", "/no/such"),
        ("GET", "/openapi.json"), ("GET", "http://service//livez"), ("GET", "/livez/"),
        ("GET", "/livez%2F..%2Fmodel"),
    ]:  # fmt: skip
        assert locked.request(method, path, headers=headers).status_code == 401
    metrics = locked.get("/metrics").text
    assert 'recjpq_rejections_total{reason="unauthorized"} 9.0' in metrics
    assert 'recjpq_requests_total{method="POST",route="/recommend",status="401"} 1.0' in metrics
    assert 'recjpq_requests_total{method="GET",route="/users/{user_id}/events",status="401"} 1.0' in metrics
    assert 'recjpq_requests_total{method="other",route="other",status="401"}' in metrics


def test_probes_and_metrics_are_open(locked, open_with):
    for path in ("/livez", "/readyz", "/startupz", "/metrics"):
        assert locked.get(path).status_code == 200
    closed = open_with(api_keys=SecretStr(KEY), metrics_need_key=True)
    assert closed.get("/metrics").status_code == 401
    assert closed.get("/metrics", headers={"X-API-Key": KEY}).status_code == 200
    assert closed.get("/livez").status_code == 200


def test_keys_in_a_file(settings, open_with, tmp_path):
    (tmp_path / "keys").write_text(f"{KEY}\n\n  {OTHER_KEY}  \n")
    client = open_with(api_keys_file=tmp_path / "keys", api_keys=SecretStr("third-key"))
    for key in (KEY, OTHER_KEY, "third-key"):
        assert recommend(client, **{"X-API-Key": key}).status_code == 200
    assert recommend(client).status_code == 401
    assert "private" in client.get("/items/i1/similar", headers={"X-API-Key": KEY}).headers["cache-control"]


ADMIN_ROUTES = [
    ("GET", "/admin/models", None),
    ("POST", "/admin/models/v1/activate", None),
    ("POST", "/admin/rollback", None),
    ("PUT", "/admin/challenger", {"version": "v1", "share": 1}),
    ("DELETE", "/admin/challenger", None),
    ("POST", "/items", {"items": [{"item_id": "n1", "similar": ["i1"]}]}),
    ("DELETE", "/items/i1", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ADMIN_ROUTES)
def test_administration_is_off_without_its_key(client, open_with, method, path, body):
    for each in (client, open_with(api_keys=SecretStr(KEY))):
        response = each.request(method, path, json=body, headers={"X-API-Key": KEY})
        assert problem(response) == (403, "admin-disabled")
        assert "RECJPQ_ADMIN_KEY" in response.json()["detail"]
    assert recommend(client).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), ADMIN_ROUTES)
def test_administration_needs_its_own_key(locked, open_with, method, path, body):
    assert problem(locked.request(method, path, json=body)) == (401, "unauthorized")
    client_s = locked.request(method, path, json=body, headers={"X-API-Key": KEY})
    assert problem(client_s) == (403, "forbidden")
    without_api_keys = open_with(admin_key=SecretStr(ADMIN))
    wrong = without_api_keys.request(method, path, json=body, headers={"X-API-Key": KEY})
    assert problem(wrong) == (401, "unauthorized")
    assert wrong.headers["www-authenticate"]
    assert recommend(without_api_keys).status_code == 200


def test_every_admin_route_is_in_this_list(client):
    routes = {
        (method, route.path_format.replace("{version}", "v1").replace("{item_id}", "i1"))
        for route in client.app.routes
        for method in getattr(route, "methods", ())
        if route.path.startswith(("/admin", "/items")) and method != "HEAD"
    }
    public = {(method, path) for method, path in routes if method == "GET" and path.startswith("/items")}
    assert routes - public == {(method, path) for method, path, _ in ADMIN_ROUTES}


def test_the_document_says_that_keys_may_be_needed(shared_client):
    document = shared_client.get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    assert {"401", "429"} <= set(document["paths"]["/recommend"]["post"]["responses"])
    assert "security" not in document["paths"]["/livez"]["get"]


def test_every_key_is_looked_at():
    keys = Keys([KEY, OTHER_KEY], ADMIN)
    roles = [keys.role_of(key.encode())[0] for key in (KEY, OTHER_KEY, ADMIN, "none", "")]
    assert roles == ["client", "client", "admin", None, None]
    assert Keys([], None).role_of(b"")[0] is None


@pytest.mark.parametrize("name", ["API_KEYS", "ADMIN_KEY"])
@pytest.mark.parametrize(
    "value", ["", "short", "with space inside", "überlang-genug", "x" * 257, "good-key-1,,"]
)
def test_a_key_that_cannot_be_one_is_refused_and_not_told(monkeypatch, name, value):
    monkeypatch.setenv(f"RECJPQ_{name}", value)
    with pytest.raises(SettingsError, match=rf"RECJPQ_{name}='\*\*\*': a key is 8 to 256") as raised:
        read_settings()
    assert not value or value not in str(raised.value)


@pytest.mark.parametrize("content", [None, "", "short\n", "good-key-1\nbäd-key-22\n"])
def test_a_file_of_keys_that_is_none(monkeypatch, tmp_path, content):
    if content is not None:
        (tmp_path / "keys").write_text(content)
    monkeypatch.setenv("RECJPQ_API_KEYS_FILE", str(tmp_path / "keys"))
    with pytest.raises(SettingsError, match="RECJPQ_API_KEYS_FILE=") as raised:
        read_settings()
    assert "good-key" not in str(raised.value)


def test_no_key_is_ever_logged(start_service, caplog):
    service = start_service(
        log_level="DEBUG", access_log=True, api_keys=f"{KEY},{OTHER_KEY}", admin_key=ADMIN
    )
    with httpx.Client(base_url=service.url) as client:
        for headers in (
            {},
            {"X-API-Key": KEY},
            {"Authorization": f"Bearer {OTHER_KEY}"},
            {"X-API-Key": ADMIN},
        ):
            recommend(client, **headers)
            client.post("/admin/models/v9/activate", headers=headers)
            client.get(f"/model?key={KEY}", headers=headers)
        assert recommend(client, **{"X-API-Key": "wrong-key-9"}).status_code == 401
    service.process.terminate()
    service.process.wait(20)
    log = service.log.read_text()
    assert '"request"' in log
    for key in (KEY, OTHER_KEY, ADMIN, "wrong-key-9"):
        assert key not in log


def test_no_key_is_shown(settings):
    shown = settings.model_copy(update={"api_keys": SecretStr(KEY), "admin_key": SecretStr(ADMIN)})
    assert KEY not in f"{shown!r} {shown.model_dump_json()}"
    command = [sys.executable, "-m", "service", "--help"]
    environment = {"RECJPQ_API_KEYS": KEY, "PATH": "/usr/bin"}
    assert (
        KEY not in subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    )


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def refused(limit, client, tokens=1):
    try:
        limit.take(client, tokens)
    except RateLimitedError as error:
        return error.retry_after_s
    return None


def test_a_burst_then_the_rate(clock):
    limit = RateLimit(0.5, 3, clock)
    assert [refused(limit, "a") for _ in range(4)] == [None, None, None, 2]
    assert refused(limit, "b") is None
    clock.now = 1.9
    assert refused(limit, "a") == 1
    clock.now = 2.0
    assert [refused(limit, "a") for _ in range(2)] == [None, 2]
    clock.now = 1000
    assert [refused(limit, "a") for _ in range(4)] == [None, None, None, 2]


def test_what_is_more_than_a_burst_is_taken_from_a_full_bucket_and_owed(clock):
    limit = RateLimit(10, 5, clock)
    assert refused(limit, "a", 25) is None
    assert refused(limit, "a") == 3  # 21 / 10, rounded up
    clock.now = 2.1
    assert refused(limit, "a") is None
    assert refused(limit, "a", 25) == 1


def test_the_table_of_clients_is_bounded(clock):
    limit = RateLimit(1, 1, clock)
    for number in range(MOST_CLIENTS + 10):
        assert refused(limit, number) is None
    assert len(limit._buckets) == MOST_CLIENTS
    assert refused(limit, MOST_CLIENTS) == 1
    assert refused(limit, 0) is None  # forgotten


def test_a_client_is_its_key_or_its_address(open_with):
    client = open_with(api_keys=SecretStr(f"{KEY},{OTHER_KEY}"), rate_limit=0.001, rate_burst=2)
    assert [recommend(client, **{"X-API-Key": KEY}).status_code for _ in range(3)] == [200, 200, 429]
    assert recommend(client, Authorization=f"Bearer {KEY}").status_code == 429
    response = recommend(client, **{"X-API-Key": KEY})
    assert problem(response) == (429, "rate-limited")
    assert 900 < int(response.headers["retry-after"]) <= 1000
    assert recommend(client, **{"X-API-Key": OTHER_KEY}).status_code == 200
    assert [client.get(path).status_code for path in ("/livez", "/readyz", "/metrics") * 3] == [200] * 9
    guesses = [recommend(client, **{"X-API-Key": f"guess-{number}"}).status_code for number in range(4)]
    assert guesses == [401, 401, 429, 429]
    refused = 'recjpq_requests_total{method="POST",route="/recommend",status="429"} 5.0'
    assert refused in client.get("/metrics").text
    anybody = open_with(rate_limit=0.001, rate_burst=1)
    assert [recommend(anybody, **{"X-API-Key": key}).status_code for key in ("a", "b")] == [200, 429]


def test_a_batch_counts_as_what_it_holds(open_with):
    client = open_with(rate_limit=0.001, rate_burst=5)

    def batch(size):
        return client.post("/recommend/batch", json={"requests": [QUESTION] * size}).status_code

    assert [batch(4), batch(2), batch(1), batch(1)] == [200, 429, 429, 429]
