"""`GET /items`, `GET /items/{item_id}`, `GET /attributes`."""

import asyncio

import pytest
from pydantic import SecretStr

from service.app import create_app
from service.errors import OverloadedError
from service.item_reader import ItemReader


def ids(response):
    assert response.status_code == 200, response.text
    return [item["item_id"] for item in response.json()["items"]]


def test_without_a_query_the_most_popular_come_first(shared_client):
    response = shared_client.get("/items", params={"limit": 3})
    assert response.json() == {
        "items": [
            {"item_id": "i5", "count": 11, "metadata": {"title": "Title 5", "price": 5.0}},
            {"item_id": "i10", "count": 10, "metadata": {"title": "Title 10", "price": 10.0}},
            {"item_id": "i3", "count": 9, "metadata": {"title": "Title 3", "price": 3.0}},
        ],
        "searched": None,
    }


def test_words_are_searched_for(shared_client):
    assert ids(shared_client.get("/items", params={"query": "TÏTLE 1"})) == ["i10", "i1", "i11"]
    assert ids(shared_client.get("/items", params={"query": "title", "limit": 2})) == ["i5", "i10"]
    assert ids(shared_client.get("/items", params={"query": "nothing like it"})) == []


def test_the_item_of_that_very_id_comes_first_and_once(shared_client):
    assert ids(shared_client.get("/items", params={"query": "i1"})) == ["i1", "i10", "i11"]


def test_only_the_most_popular_are_searched_but_every_id_is_found(settings, open_client):
    client = open_client(create_app(settings.model_copy(update={"search_items": 1})))
    response = client.get("/items", params={"query": "title"})
    assert (ids(response), response.json()["searched"]) == (["i5"], 1)
    assert ids(client.get("/items", params={"query": "i0"})) == ["i0"]
    assert client.get("/items", params={"query": "title 4"}).json()["searched"] == 1


def test_added_items_are_found_and_retired_ones_no_longer(settings, open_client):
    key = "an-admin-key"
    client = open_client(
        create_app(settings.model_copy(update={"admin_key": SecretStr(key), "search_items": 1}))
    )
    assert ids(client.get("/items", params={"query": "title"})) == ["i5"]
    headers = {"X-API-Key": key}
    new = {"item_id": "new", "similar": ["i1"], "metadata": {"title": "A title of its own"}}
    assert client.post("/items", json={"items": [new]}, headers=headers).status_code == 200
    assert client.delete("/items/i10", headers=headers).status_code == 204
    assert ids(client.get("/items", params={"query": "title"})) == ["i5", "new"]
    assert ids(client.get("/items", params={"query": "i10"})) == []
    assert ids(client.get("/items", params={"limit": 2})) == ["i5", "i3"]
    assert ids(client.get("/items", params={"item_id": ["new", "i10"]})) == ["new", "i10"]  # for histories
    assert client.get("/items/new").json()["metadata"] == {"title": "A title of its own", "price": None}


def test_no_words_are_searched_for_where_that_is_off(settings, open_client):
    client = open_client(create_app(settings.model_copy(update={"search_items": 0})))
    assert ids(client.get("/items", params={"query": "title"})) == []
    assert ids(client.get("/items", params={"query": "i0"})) == ["i0"]
    assert len(ids(client.get("/items"))) == 10


def test_ids_are_looked_up_in_their_order(shared_client):
    assert ids(shared_client.get("/items", params={"item_id": ["i7", "zz", "i2"]})) == ["i7", "i2"]


@pytest.mark.parametrize(
    ("params", "parameter"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"limit": 101}, "limit"),
        ({"query": "x" * 257}, "query"),
        ({"item_id": ["i1"] * 101}, "item_id"),
        ({"query": "x", "item_id": "i1"}, "query"),
    ],
)
def test_what_is_not_acceptable_is_named(shared_client, params, parameter):
    response = shared_client.get("/items", params=params)
    assert response.status_code == 422
    assert response.json()["errors"][0]["parameter"] == parameter


@pytest.mark.parametrize("query", ["%", "\\", "' OR 1=1", "(", "[a", "\x00", "🎬", "a" * 256, "."])
def test_any_query_is_answered(shared_client, query):
    assert ids(shared_client.get("/items", params={"query": query})) == []


def test_one_item(shared_client):
    response = shared_client.get("/items/i0")
    assert response.json() == {"item_id": "i0", "count": 0, "metadata": {"title": "Title 0", "price": None}}
    assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("item_id", ["zz", "a/b/c", "similar"])
def test_an_unknown_item(shared_client, item_id):
    response = shared_client.get(f"/items/{item_id}")
    assert (response.status_code, response.json()["type"]) == (404, "urn:recjpq:problem:item-not-found")
    assert item_id in response.json()["detail"]


def test_attributes(shared_client):
    title, price = shared_client.get("/attributes").json()["attributes"]
    assert title == {
        "name": "title", "type": "text", "list": False, "distinct": None, "values": [],
        "min": None, "max": None,
    }  # fmt: skip
    assert (price["type"], price["min"], price["max"]) == ("number", 1.0, 11.0)


def test_they_are_described_with_examples(shared_client):
    document = shared_client.get("/openapi.json").json()
    assert {"/items", "/items/{item_id}", "/attributes"} <= set(document["paths"])
    assert document["components"]["schemas"]["Item"]["examples"]


def test_before_the_model_is_loaded_they_are_not_ready(settings, open_client):
    client = open_client(create_app(settings))
    client.stop()
    for path in ("/items", "/items/i1", "/attributes"):
        assert client.get(path).status_code == 503


def test_as_many_wait_as_may_and_no_more(runner):
    class Slow:
        def __init__(self):
            self.gate = asyncio.Event()
            self.loop = asyncio.get_running_loop()

        @property
        def attribute_summaries(self):
            asyncio.run_coroutine_threadsafe(self.gate.wait(), self.loop).result()
            return []

    async def all_of_it():
        reader, slow = ItemReader(10, queue_limit=2), Slow()
        accepted = [asyncio.create_task(reader.attributes(slow)) for _ in range(3)]  # one at work, two wait
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="3 readers"):
            await reader.attributes(slow)
        slow.gate.set()
        assert await asyncio.gather(*accepted) == [[], [], []]
        assert await reader.attributes(slow) == []

    runner.run(all_of_it())
