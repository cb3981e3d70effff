"""What an operator asks of a service that is in this process or elsewhere, and what its users then see."""

ADMIN_KEY = "admin-key-of-the-tests"
HEADERS = {"X-API-Key": ADMIN_KEY}
QUESTION = {"history": ["i1", "i4"], "k": 12, "exclude_seen": False}
EVERYTHING = QUESTION | {"k": 100}


def served(client, **question):
    response = client.post("/recommend", json=QUESTION | question)
    assert response.status_code == 200, response.text
    assert response.headers["x-model-version"] == response.json()["model"]["version"]
    return response.headers["x-model-version"]


def admin(client, method, path, **arguments):
    return client.request(method, path, headers=HEADERS, **arguments)


def activate(client, version):
    return admin(client, "POST", f"/admin/models/{version}/activate")


def scores_of(client):
    return [item["score"] for item in client.post("/recommend", json=QUESTION).json()["items"]]


def add(client, *items, **more):
    return client.post("/items", json={"items": items} | more, headers=HEADERS)


def retire(client, item_id):
    return client.delete(f"/items/{item_id}", headers=HEADERS)


def like(item_id, *similar, **more):
    return {"item_id": item_id, "similar": similar} | more


def recommended(client, **question):
    response = client.post("/recommend", json=EVERYTHING | question)
    assert response.status_code == 200, response.text
    return response.json()


def ids(answer):
    return [item["item_id"] for item in answer["items"]]


def scores(answer):
    return {item["item_id"]: item["score"] for item in answer["items"]}


def problem(response):
    return response.status_code, response.json()["type"].removeprefix("urn:recjpq:problem:")


def damage(version):
    """Change one bit of a version's codes."""
    codes = bytearray((version / "item_codes.npy").read_bytes())
    codes[-1] ^= 1
    (version / "item_codes.npy").write_bytes(codes)
