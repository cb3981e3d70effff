"""Items added to the served catalogue and retired from it."""

import numpy as np
import pytest

from recjpq.new_items import codes_from_similar
from service.app import create_app
from tests.service.administration import HEADERS, add, ids, like, problem, recommended, retire, scores


def test_an_added_item_is_recommended_like_those_it_is_like_and_described(managed):
    assert "n1" not in ids(recommended(managed))
    response = add(managed, like("n1", "i3", metadata={"title": "New", "price": 2}))
    assert (response.status_code, response.json()["added"]) == (200, 1)
    assert response.json()["model"] == {"name": "tiny", "version": "v2"}
    answer = recommended(managed)
    assert scores(answer)["n1"] == scores(answer)["i3"]
    assert len(answer["items"]) == 13
    [item] = [item for item in answer["items"] if item["item_id"] == "n1"]
    assert item["metadata"] == {"title": "New", "price": 2.0}
    described = managed.get("/model").json()
    assert (described["added_items"], described["sizes"]["num_items"]) == (1, 12)
    assert "recjpq_added_items 1.0" in managed.get("/metrics").text


def test_an_added_item_is_understood_in_a_history_and_excluded(managed):
    before = recommended(managed, history=["i3"])
    add(managed, like("n1", "i3"))
    answer = recommended(managed, history=["n1"])
    assert answer["history"]["unknown_items"] == []
    assert {k: v for k, v in scores(answer).items() if k != "n1"} == scores(before)
    assert "n1" not in ids(recommended(managed, history=["n1"], exclude_seen=True))
    assert "n1" not in ids(recommended(managed, exclude=["n1"]))
    assert ids(recommended(managed, candidates=["n1", "i2"])) in (["n1", "i2"], ["i2", "n1"])


def test_given_codes_are_taken(managed, two_models):
    codes = np.load(two_models / "v2" / "item_codes.npy")[5].tolist()
    assert add(managed, {"item_id": "n1", "codes": codes}, model_version="v2").status_code == 200
    answer = recommended(managed)
    assert scores(answer)["n1"] == scores(answer)["i5"]
    refused = add(managed, {"item_id": "n2", "codes": codes}, model_version="v1")
    assert problem(refused) == (409, "version-mismatch")


def test_weights_are_those_of_the_similar_items(managed, two_models):
    codes = np.load(two_models / "v2" / "item_codes.npy")
    expected = codes_from_similar(codes, np.array([1, 2, 7]), np.array([1.0, 0.4, 0.7]))
    add(managed, like("n1", "i1", "nowhere", "i2", "i7", weights=[1, 5, 0.4, 0.7]))
    add(managed, {"item_id": "n2", "codes": expected.tolist()})
    answer = recommended(managed)
    assert scores(answer)["n1"] == scores(answer)["n2"]


def test_added_items_are_filtered_by_what_they_were_given(managed):
    add(managed, like("n1", "i3", metadata={"price": 100}), like("n2", "i3"))
    assert ids(recommended(managed, filters={"price": {"min": 50}})) == ["n1"]
    assert set(ids(recommended(managed, filters={"title": {"none": ["Title 1"]}}))) >= {"n1", "n2"}
    add(managed, like("n3", "i3", metadata={"price": 70}))
    assert set(ids(recommended(managed, filters={"price": {"min": 50}}))) == {"n1", "n3"}
    assert ids(recommended(managed, filters={"price": {"min": 50}}, history=[])) == ["n1", "n3"]


def test_added_items_are_the_least_popular(managed):
    before = ids(recommended(managed, history=[]))
    add(managed, like("n1", "i3"))
    answer = recommended(managed, history=[])
    assert ids(answer) == [*before, "n1"]
    assert scores(answer)["n1"] == 0


def test_ids_that_exist_are_named_and_nothing_is_added(managed):
    assert add(managed, like("n1", "i3")).json()["added"] == 1
    refused = add(managed, like("n2", "i3"), like("i7", "i3"), like("n1", "i4"))
    assert problem(refused) == (409, "items-exist")
    assert "i7, n1" in refused.json()["detail"]
    assert "n2" not in ids(recommended(managed))


def test_repeating_a_request_changes_nothing(managed, managed_settings):
    items = [like("n1", "i3", metadata={"title": "New"}), {"item_id": "n2", "codes": [0, 1]}]
    assert add(managed, *items).json()["added"] == 2
    journal = (managed_settings.state_path / "items.jsonl").read_bytes()
    again = add(managed, *items, like("n3", "i1"))
    assert (again.json()["added"], again.json()["unchanged"]) == (1, 2)
    assert add(managed, *items).json()["unchanged"] == 2
    assert (managed_settings.state_path / "items.jsonl").read_bytes().startswith(journal)
    assert len(recommended(managed)["items"]) == 15


@pytest.mark.parametrize(
    ("item", "pointer"),
    [
        ({"item_id": "n2", "codes": [0]}, "/items/1/codes"),
        ({"item_id": "n2", "codes": [0, 4]}, "/items/1/codes"),
        ({"item_id": "n2", "codes": [0, 256]}, "/items/1/codes/1"),
        ({"item_id": "n2", "codes": [0, -1]}, "/items/1/codes/1"),
        (like("n2", "nowhere"), "/items/1/similar"),
        (like("n2"), "/items/1/similar"),
        (like("n2", "i1", weights=[1, 2]), "/items/1"),
        (like("n2", "i1", weights=[-1]), "/items/1/weights/0"),
        (like("n2", "i1", codes=[0, 1]), "/items/1"),
        ({"item_id": "n2"}, "/items/1"),
        (like("n1", "i1"), "/items/1/item_id"),
        (like("", "i1"), "/items/1/item_id"),
        (like("n2", "i1", metadata={"colour": "red"}), "/items/1/metadata/colour"),
        (like("n2", "i1", metadata={"a/b~": "red"}), "/items/1/metadata/a~1b~0"),
        (like("n2", "i1", metadata={"price": "cheap"}), "/items/1/metadata/price"),
        (like("n2", "i1", metadata={"price": True}), "/items/1/metadata/price"),
        (like("n2", "i1", metadata={"title": 3}), "/items/1/metadata/title"),
        (like("n2", "i1", metadata={"title": ["a"]}), "/items/1/metadata/title"),
        (like("n2", "i1", metadata={"title": {"a": "b"}}), "/items/1/metadata/title"),
    ],
)
def test_what_is_wrong_with_an_item_is_told_and_nothing_is_added(managed, item, pointer, managed_settings):
    response = add(managed, like("n1", "i3"), item)
    assert problem(response) == (422, "invalid-request")
    assert [wrong["pointer"] for wrong in response.json()["errors"]] == [pointer]
    assert "n1" not in ids(recommended(managed))
    assert not (managed_settings.state_path / "items.jsonl").exists()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_json_has_no_number_for_is_no_metadata(managed, number):
    body = '{"items": [{"item_id": "n1", "similar": ["i1"], "metadata": {"price": %s}}]}' % number  # noqa: UP031
    response = managed.post("/items", content=body, headers=HEADERS)
    assert problem(response) == (422, "invalid-request")
    assert [wrong["pointer"] for wrong in response.json()["errors"]] == ["/items/0/metadata/price"]


def test_the_limit_of_a_request(managed_settings, open_client):
    managed = open_client(create_app(managed_settings.model_copy(update={"max_new_items": 2})))
    response = add(managed, *(like(f"n{number}", "i1") for number in range(3)))
    assert response.json()["errors"] == [{"detail": "Found 3, the limit is 2", "pointer": "/items"}]


def test_a_retired_item_is_recommended_no_more_but_understood(managed):
    add(managed, like("n1", "i3"))
    before = scores(recommended(managed, history=["i3"]))
    for item_id in ("i3", "n1"):
        assert retire(managed, item_id).status_code == 204
        assert retire(managed, item_id).status_code == 204
    answer = recommended(managed, history=["i3"])
    assert set(ids(answer)) == set(before) - {"i3", "n1"}
    assert answer["history"]["unknown_items"] == []
    assert not {"i3", "n1"} & set(ids(recommended(managed, history=[])))
    assert not {"i3", "n1"} & set(ids(recommended(managed, candidates=["i3", "n1"])))
    popular = recommended(managed, history=[], filters={"title": {"any": ["Title 3", "Title 4"]}})
    assert ids(popular) == ["i4"]
    assert problem(retire(managed, "nowhere")) == (404, "item-not-found")
    assert managed.get("/model").json()["retired_items"] == 2
    assert "recjpq_model_items 11.0" in managed.get("/metrics").text


def test_a_retired_item_comes_back_when_it_is_added_again(managed, managed_settings, open_client):
    before = scores(recommended(managed))
    retire(managed, "i3")
    assert add(managed, like("i3", "i3", metadata={"title": "Back"})).json()["added"] == 1
    assert add(managed, like("i3", "i3", metadata={"title": "Back"})).json()["unchanged"] == 1
    for each in (managed, open_client(create_app(managed_settings))):
        assert scores(recommended(each)) == before
        [item] = [item for item in recommended(each)["items"] if item["item_id"] == "i3"]
        assert item["metadata"] == {"title": "Back", "price": None}
        assert "i3" not in ids(recommended(each, history=["i3"], exclude_seen=True))
