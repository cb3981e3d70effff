"""Versions activated, rolled back and tried while others serve."""

import json
import shutil

import pytest

from service.app import create_app

ADMIN = "admin-key-1"
HEADERS = {"X-API-Key": ADMIN}


@pytest.fixture
def versions(make_artifact, tmp_path):
    directory = tmp_path / "versions"
    for version in ("v1", "v2"):
        make_artifact(directory, version)
    return directory


@pytest.fixture
def client(settings, versions, open_client):
    return open_client(create_app(with_admin(settings, model_path=str(versions))))


def with_admin(settings, **others):
    from pydantic import SecretStr

    return settings.model_copy(update={"admin_key": SecretStr(ADMIN), **others})


def served(client):
    return client.post("/recommend", json={"history": ["i1"]}).headers["x-model-version"]


def admin(client, method, path, **arguments):
    return client.request(method, path, headers=HEADERS, **arguments)


def test_the_newest_is_served_until_another_is_activated(client):
    assert served(client) == "v2"
    before = admin(client, "GET", "/admin/models").json()
    assert (before["champion"], before["activated"], before["previous"]) == ("v2", False, None)
    assert [version["version"] for version in before["versions"]] == ["v2", "v1"]
    response = admin(client, "POST", "/admin/models/v1/activate")
    assert response.status_code == 200, response.text
    after = response.json()
    assert (after["champion"], after["activated"], after["previous"]) == ("v1", True, "v2")
    assert after["loaded"] == ["v1", "v2"]
    assert served(client) == "v1"
    assert client.get("/model").json()["version"] == "v1"
