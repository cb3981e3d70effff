"""The files of the page: what they are served as, and that they hold nothing from elsewhere."""

import re
from importlib.resources import files

import pytest
from pydantic import SecretStr

from service.api.page import page_files
from service.app import create_app

FILES = page_files()


def test_the_pages_and_what_they_load_are_there():
    assert {"/", "/docs", "/page/app.js", "/page/page.css", "/page/icon.svg"} <= set(FILES)


@pytest.mark.parametrize("path", FILES)
def test_every_file_is_served_safely_and_once(shared_client, path):
    response = shared_client.get(path)
    assert response.status_code == 200
    assert response.content == files("service").joinpath("page", FILES[path]).read_bytes()
    assert response.headers["content-security-policy"].startswith("default-src 'self';")
    assert response.headers["x-content-type-options"] == "nosniff"
    kind = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    expected = kind[FILES[path].rpartition(".")[2]]
    assert response.headers["content-type"].split(";")[0] == expected

    again = shared_client.get(path, headers={"If-None-Match": f'"other", W/{response.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == response.headers["etag"]
    assert shared_client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", sorted(set(FILES.values())))
def test_no_file_refers_to_elsewhere_or_runs_text(name):
    text = files("service").joinpath("page", name).read_text(encoding="utf-8")
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", text)) - {"http://www.w3.org/2000/svg"}
    assert not addresses
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
    if name.endswith(".html"):
        assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", text)
        for reference in re.findall(r'(?:src|href)="([^"]+)"', text):
            target = "/" + reference.removeprefix(".")
            assert reference.startswith("#") or target in {*FILES, "/metrics", "/openapi.json"}


@pytest.mark.parametrize("name", sorted(name for name in FILES.values() if name.endswith(".js")))
def test_modules_import_what_is_there(name):
    text = files("service").joinpath("page", name).read_text(encoding="utf-8")
    for other in re.findall(r'from "\./([^"]+)"', text):
        assert f"/page/{other}" in FILES


def test_the_page_can_be_turned_off(settings, open_client):
    client = open_client(create_app(settings.model_copy(update={"page": False})))
    for path in FILES:
        response = client.get(path)
        assert (response.status_code, response.json()["type"]) == (404, "about:blank")
        assert response.headers["content-type"] == "application/problem+json"
    assert client.get("/openapi.json").status_code == 200
    assert client.get("/items").status_code == 200


def test_files_need_no_key_and_count_for_no_limit(settings, open_client):
    locked = settings.model_copy(
        update={"api_keys": SecretStr("a-client-key"), "rate_limit": 0.001, "rate_burst": 1}
    )
    client = open_client(create_app(locked))
    for path in FILES:
        assert client.get(path).status_code == 200
    assert client.get("/items").status_code == 401
    assert client.get("/items", headers={"Authorization": "Bearer a-client-key"}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/page", "/page/", "/page/../settings.py", "/page/%2e%2e/app.py", "/page/x.js"]
)
def test_nothing_else_is_served(shared_client, path):
    assert shared_client.get(path).status_code == 404


def test_files_are_not_in_the_api_description(shared_client):
    assert not set(FILES) & set(shared_client.get("/openapi.json").json()["paths"])
