"""Requests that mean harm, to every documented route: no 500, nothing of the inside, no growth."""

import gc
import json
import re
import urllib.parse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.machine import private_bytes

LEAKS = re.compile(
    r"Traceback|File \\?\"|site-packages|/tmp/|/home/|\.py\b|pydantic|sqlite|Error\(|0x[0-9a-f]{8}"
)
UNDOCUMENTED = {404, 405}  # the router's own
DEEP = b'{"history": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
HUGE = [
    "1e400",
    "-1e400",
    "9" * 10_000,
    "-0",
    "-0.0",
    "1e-400",
    "NaN",
    "Infinity",
    "0x10",
    "1_000",
    "1" + "0" * 308,
]
IDS = [
    "\x00", "a\x00b", "\r\nSet-Cookie: a=b", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\ufffd", "\ud800",
    "\U0010ffff", "e\u0301" * 128, "x" * 257, "x" * 60_000, " ", "..", "../../etc/passwd", "%00", "%2F",
    "'; DROP TABLE", "{0}", "${jndi:ldap://x}", "<script>", "\\", '"',
    "*\r\n$3\r\nDEL\r\n", "{user}", "None", "-1", "🎬" * 64,
]  # fmt: skip


def operations(client) -> list[tuple[str, str]]:
    paths = client.app.openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def body_operations(client) -> list[tuple[str, str]]:
    paths = client.app.openapi()["paths"]
    return [(m, p) for m, p in operations(client) if "requestBody" in paths[p][m.lower()]]


def fill(path: str, value: str) -> str:
    """Put a value in the place of each parameter of a path."""
    quoted = urllib.parse.quote(value.encode("utf-8", "surrogatepass"), safe="")
    return re.sub(r"\{[^}]*\}", lambda _: quoted, path)


def check(client, method: str, path: str, response, *, extra: frozenset[int] = frozenset()) -> None:
    """Any answer may come that the document names, as a problem if it is a refusal."""
    told = client.app.openapi()["paths"].get(path, {}).get(method.lower(), {}).get("responses", {})
    allowed = {int(status) for status in told} | UNDOCUMENTED | extra
    assert response.status_code in allowed, (method, path, response.status_code, response.text[:300])
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert not LEAKS.search(response.text), response.text[:500]
        assert len(response.content) < 20_000
    assert response.headers["x-request-id"]
    for name, value in response.headers.items():
        assert "\r" not in name + value
        assert "\n" not in name + value
        assert name != "set-cookie"


def near(schema: dict, components: dict, depth: int = 0) -> st.SearchStrategy:
    """Values near a JSON schema: mostly of its form, and now and then something else at any place."""
    if "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]]
    return st.one_of(_of(schema, components, depth), st.sampled_from(ODD), st.deferred(lambda: ANYTHING))


def _of(schema: dict, components: dict, depth: int) -> st.SearchStrategy:
    if branches := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return st.one_of([near(branch, components, depth) for branch in branches])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if kind == "object":
        fields = {name: near(of, components, depth + 1) for name, of in schema.get("properties", {}).items()}
        return st.fixed_dictionaries({}, optional=fields | {"unknown": st.none()})
    if kind == "array":
        return st.lists(near(schema.get("items", {}), components, depth + 1), max_size=4)
    simple = {
        "string": st.one_of(st.sampled_from([*KNOWN, *TEXTS]), st.text(max_size=8)),
        "integer": st.integers(-2, 2000),
        "number": st.floats(),
        "boolean": st.booleans(),
    }
    return simple.get(kind, st.none())


KNOWN = ["i1", "i2", "u1", "2026-11-20T10:00:00Z", "popular"]
TEXTS = [text for text in IDS if len(text) < 1000]
ODD = [None, True, 0, -1, 2**63, 2**64, 10**400, 1e308, float("nan"), float("inf"), "", [], {}, [[]], *TEXTS]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)

bounded = settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


@bounded
@given(body=st.binary(max_size=200))
def test_bytes(admin, body):
    for method, path in body_operations(admin):
        response = admin.request(method, fill(path, "u"), content=body)
        check(admin, method, path, response)


@bounded
@given(data=st.data())
def test_json_near_the_schema(admin, data):
    document = admin.app.openapi()
    for method, path in body_operations(admin):
        content = document["paths"][path][method.lower()]["requestBody"]["content"]
        schema = next(iter(content.values()))["schema"]
        body = data.draw(near(schema, document["components"]["schemas"]))
        encoded = json.dumps(body).encode()  # NaN and lone surrogates as such programs send them
        check(admin, method, path, admin.request(method, fill(path, "u"), content=encoded))


@pytest.mark.parametrize("number", HUGE, ids=lambda number: number[:12])
def test_numbers(admin, number):
    for method, path in body_operations(admin):
        for field in ("k", "timeout_ms", "history", "unknown"):
            body = f'{{"history": ["i1"], "{field}": {number}}}'.encode()
            check(admin, method, path, admin.request(method, fill(path, "u"), content=body))


@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b'{"history": ["i1"], ' + b",".join(b'"f%d": 1' % n for n in range(50_000)) + b"}",
        b'{"history": ["i1"], "history": [], "k": 1, "k": "x"}',
        b'{"history": ["i1"]' + b" " * 10_000_000 + b"}",
        b'"' + b"x" * 10_000_000 + b'"',
        b"\xef\xbb\xbf{}",
        '{"history": ["i1"]}'.encode("utf-16"),
        b'{"history": ["\xc0\xaf"]}',  # an overlong slash
        b'{"__proto__": {"k": 1}, "history": ["i1"]}',
    ],
    ids=[
        "deep",
        "open",
        "nested",
        "fields",
        "repeated",
        "spaces",
        "string",
        "bom",
        "utf-16",
        "overlong",
        "proto",
    ],
)
def test_bodies(admin, body):
    for method, path in body_operations(admin):
        check(admin, method, path, admin.request(method, fill(path, "u"), content=body))


@pytest.mark.parametrize("value", IDS, ids=lambda value: ascii(value)[:20])
def test_ids_anywhere(admin, value):
    """In paths, and at each place of a body; what is accepted comes back as it was."""
    for method, path in operations(admin):
        if "{" in path:
            body = b'{"events": [{"item_id": "i1"}]}' if method in ("POST", "PUT") else None
            response = admin.request(method, fill(path, value), content=body)
            check(admin, method, path, response, extra=frozenset({422}))
    for body in (
        {"user_id": value}, {"history": [value]}, {"history": ["i1"], "exclude": [value]},
        {"history": ["i1"], "candidates": [value]}, {"history": ["i1"], "filters": {value: {"any": [value]}}},
        {"history": ["i1"], value: 1}, {"history": ["i1"], "fallback": value, "include": [value]},
    ):  # fmt: skip
        check(admin, "POST", "/recommend", admin.post("/recommend", content=json.dumps(body)))
    events = {"events": [{"item_id": value, "event_id": value}]}
    response = admin.post("/users/hostile/events", content=json.dumps(events))
    check(admin, "POST", "/users/{user_id}/events", response)
    if response.status_code == 200:
        stored = admin.get("/users/hostile/events").json()["events"]
        assert value in [event["item_id"] for event in stored]


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
)
def test_methods(admin, method):
    known = operations(admin)
    for path in dict.fromkeys(path for _, path in known):
        response = admin.request(method, fill(path, "u"))
        if (method, path) not in known:
            assert response.status_code in (404, 405), (method, path)  # 404: another route has taken it
            assert ("allow" in response.headers) == (response.status_code == 405)


@pytest.mark.parametrize(
    "path",
    [
        "/%00", "/%2e%2e/%2e%2e/etc/passwd", "/users/%2e%2e/%2e%2e/events", "/users/%c0%af/events",
        "/users//events", "/users/a/b/c/events", "/model/../metrics", "/recommend%20", "/recommend;a=b",
        "/%ff", "/admin/models/..%2f..%2fetc/activate", "/admin/models/%00/activate", "/items/%00/similar",
        "/items/../similar",
        "/openapi.json/", "/" + "a" * 60_000,
    ],
    ids=lambda path: path[:40],
)  # fmt: skip
def test_paths(admin, path):
    for method in ("GET", "POST"):
        response = admin.request(method, path)
        assert response.status_code < 500
        assert not LEAKS.search(response.text.replace("a" * 100, "")) or response.status_code < 400


@pytest.mark.parametrize(
    "given_id",
    ["a\r\nb", "a\r\nX-Evil: 1", "x" * 129, "", "é", "a b", '"', "\x00", "a\tb", "%0d%0a", "..", "<a>"],
    ids=ascii,
)
def test_a_request_id_that_is_not_harmless_is_replaced(admin, given_id):
    headers = [(b"x-request-id", given_id.encode())]
    response = admin.get("/livez", headers=headers)
    answered = response.headers["x-request-id"]
    assert answered == given_id or re.fullmatch("[0-9a-f]{32}", answered)
    assert re.fullmatch(r"[A-Za-z0-9._~:/+=@%-]{1,128}", answered)


def test_many_headers_and_repeated_ones(admin):
    headers = [(b"x-%d" % n, b"y" * 100) for n in range(500)] + [
        (b"x-request-id", b"a"),
        (b"x-request-id", b"b\r\n"),
    ]
    response = admin.post("/recommend", headers=headers, json={"history": ["i1"]})
    assert response.status_code == 200


READS = [
    ("POST", "/recommend", '{"history": ["i1", "i2"], "k": 3}'),
    ("POST", "/recommend", '{"user_id": "soak", "history": ["never seen %d"]}'),
    ("POST", "/recommend", '{"user_id": "user-%d"}'),
    ("POST", "/recommend", '{"history": [1], "field-%d": 1}'),
    ("POST", "/recommend", '{"history": ["i%d"], "k": 3, "filters": {"price": {"max": 6}}}'),
    (
        "POST",
        "/recommend/batch",
        '{"requests": [{"history": ["i1", "i2", "new-%d"], "k": 3, "include": ["explanation"]}, {"k": %d}]}',
    ),
    ("GET", "/items/i1/similar", ""),
    ("GET", "/items/new-%d", ""),
    ("POST", "/recommend", "{%d"),
    ("GET", "/users/user-%d/events", ""),
    ("GET", "/no-such-route-%d", ""),
    ("BREW-%d", "/model", ""),
    ("GET", "/model", ""),
]
WRITES = [
    ("POST", "/users/user-%d/events", '{"events": [{"item_id": "item-%d", "event_id": "e%d"}]}'),
    ("DELETE", "/users/user-%d/events", ""),
]
SOAK = READS * 5 + WRITES  # a write waits for the disk
SOAK_REQUESTS, SOAK_WARM = 20_000, 4_000
GROWTH_BYTES = 6 * 2**20
"""Far below what a leak of one kilobyte a request would take, and far above what allocators keep."""


async def ask(app, method: str, path: str, body: str) -> int:
    """Call an application without a client, which would take most of the time; return the status."""
    status = 0
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": [],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": body.encode(), "more_body": False}

    async def send(message):
        nonlocal status
        status = message.get("status", status)

    await app(scope, receive, send)
    return status


def test_memory_does_not_grow_with_requests(client):
    """Each request's ids, fields, paths and methods are new, so that nothing may be kept for them."""

    async def soak(first: int, last: int) -> None:
        for number in range(first, last):
            counted = [part.replace("%d", str(number)) for part in SOAK[number % len(SOAK)]]
            assert await ask(client.app, *counted) < 500, counted

    client.runner.run(soak(0, SOAK_WARM))
    before, objects = private_bytes(), len(gc.get_objects())
    series = len(client.get("/metrics").text.splitlines())
    client.runner.run(soak(SOAK_WARM, SOAK_REQUESTS))
    assert private_bytes() - before < GROWTH_BYTES
    assert len(gc.get_objects()) - objects < 2000
    assert len(client.get("/metrics").text.splitlines()) == series  # no label comes from a client


@pytest.mark.parametrize(
    ("path", "name", "entry"),
    [
        ("/recommend/batch", "requests", "{}"),
        ("/recommend/batch", "requests", "1"),
        ("/recommend", "include", "1"),
        ("/users/u/events", "events", "1"),
    ],
)
def test_a_body_full_of_wrong_entries_is_told_by_their_number(client, path, name, entry):
    """An object for each of them stopped the process for up to 19 seconds and took 2 GB."""
    body = f'{{"{name}": [{",".join([entry] * 20_000)}]}}'
    response = client.post(path, content=body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["detail"].startswith("Found ")
    assert len(response.json()["errors"]) == 1
