"""Items added and retired outlive the process, and reach the others."""

import hashlib
import json
import os
import signal
import threading

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.app import create_app
from service.errors import StateError
from tests.service.administration import (
    ADMIN_KEY,
    EVERYTHING,
    HEADERS,
    add,
    ids,
    like,
    problem,
    recommended,
    retire,
    scores,
)


def test_items_survive_a_restart(managed, managed_settings, open_client):
    add(managed, like("n1", "i3", metadata={"title": "New"}), {"item_id": "n2", "codes": [0, 1]})
    add(managed, like("n3", "n2"))
    retire(managed, "i5")
    again = open_client(create_app(managed_settings))
    assert recommended(again)["items"] == recommended(managed)["items"]
    assert recommended(again, history=[])["items"] == recommended(managed, history=[])["items"]


def test_another_version_gets_the_items_that_it_can_have(managed, make_artifact, two_models):
    add(managed, like("n1", "i3", metadata={"title": "New"}), {"item_id": "n2", "codes": [0, 1]})
    retire(managed, "i5")
    assert managed.post("/admin/models/v1/activate", headers=HEADERS).status_code == 200
    answer = recommended(managed)
    assert answer["model"]["version"] == "v1"
    assert scores(answer)["n1"] == scores(answer)["i3"]
    assert not {"n2", "i5"} & set(ids(answer))
    # Its codes of this version may now be given.
    assert add(managed, {"item_id": "n2", "codes": [1, 1]}).json()["added"] == 1
    assert "n2" in ids(recommended(managed))
    managed.post("/admin/rollback", headers=HEADERS)
    assert {"n1", "n2"} <= set(ids(recommended(managed)))


def test_where_the_artifact_has_the_item_its_own_stays(managed, two_models, managed_settings, open_client):
    add(managed, like("n1", "i3", metadata={"title": "Added"}))
    path = two_models / "v2"
    items = pq.read_table(path / "items.parquet")
    renamed = ["n1" if item_id == "i9" else item_id for item_id in items["item_id"].to_pylist()]
    pq.write_table(items.set_column(0, "item_id", pa.array(renamed)), path / "items.parquet")
    manifest = json.loads((path / "manifest.json").read_text())
    content = (path / "items.parquet").read_bytes()
    manifest["files"]["items.parquet"] |= {
        "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)
    }  # fmt: skip
    (path / "manifest.json").write_text(json.dumps(manifest))
    answer = recommended(open_client(create_app(managed_settings)))
    [item] = [item for item in answer["items"] if item["item_id"] == "n1"]
    assert item["metadata"]["title"] == "Title 9"
    assert len(answer["items"]) == 12


def test_other_processes_follow(managed, managed_settings, open_client, eventually):
    other = open_client(create_app(managed_settings))
    add(managed, like("n1", "i3"))
    eventually(lambda: "n1" in ids(recommended(other)))
    assert "recjpq_added_items 1.0" in other.get("/metrics").text
    add(other, like("n2", "n1"))
    retire(other, "n1")
    eventually(lambda: ids(recommended(managed)) == ids(recommended(other)))
    assert "n2" in ids(recommended(managed))


def test_two_processes_that_add_the_same_id_agree(managed, managed_settings, open_client):
    """The second has not yet followed the first when it is asked."""
    other = open_client(create_app(managed_settings))
    assert add(managed, like("n1", "i3")).json()["added"] == 1
    assert problem(add(other, like("n1", "i4"))) == (409, "items-exist")
    assert add(other, like("n1", "i3")).json()["unchanged"] == 1


def test_a_line_that_was_never_whole_is_passed_over_and_then_taken_away(
    managed, managed_settings, open_client
):
    add(managed, like("n1", "i3"))
    journal = managed_settings.state_path / "items.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[: len(whole) // 2])
    again = open_client(create_app(managed_settings))
    assert ids(recommended(again)).count("n1") == 1
    assert add(again, like("n2", "i4")).json()["added"] == 1
    lines = journal.read_bytes()
    assert lines.startswith(whole)
    assert [json.loads(line)["add"][0]["item_id"] for line in lines.splitlines()] == ["n1", "n2"]


def test_a_journal_that_is_none_ends_the_start(managed_settings, runner):
    managed_settings.state_path.mkdir()
    (managed_settings.state_path / "items.jsonl").write_text('{"at": "2026", "add": []}\nnonsense\n')
    app = create_app(managed_settings)
    with pytest.raises(StateError, match=r"items\.jsonl: line 2 is not a change of items"):
        runner.run(app.router.lifespan_context(app).__aenter__())


def test_what_cannot_be_written_down_is_refused_and_not_served(managed, managed_settings, monkeypatch):
    add(managed, like("n1", "i3"))
    journal = managed_settings.state_path / "items.jsonl"
    whole = journal.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("service.lifecycle.journal.os.fsync", full)
    assert problem(add(managed, like("n2", "i3"))) == (503, "state-unavailable")
    monkeypatch.undo()
    assert journal.read_bytes() == whole
    assert "n2" not in ids(recommended(managed))
    assert add(managed, like("n2", "i3")).json()["added"] == 1


def test_an_acknowledged_item_survives_kill_9_and_a_repeat_is_harmless(start_service, two_models, tmp_path):
    """Two writers add until the process is killed among them, with a request written and not yet answered."""
    service = start_service(model_path=two_models, admin_key=ADMIN_KEY)
    acknowledged: list[set[str]] = [set(), set()]
    attempted: list[list[str]] = [[], []]
    enough = threading.Semaphore(0)

    def write(writer):
        with httpx.Client(base_url=service.url, timeout=20) as managed:
            for number in range(100_000):
                item_id = f"n{writer}-{number}"
                attempted[writer].append(item_id)
                try:
                    response = add(managed, like(item_id, "i3"))
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

    again = start_service(model_path=two_models, admin_key=ADMIN_KEY)
    with httpx.Client(base_url=again.url, timeout=20) as managed:
        known = set(ids(recommended(managed, k=1000)))
        assert acknowledged[0] | acknowledged[1] <= known
        for items in attempted:
            result = add(managed, *(like(item_id, "i3") for item_id in items)).json()
            assert result["added"] + result["unchanged"] == len(items)
        everything = ids(recommended(managed, k=1000))
    assert len(everything) == len(set(everything)) == 12 + sum(map(len, attempted))


def test_items_added_and_retired_under_load_fail_no_request(start_service, two_models):
    service = start_service(model_path=two_models, admin_key=ADMIN_KEY)
    done = threading.Event()
    failures: list[str] = []

    def ask():
        with httpx.Client(base_url=service.url, timeout=20) as managed:
            while not done.is_set():
                for question in (
                    {},
                    {"history": []},
                    {"filters": {"price": {"min": 3}}},
                    {"exclude": ["n5"]},
                ):
                    response = managed.post("/recommend", json=EVERYTHING | question)
                    if response.status_code != 200:
                        failures.append(response.text)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with httpx.Client(base_url=service.url, timeout=20) as managed:
            for number in range(60):
                assert add(managed, like(f"n{number}", "i3", metadata={"price": number})).status_code == 200
                if number % 3 == 0:
                    assert retire(managed, f"n{number}").status_code == 204
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_scorer_that_could_not_grow_gives_no_item_another_s_index(managed, monkeypatch, eventually):
    scorer = managed.app.state.serving.recommender.model.scorer
    append, failures = scorer.append, [MemoryError("no room")]

    def grow(codes):
        if failures:
            raise failures.pop()
        return append(codes)

    monkeypatch.setattr(type(scorer), "append", lambda self, codes: grow(codes))
    assert add(managed, like("n1", "i3", metadata={"title": "One"})).status_code == 500
    assert add(managed, like("n2", "i4", metadata={"title": "Two"})).status_code == 200
    eventually(lambda: {"n1", "n2"} <= set(ids(recommended(managed))))
    titles = {item["item_id"]: item["metadata"]["title"] for item in recommended(managed)["items"]}
    assert (titles["n1"], titles["n2"]) == ("One", "Two")
    assert scores(recommended(managed))["n1"] == pytest.approx(scores(recommended(managed))["i3"])
    assert scores(recommended(managed))["n2"] == pytest.approx(scores(recommended(managed))["i4"])
