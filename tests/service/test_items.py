"""Items added to the served catalogue and retired from it, and items like an item."""

import hashlib
import json
import os
import signal
import threading

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from recjpq.new_items import codes_from_similar
from service.app import create_app
from service.errors import StateError

HEADERS = {"X-API-Key": "admin-key-1"}
EVERYTHING = {"history": ["i1", "i4"], "k": 100, "exclude_seen": False}


@pytest.fixture
def versions(make_artifact, tmp_path):
    directory = tmp_path / "versions"
    for seed, version in enumerate(("v1", "v2")):
        make_artifact(directory, version, seed=seed)
    return directory


@pytest.fixture
def own_settings(settings, versions):
    changes = {"admin_key": SecretStr("admin-key-1"), "model_path": str(versions)}
    return settings.model_copy(update=changes)


@pytest.fixture
def client(own_settings, open_client):
    return open_client(create_app(own_settings))


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


def test_an_added_item_is_recommended_like_those_it_is_like_and_described(client):
    assert "n1" not in ids(recommended(client))
    response = add(client, like("n1", "i3", metadata={"title": "New", "price": 2}))
    assert (response.status_code, response.json()["added"]) == (200, 1)
    assert response.json()["model"] == {"name": "tiny", "version": "v2"}
    answer = recommended(client)
    assert scores(answer)["n1"] == scores(answer)["i3"]
    assert len(answer["items"]) == 13
    [item] = [item for item in answer["items"] if item["item_id"] == "n1"]
    assert item["metadata"] == {"title": "New", "price": 2.0}
    described = client.get("/model").json()
    assert (described["added_items"], described["sizes"]["num_items"]) == (1, 12)
    assert "recjpq_added_items 1.0" in client.get("/metrics").text


def test_an_added_item_is_understood_in_a_history_and_excluded(client):
    before = recommended(client, history=["i3"])
    add(client, like("n1", "i3"))
    answer = recommended(client, history=["n1"])
    assert answer["history"]["unknown_items"] == []
    assert {k: v for k, v in scores(answer).items() if k != "n1"} == scores(before)
    assert "n1" not in ids(recommended(client, history=["n1"], exclude_seen=True))
    assert "n1" not in ids(recommended(client, exclude=["n1"]))
    assert ids(recommended(client, candidates=["n1", "i2"])) in (["n1", "i2"], ["i2", "n1"])


def test_given_codes_are_taken(client, versions):
    codes = np.load(versions / "v2" / "item_codes.npy")[5].tolist()
    assert add(client, {"item_id": "n1", "codes": codes}, model_version="v2").status_code == 200
    answer = recommended(client)
    assert scores(answer)["n1"] == scores(answer)["i5"]
    refused = add(client, {"item_id": "n2", "codes": codes}, model_version="v1")
    assert problem(refused) == (409, "version-mismatch")


def test_weights_are_those_of_the_similar_items(client, versions):
    codes = np.load(versions / "v2" / "item_codes.npy")
    expected = codes_from_similar(codes, np.array([1, 2, 7]), np.array([1.0, 0.4, 0.7]))
    add(client, like("n1", "i1", "nowhere", "i2", "i7", weights=[1, 5, 0.4, 0.7]))
    add(client, {"item_id": "n2", "codes": expected.tolist()})
    answer = recommended(client)
    assert scores(answer)["n1"] == scores(answer)["n2"]


def test_added_items_are_filtered_by_what_they_were_given(client):
    add(client, like("n1", "i3", metadata={"price": 100}), like("n2", "i3"))
    assert ids(recommended(client, filters={"price": {"min": 50}})) == ["n1"]
    assert set(ids(recommended(client, filters={"title": {"none": ["Title 1"]}}))) >= {"n1", "n2"}
    add(client, like("n3", "i3", metadata={"price": 70}))
    assert set(ids(recommended(client, filters={"price": {"min": 50}}))) == {"n1", "n3"}
    assert ids(recommended(client, filters={"price": {"min": 50}}, history=[])) == ["n1", "n3"]


def test_added_items_are_the_least_popular(client):
    before = ids(recommended(client, history=[]))
    add(client, like("n1", "i3"))
    answer = recommended(client, history=[])
    assert ids(answer) == [*before, "n1"]
    assert scores(answer)["n1"] == 0


def test_ids_that_exist_are_named_and_nothing_is_added(client):
    assert add(client, like("n1", "i3")).json()["added"] == 1
    refused = add(client, like("n2", "i3"), like("i7", "i3"), like("n1", "i4"))
    assert problem(refused) == (409, "items-exist")
    assert "i7, n1" in refused.json()["detail"]
    assert "n2" not in ids(recommended(client))


def test_repeating_a_request_changes_nothing(client, own_settings):
    items = [like("n1", "i3", metadata={"title": "New"}), {"item_id": "n2", "codes": [0, 1]}]
    assert add(client, *items).json()["added"] == 2
    journal = (own_settings.state_path / "items.jsonl").read_bytes()
    again = add(client, *items, like("n3", "i1"))
    assert (again.json()["added"], again.json()["unchanged"]) == (1, 2)
    assert add(client, *items).json()["unchanged"] == 2
    assert (own_settings.state_path / "items.jsonl").read_bytes().startswith(journal)
    assert len(recommended(client)["items"]) == 15


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
def test_what_is_wrong_with_an_item_is_told_and_nothing_is_added(client, item, pointer, own_settings):
    response = add(client, like("n1", "i3"), item)
    assert problem(response) == (422, "invalid-request")
    assert [wrong["pointer"] for wrong in response.json()["errors"]] == [pointer]
    assert "n1" not in ids(recommended(client))
    assert not (own_settings.state_path / "items.jsonl").exists()


def test_the_limit_of_a_request(own_settings, open_client):
    client = open_client(create_app(own_settings.model_copy(update={"max_new_items": 2})))
    response = add(client, *(like(f"n{number}", "i1") for number in range(3)))
    assert response.json()["errors"] == [{"detail": "Found 3, the limit is 2", "pointer": "/items"}]


def test_a_retired_item_is_recommended_no_more_but_understood(client):
    add(client, like("n1", "i3"))
    before = scores(recommended(client, history=["i3"]))
    for item_id in ("i3", "n1"):
        assert retire(client, item_id).status_code == 204
        assert retire(client, item_id).status_code == 204
    answer = recommended(client, history=["i3"])
    assert set(ids(answer)) == set(before) - {"i3", "n1"}
    assert answer["history"]["unknown_items"] == []
    assert not {"i3", "n1"} & set(ids(recommended(client, history=[])))
    assert not {"i3", "n1"} & set(ids(recommended(client, candidates=["i3", "n1"])))
    popular = recommended(client, history=[], filters={"title": {"any": ["Title 3", "Title 4"]}})
    assert ids(popular) == ["i4"]
    assert problem(retire(client, "nowhere")) == (404, "item-not-found")
    assert client.get("/model").json()["retired_items"] == 2
    assert "recjpq_model_items 11.0" in client.get("/metrics").text


def test_a_retired_item_comes_back_when_it_is_added_again(client, own_settings, open_client):
    before = scores(recommended(client))
    retire(client, "i3")
    assert add(client, like("i3", "i3", metadata={"title": "Back"})).json()["added"] == 1
    assert add(client, like("i3", "i3", metadata={"title": "Back"})).json()["unchanged"] == 1
    for each in (client, open_client(create_app(own_settings))):
        assert scores(recommended(each)) == before
        [item] = [item for item in recommended(each)["items"] if item["item_id"] == "i3"]
        assert item["metadata"] == {"title": "Back", "price": None}
        assert "i3" not in ids(recommended(each, history=["i3"], exclude_seen=True))


def test_items_survive_a_restart(client, own_settings, open_client):
    add(client, like("n1", "i3", metadata={"title": "New"}), {"item_id": "n2", "codes": [0, 1]})
    add(client, like("n3", "n2"))
    retire(client, "i5")
    again = open_client(create_app(own_settings))
    assert recommended(again)["items"] == recommended(client)["items"]
    assert recommended(again, history=[])["items"] == recommended(client, history=[])["items"]


def test_another_version_gets_the_items_that_it_can_have(client, make_artifact, versions):
    add(client, like("n1", "i3", metadata={"title": "New"}), {"item_id": "n2", "codes": [0, 1]})
    retire(client, "i5")
    assert client.post("/admin/models/v1/activate", headers=HEADERS).status_code == 200
    answer = recommended(client)
    assert answer["model"]["version"] == "v1"
    assert scores(answer)["n1"] == scores(answer)["i3"]
    assert not {"n2", "i5"} & set(ids(answer))
    # Its codes of this version may now be given.
    assert add(client, {"item_id": "n2", "codes": [1, 1]}).json()["added"] == 1
    assert "n2" in ids(recommended(client))
    client.post("/admin/rollback", headers=HEADERS)
    assert {"n1", "n2"} <= set(ids(recommended(client)))


def test_where_the_artifact_has_the_item_its_own_stays(client, versions, own_settings, open_client):
    add(client, like("n1", "i3", metadata={"title": "Added"}))
    path = versions / "v2"
    items = pq.read_table(path / "items.parquet")
    renamed = ["n1" if item_id == "i9" else item_id for item_id in items["item_id"].to_pylist()]
    pq.write_table(items.set_column(0, "item_id", pa.array(renamed)), path / "items.parquet")
    manifest = json.loads((path / "manifest.json").read_text())
    content = (path / "items.parquet").read_bytes()
    manifest["files"]["items.parquet"] |= {
        "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)
    }  # fmt: skip
    (path / "manifest.json").write_text(json.dumps(manifest))
    answer = recommended(open_client(create_app(own_settings)))
    [item] = [item for item in answer["items"] if item["item_id"] == "n1"]
    assert item["metadata"]["title"] == "Title 9"
    assert len(answer["items"]) == 12


def test_other_processes_follow(client, own_settings, open_client, eventually):
    other = open_client(create_app(own_settings))
    add(client, like("n1", "i3"))
    eventually(lambda: "n1" in ids(recommended(other)))
    assert "recjpq_added_items 1.0" in other.get("/metrics").text
    add(other, like("n2", "n1"))
    retire(other, "n1")
    eventually(lambda: ids(recommended(client)) == ids(recommended(other)))
    assert "n2" in ids(recommended(client))


def test_two_processes_that_add_the_same_id_agree(client, own_settings, open_client):
    """The second has not yet followed the first when it is asked."""
    other = open_client(create_app(own_settings))
    assert add(client, like("n1", "i3")).json()["added"] == 1
    assert problem(add(other, like("n1", "i4"))) == (409, "items-exist")
    assert add(other, like("n1", "i3")).json()["unchanged"] == 1


def test_a_line_that_was_never_whole_is_passed_over_and_then_taken_away(client, own_settings, open_client):
    add(client, like("n1", "i3"))
    journal = own_settings.state_path / "items.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[: len(whole) // 2])
    again = open_client(create_app(own_settings))
    assert ids(recommended(again)).count("n1") == 1
    assert add(again, like("n2", "i4")).json()["added"] == 1
    lines = journal.read_bytes()
    assert lines.startswith(whole)
    assert [json.loads(line)["add"][0]["item_id"] for line in lines.splitlines()] == ["n1", "n2"]


def test_a_journal_that_is_none_ends_the_start(own_settings, runner):
    own_settings.state_path.mkdir()
    (own_settings.state_path / "items.jsonl").write_text('{"at": "2026", "add": []}\nnonsense\n')
    app = create_app(own_settings)
    with pytest.raises(StateError, match=r"items\.jsonl: line 2 is not a change of items"):
        runner.run(app.router.lifespan_context(app).__aenter__())


def test_what_cannot_be_written_down_is_refused_and_not_served(client, own_settings, monkeypatch):
    add(client, like("n1", "i3"))
    journal = own_settings.state_path / "items.jsonl"
    whole = journal.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("service.lifecycle.journal.os.fsync", full)
    assert problem(add(client, like("n2", "i3"))) == (503, "state-unavailable")
    monkeypatch.undo()
    assert journal.read_bytes() == whole
    assert "n2" not in ids(recommended(client))
    assert add(client, like("n2", "i3")).json()["added"] == 1


def test_an_acknowledged_item_survives_kill_9_and_a_repeat_is_harmless(start_service, versions, tmp_path):
    """Two writers add until the process is killed among them, with a request written and not yet answered."""
    service = start_service(model_path=versions, admin_key="admin-key-1")
    acknowledged: list[set[str]] = [set(), set()]
    attempted: list[list[str]] = [[], []]
    enough = threading.Semaphore(0)

    def write(writer):
        with httpx.Client(base_url=service.url, timeout=20) as client:
            for number in range(100_000):
                item_id = f"n{writer}-{number}"
                attempted[writer].append(item_id)
                try:
                    response = add(client, like(item_id, "i3"))
                except httpx.TransportError:
                    return
                assert response.status_code == 200
                acknowledged[writer].add(item_id)
                enough.release()

    writers = [threading.Thread(target=write, args=[writer]) for writer in range(2)]
    for writer in writers:
        writer.start()
    for _ in range(50):
        assert enough.acquire(timeout=20)
    os.kill(service.process.pid, signal.SIGKILL)
    for writer in writers:
        writer.join()

    again = start_service(model_path=versions, admin_key="admin-key-1")
    with httpx.Client(base_url=again.url, timeout=20) as client:
        known = set(ids(recommended(client, k=1000)))
        assert acknowledged[0] | acknowledged[1] <= known
        for items in attempted:
            result = add(client, *(like(item_id, "i3") for item_id in items)).json()
            assert result["added"] + result["unchanged"] == len(items)
        everything = ids(recommended(client, k=1000))
    assert len(everything) == len(set(everything)) == 12 + sum(map(len, attempted))


def test_items_added_and_retired_under_load_fail_no_request(start_service, versions):
    service = start_service(model_path=versions, admin_key="admin-key-1")
    done = threading.Event()
    failures: list[str] = []

    def ask():
        with httpx.Client(base_url=service.url, timeout=20) as client:
            while not done.is_set():
                for question in (
                    {},
                    {"history": []},
                    {"filters": {"price": {"min": 3}}},
                    {"exclude": ["n5"]},
                ):
                    response = client.post("/recommend", json=EVERYTHING | question)
                    if response.status_code != 200:
                        failures.append(response.text)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with httpx.Client(base_url=service.url, timeout=20) as client:
            for number in range(60):
                assert add(client, like(f"n{number}", "i3", metadata={"price": number})).status_code == 200
                if number % 3 == 0:
                    assert retire(client, f"n{number}").status_code == 204
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []


def sub_embeddings(versions):
    return np.load(versions / "v2" / "sub_embeddings.npy")


def expected_similarity(versions, a, b):
    codes, embeddings = np.load(versions / "v2" / "item_codes.npy"), sub_embeddings(versions)
    cosines = []
    for split in range(codes.shape[1]):
        x, y = embeddings[split, codes[a, split]], embeddings[split, codes[b, split]]
        cosines.append(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
    return np.mean(cosines)


def test_similar_items_are_those_of_the_mean_cosine(client, versions):
    response = client.get("/items/i3/similar", params={"k": 20})
    assert response.status_code == 200
    answer = response.json()
    assert (answer["item_id"], answer["exhausted"]) == ("i3", True)
    expected = {f"i{b}": expected_similarity(versions, 3, b) for b in range(12) if b != 3}
    assert scores(answer) == pytest.approx(expected, abs=1e-6)
    assert list(scores(answer).values()) == sorted(scores(answer).values(), reverse=True)
    assert [item["rank"] for item in answer["items"]] == list(range(1, 12))
    assert answer["items"][0]["metadata"]["title"].startswith("Title ")
    assert "score" in response.headers["server-timing"]


def test_similar_items_may_be_kept_until_the_catalogue_or_the_model_changes(client):
    def ask(etag):
        return client.get("/items/i3/similar", headers={"If-None-Match": etag})

    first = client.get("/items/i3/similar")
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "public, no-cache"
    for same in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = ask(same)
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
    assert ask('"other"').status_code == 200
    add(client, like("n1", "i3"))
    response = ask(etag)
    assert response.status_code == 200
    assert scores(response.json())["n1"] == pytest.approx(1, abs=1e-6)
    etag = response.headers["etag"]
    client.post("/admin/models/v1/activate", headers=HEADERS)
    response = ask(etag)
    assert response.status_code == 200
    assert response.headers["x-model-version"] == response.json()["model"]["version"] == "v1"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/items/nowhere/similar", (404, "item-not-found")),
        ("/items/i3/similar?k=0", (422, "invalid-request")),
        ("/items/i3/similar?k=1001", (422, "invalid-request")),
        ("/items/i3/similar?k=many", (422, "invalid-request")),
        ("/items/%00/similar", (422, "invalid-request")),
    ],
)
def test_similar_items_that_there_are_not(client, path, expected):
    assert problem(client.get(path)) == expected


def test_an_artifact_without_sub_embeddings_says_to_export_it_again(
    client, versions, own_settings, open_client
):
    manifest = json.loads((versions / "v2" / "manifest.json").read_text())
    del manifest["files"]["sub_embeddings.npy"]
    (versions / "v2" / "manifest.json").write_text(json.dumps(manifest))
    (versions / "v2" / "sub_embeddings.npy").unlink()
    response = open_client(create_app(own_settings)).get("/items/i3/similar")
    assert problem(response) == (404, "no-similar-items")
    assert "export the model again" in response.json()["detail"]


def test_an_id_may_hold_a_slash(client):
    assert add(client, like("a/b/similar", "i3")).json()["added"] == 1
    assert client.get("/items/a/b/similar/similar").json()["item_id"] == "a/b/similar"
    assert retire(client, "a/b/similar").status_code == 204
