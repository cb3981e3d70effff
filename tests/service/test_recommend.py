"""What `POST /recommend` answers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from recjpq.artifact import load_artifact
from recjpq.scoring import TopK, load_scorer
from service.app import create_app

ALL_ITEMS = [f"i{index}" for index in range(12)]


def recommend(client: Any, **body: Any) -> dict[str, Any]:
    response = client.post("/recommend", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


@pytest.fixture(scope="module")
def specification(artifact: Path) -> Any:
    """The NumPy scorer on the tables that ONNX Runtime gives, with no part of the service between."""
    codes = load_artifact(artifact).catalogue.item_codes
    session = onnxruntime.InferenceSession(artifact / "encoder.onnx", providers=["CPUExecutionProvider"])

    def best(history: list[int], k: int, exclude: list[int]) -> TopK:
        inputs = {"item_codes": codes[history][None], "lengths": np.array([len(history)])}
        tables = session.run(["score_tables"], inputs)[0]
        return load_scorer(codes, "numpy").top_k(tables, k, exclude=[np.array(exclude, dtype=np.int32)])[0]

    return best


@pytest.mark.parametrize("history", [[3], [0, 1, 2], [2, 1, 0], [4, 4, 4, 9], [1, 2, 3, 4, 5, 6, 7]])
def test_answers_exactly_as_the_specification(shared_client, specification, history):
    answer = recommend(shared_client, history=[f"i{index}" for index in history], k=6)
    best = specification(history[-5:], 6, history)
    assert ids(answer) == [f"i{index}" for index in best.ids]
    assert [item["score"] for item in answer["items"]] == best.scores.tolist()
    assert [item["rank"] for item in answer["items"]] == list(range(1, len(best.ids) + 1))
    assert answer["history"] == {
        "source": "request", "used": min(5, len(history)), "received": len(history), "unknown_items": []
    }  # fmt: skip


def test_shape_of_the_answer(shared_client):
    response = shared_client.post("/recommend", json={"history": ["i1", "nope", "i2"], "k": 2})
    answer = response.json()
    assert list(answer) == [
        "request_id", "items", "strategy", "exhausted", "degraded", "model", "history"
    ]  # fmt: skip
    assert answer["request_id"] == response.headers["x-request-id"]
    assert answer["model"] == {"name": "tiny", "version": "v1"}
    assert (answer["strategy"], answer["exhausted"], answer["degraded"]) == ("model", False, [])
    assert answer["history"]["unknown_items"] == ["nope"]
    first = answer["items"][0]
    assert set(first) == {"item_id", "rank", "score", "metadata"}
    assert first["metadata"]["title"] == f"Title {first['item_id'][1:]}"


@pytest.mark.parametrize(
    ("include", "fields"),
    [([], set()), (["scores"], {"score"}), (["metadata"], {"metadata"})],
)
def test_include_chooses_the_fields(shared_client, include, fields):
    item = recommend(shared_client, history=["i1"], k=1, include=include)["items"][0]
    assert set(item) == {"item_id", "rank"} | fields


def test_a_missing_metadata_value_is_null(shared_client):
    items = recommend(shared_client, history=["i1"], k=12)["items"]
    assert {item["item_id"]: item["metadata"]["price"] for item in items}["i0"] is None


def test_seen_items_are_left_out_unless_asked_for(shared_client):
    history = ["i0", "i1", "i2"]
    assert set(ids(recommend(shared_client, history=history, k=12))) == set(ALL_ITEMS) - set(history)
    assert set(ids(recommend(shared_client, history=history, k=12, exclude_seen=False))) == set(ALL_ITEMS)


def test_seen_items_before_the_window_are_left_out_too(shared_client):
    history = ALL_ITEMS[:9]  # the window is 5
    answer = recommend(shared_client, history=history, k=12)
    assert set(ids(answer)) == {"i9", "i10", "i11"}
    assert answer["exhausted"] is True


def test_excluded_items_are_left_out(shared_client):
    answer = recommend(shared_client, history=["i0"], exclude=["i3", "i4", "never heard of"], k=12)
    assert set(ids(answer)) == set(ALL_ITEMS) - {"i0", "i3", "i4"}


@pytest.mark.parametrize("history", [["i0"], []])
def test_everything_excluded_gives_an_empty_exhausted_answer(shared_client, history):
    answer = recommend(shared_client, history=history, exclude=ALL_ITEMS)
    assert (answer["items"], answer["exhausted"]) == ([], True)


@pytest.mark.parametrize("history", [["i0"], []])
def test_k_beyond_the_catalogue_gives_all_of_it(shared_client, history):
    answer = recommend(shared_client, history=history, k=1000, exclude_seen=False)
    assert (len(answer["items"]), answer["exhausted"]) == (12, True)


@pytest.mark.parametrize("history", [[], ["nope"], ["nope", "nor this", "nope"]])
def test_nothing_known_gives_popular_items(shared_client, history):
    answer = recommend(shared_client, history=history, k=3)
    assert answer["strategy"] == "popular"
    assert [(item["item_id"], item["score"]) for item in answer["items"]] == [
        ("i5", 11), ("i10", 10), ("i3", 9)
    ]  # fmt: skip
    assert answer["history"] == {
        "source": "request", "used": 0, "received": len(history),
        "unknown_items": list(dict.fromkeys(history)),
    }  # fmt: skip


def test_popular_items_respect_exclude(shared_client):
    assert ids(recommend(shared_client, history=[], k=2, exclude=["i5", "i3"])) == ["i10", "i8"]


def test_nothing_known_and_no_fallback_is_not_found(shared_client):
    response = shared_client.post("/recommend", json={"history": ["nope"], "fallback": "none"})
    assert response.status_code == 404
    assert response.json()["type"] == "urn:recjpq:problem:no-history"


def test_ten_thousand_entries_are_accepted(shared_client):
    history = ["i1", "i2"] * 5000
    answer = recommend(shared_client, history=history, k=12)
    assert (answer["history"]["received"], answer["history"]["used"]) == (10_000, 5)
    assert set(ids(answer)) == set(ALL_ITEMS) - {"i1", "i2"}
    timed = [{"item_id": item, "timestamp": "2026-11-20T10:00:00.000Z"} for item in history]
    assert ids(recommend(shared_client, history=timed, k=12)) == ids(answer)


def test_entries_are_ordered_by_time_if_all_have_one(shared_client):
    def at(item: str, second: int) -> dict[str, str]:
        return {"item_id": item, "timestamp": f"2026-11-20T10:00:{second:02}Z"}

    def answer(*history: Any) -> Any:
        return recommend(shared_client, history=list(history), k=12)["items"]

    in_order = answer("i1", "i2", "i3")
    assert answer(at("i3", 9), at("i1", 1), at("i2", 5)) == in_order
    assert answer(at("i3", 9), at("i1", 5), at("i2", 5)) == in_order  # equal times: as given
    assert answer(at("i3", 9), "i1", at("i2", 5)) == answer("i3", "i1", "i2") != in_order  # one has none


def test_offsets_of_timestamps_count(shared_client):
    early = {"item_id": "i1", "timestamp": "2026-11-20T12:00:00+05:00"}
    late = {"item_id": "i2", "timestamp": "2026-11-20T08:00:00Z"}
    expected = recommend(shared_client, history=["i1", "i2"], k=12)["items"]
    assert recommend(shared_client, history=[late, early], k=12)["items"] == expected


def test_stored_history_comes_before_the_requests(shared_client):
    shared_client.post("/users/u1/events", json={"events": [{"item_id": "i1"}, {"item_id": "i2"}]})
    stored = recommend(shared_client, user_id="u1", k=12)
    assert stored["items"] == recommend(shared_client, history=["i1", "i2"], k=12)["items"]
    assert stored["history"]["source"] == "store"
    both = recommend(shared_client, user_id="u1", history=["i3"], k=12)
    assert both["items"] == recommend(shared_client, history=["i1", "i2", "i3"], k=12)["items"]
    assert (both["history"]["source"], both["history"]["received"]) == ("both", 3)
    assert recommend(shared_client, user_id="u1", k=12)["items"] == stored["items"]  # nothing was added


def test_a_user_never_seen_gets_popular_items(shared_client):
    answer = recommend(shared_client, user_id="nobody")
    assert (answer["strategy"], answer["history"]["source"]) == ("popular", "store")


def filtered(client: Any, **filters: Any) -> dict[str, Any]:
    return recommend(client, history=["i1", "i2"], exclude_seen=False, k=12, filters=filters)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"price": {"min": 3, "max": 5}}, {"i3", "i4", "i5"}),
        ({"title": {"any": ["Title 7", "Title 2"]}}, {"i7", "i2"}),
        ({"title": {"none": ["Title 0"]}}, set(ALL_ITEMS) - {"i0"}),
        ({"price": {"any": [1, 2.0, 2.5]}, "title": {"none": ["Title 2"]}}, {"i1"}),
        ({"price": {"none": [1]}}, set(ALL_ITEMS) - {"i1"}),  # i0 has no price, and so not that one
        ({"title": {"any": ["no such title"]}}, set()),
    ],
)
def test_filters_choose_who_is_eligible(shared_client, filters, expected):
    answer = filtered(shared_client, **filters)
    assert set(ids(answer)) == expected
    everyone = recommend(shared_client, history=["i1", "i2"], exclude_seen=False, k=12)
    assert ids(answer) == [item for item in ids(everyone) if item in expected]
    assert answer["exhausted"] is (len(expected) < 12)


def test_as_many_as_are_eligible_come_whatever_the_filter(shared_client):
    best = recommend(shared_client, history=["i1", "i2"], k=12)
    worst = ids(best)[-3:]
    titles = [f"Title {item[1:]}" for item in worst]
    answer = recommend(shared_client, history=["i1", "i2"], k=3, filters={"title": {"any": titles}})
    assert ids(answer) == worst
    assert answer["exhausted"] is False


def test_candidates_are_ranked_and_nothing_else(shared_client):
    everyone = ids(recommend(shared_client, history=["i1", "i2"], exclude_seen=False, k=12))
    wanted = ["i9", "i1", "i4", "unknown", "i9"]
    answer = recommend(shared_client, history=["i1", "i2"], exclude_seen=False, k=12, candidates=wanted)
    assert ids(answer) == [item for item in everyone if item in wanted]
    assert ids(recommend(shared_client, history=["i1", "i2"], candidates=wanted)) == [
        item for item in everyone if item in {"i9", "i4"}
    ]
    both = recommend(shared_client, history=["i2"], candidates=wanted, filters={"price": {"max": 4}})
    assert set(ids(both)) == {"i1", "i4"}
    assert ids(recommend(shared_client, history=["i2"], candidates=[])) == []


def test_popular_items_obey_candidates_and_filters(shared_client):
    popular = ids(recommend(shared_client, history=[], k=12))
    answer = recommend(shared_client, history=[], k=3, filters={"price": {"max": 6}}, exclude=["i5"])
    assert (ids(answer), answer["strategy"]) == (
        [item for item in popular if item in {"i1", "i2", "i3", "i4", "i6"}][:3], "popular"
    )  # fmt: skip
    answer = recommend(shared_client, history=[], candidates=["i3", "i8", "i0"], k=2)
    assert ids(answer) == [item for item in popular if item in {"i3", "i8", "i0"}][:2]
    assert [item["score"] for item in answer["items"]] == [9.0, 8.0]


@pytest.mark.parametrize(
    ("filters", "pointer"),
    [
        ({"colour": {"any": ["red"]}}, "/filters/colour"),
        ({"price": {"any": ["cheap"]}}, "/filters/price"),
        ({"title": {"min": 3}}, "/filters/title"),
        ({"title": {"any": []}}, "/filters/title/any"),
        ({"title": {"some": ["x"]}}, "/filters/title/some"),
        ({"title": {"any": [None]}}, None),
        ({"title": ["x"]}, "/filters/title"),
        ({"title": {"any": ["x"] * 2000}}, "/filters"),
        ({"a/b~c": {"any": ["x"]}}, "/filters/a~1b~0c"),
    ],
)
def test_filters_that_cannot_be_met_are_422(shared_client, filters, pointer):
    response = shared_client.post("/recommend", json={"history": ["i1"], "filters": filters})
    assert response.status_code == 422
    if pointer:
        assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


def test_an_explanation_names_what_contributed(shared_client):
    answer = recommend(shared_client, history=["i1", "i2", "i3"], k=4, include=["explanation", "scores"])
    whole = {item["item_id"]: item for item in answer["items"]}
    assert any(item["explanation"] for item in whole.values())
    for item in whole.values():
        contributions = [one["contribution"] for one in item["explanation"]]
        assert contributions == sorted(contributions, reverse=True)
        assert all(value > 0 for value in contributions)
        assert {one["item_id"] for one in item["explanation"]} <= {"i1", "i2", "i3"}
    popular = recommend(shared_client, history=[], k=2, include=["explanation"])
    assert [item["explanation"] for item in popular["items"]] == [[], []]


def test_a_passed_deadline_is_504(settings, open_client):
    client = open_client(create_app(settings.model_copy(update={"request_timeout_s": 1e-9})))
    response = client.post("/recommend", json={"history": ["i1"]})
    assert (response.status_code, response.json()["type"]) == (504, "urn:recjpq:problem:deadline")
    assert recommend(client, history=[])["strategy"] == "popular"  # nothing had to wait


@pytest.mark.parametrize("timeout_ms", [60_000, 10**400])
def test_a_generous_timeout_changes_nothing(shared_client, timeout_ms):
    assert len(recommend(shared_client, history=["i1"], timeout_ms=timeout_ms)["items"]) == 10


def test_popular_items_that_must_be_looked_for_have_a_deadline_too(settings, open_client):
    client = open_client(create_app(settings.model_copy(update={"request_timeout_s": 1e-9})))
    response = client.post("/recommend", json={"history": [], "filters": {"price": {"max": 3}}})
    assert response.status_code == 504
