"""Items like an item."""

import json

import numpy as np
import pytest

from service.app import create_app
from tests.service.administration import HEADERS, add, like, problem, retire, scores


def sub_embeddings(two_models):
    return np.load(two_models / "v2" / "sub_embeddings.npy")


def expected_similarity(two_models, a, b):
    codes, embeddings = np.load(two_models / "v2" / "item_codes.npy"), sub_embeddings(two_models)
    cosines = []
    for split in range(codes.shape[1]):
        x, y = embeddings[split, codes[a, split]], embeddings[split, codes[b, split]]
        cosines.append(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
    return np.mean(cosines)


def test_similar_items_are_those_of_the_mean_cosine(managed, two_models):
    response = managed.get("/items/i3/similar", params={"k": 20})
    assert response.status_code == 200
    answer = response.json()
    assert (answer["item_id"], answer["exhausted"]) == ("i3", True)
    expected = {f"i{b}": expected_similarity(two_models, 3, b) for b in range(12) if b != 3}
    assert scores(answer) == pytest.approx(expected, abs=1e-6)
    assert list(scores(answer).values()) == sorted(scores(answer).values(), reverse=True)
    assert [item["rank"] for item in answer["items"]] == list(range(1, 12))
    assert answer["items"][0]["metadata"]["title"].startswith("Title ")
    assert "score" in response.headers["server-timing"]


def test_similar_items_may_be_kept_until_the_catalogue_or_the_model_changes(managed):
    def ask(etag):
        return managed.get("/items/i3/similar", headers={"If-None-Match": etag})

    first = managed.get("/items/i3/similar")
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "public, no-cache"
    for same in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = ask(same)
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
    assert ask('"other"').status_code == 200
    add(managed, like("n1", "i3"))
    response = ask(etag)
    assert response.status_code == 200
    assert scores(response.json())["n1"] == pytest.approx(1, abs=1e-6)
    etag = response.headers["etag"]
    managed.post("/admin/models/v1/activate", headers=HEADERS)
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
def test_similar_items_that_there_are_not(managed, path, expected):
    assert problem(managed.get(path)) == expected


def test_an_artifact_without_sub_embeddings_says_to_export_it_again(
    managed, two_models, managed_settings, open_client
):
    manifest = json.loads((two_models / "v2" / "manifest.json").read_text())
    del manifest["files"]["sub_embeddings.npy"]
    (two_models / "v2" / "manifest.json").write_text(json.dumps(manifest))
    (two_models / "v2" / "sub_embeddings.npy").unlink()
    response = open_client(create_app(managed_settings)).get("/items/i3/similar")
    assert problem(response) == (404, "no-similar-items")
    assert "export the model again" in response.json()["detail"]


def test_an_id_may_hold_a_slash(managed):
    assert add(managed, like("a/b/similar", "i3")).json()["added"] == 1
    assert managed.get("/items/a/b/similar/similar").json()["item_id"] == "a/b/similar"
    assert retire(managed, "a/b/similar").status_code == 204
