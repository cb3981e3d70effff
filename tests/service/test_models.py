"""Versions activated, rolled back and tried beside another, while the service answers."""

import contextlib
import json
import os
import shutil
import signal
import threading

import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from recjpq.errors import ArtifactError
from service.app import create_app
from service.errors import StateError
from service.model import load_model
from tests.service.administration import (
    ADMIN_KEY,
    HEADERS,
    QUESTION,
    activate,
    admin,
    damage,
    scores_of,
    served,
)


def test_the_newest_is_served_until_another_is_activated(managed):
    assert served(managed) == "v2"
    before = admin(managed, "GET", "/admin/models").json()
    assert (before["champion"], before["activated"], before["previous"]) == ("v2", False, None)
    assert [version["version"] for version in before["versions"]] == ["v2", "v1"]
    response = activate(managed, "v1")
    assert response.status_code == 200, response.text
    after = response.json()
    assert (after["champion"], after["activated"], after["previous"]) == ("v1", True, "v2")
    assert after["loaded"] == ["v1", "v2"]
    assert served(managed) == "v1"
    described = managed.get("/model").json()
    assert (described["version"], described["previous"]) == ("v1", "v2")


def test_metrics_name_a_model_once_it_answers(managed, monkeypatch):
    serving, told = managed.app.state.serving, []

    def model_loaded(model, variant):
        told.append((variant, model is serving.recommender.model))

    monkeypatch.setattr(serving.metrics, "model_loaded", model_loaded)
    activate(managed, "v1")
    assert told == [("champion", True)]


def test_a_rollback_brings_the_previous_version_back_and_again_the_later_one(managed):
    refused = admin(managed, "POST", "/admin/rollback")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:recjpq:problem:models-conflict")
    activate(managed, "v1")
    for expected in ("v2", "v1"):
        assert admin(managed, "POST", "/admin/rollback").json()["champion"] == expected
        assert served(managed) == expected


def test_a_rollback_needs_no_loading(managed_settings, open_client):
    loads = []
    managed = open_client(
        create_app(managed_settings, load_model=lambda *at: loads.append(at) or load_model(*at))
    )
    activate(managed, "v1")
    admin(managed, "POST", "/admin/rollback")
    admin(managed, "POST", "/admin/rollback")
    assert [path.name for _, path in loads] == ["v2", "v1"]


def test_activating_what_is_served_keeps_it_after_a_restart(
    managed_settings, open_client, make_artifact, two_models
):
    managed = open_client(create_app(managed_settings))
    assert activate(managed, "v2").json()["activated"]
    make_artifact(two_models, "v3")
    assert served(open_client(create_app(managed_settings))) == "v2"


def test_a_restart_serves_what_was_activated(managed, managed_settings, open_client):
    activate(managed, "v1")
    admin(managed, "PUT", "/admin/challenger", json={"version": "v2", "share": 1})
    again = open_client(create_app(managed_settings))
    assert served(again) == "v1"
    assert served(again, user_id="u1") == "v2"
    assert admin(again, "POST", "/admin/rollback").json()["champion"] == "v2"  # loaded only now


def test_if_the_activated_version_is_gone_the_newest_is_served(
    managed, managed_settings, open_client, two_models, caplog
):
    activate(managed, "v1")
    shutil.rmtree(two_models / "v1")
    assert served(open_client(create_app(managed_settings))) == "v2"
    assert "the activated version 'v1' is gone" in caplog.text


@pytest.mark.parametrize(
    "name",
    [
        "v9",
        "..",
        "%2e%2e",
        "..%2f..%2fetc",
        "%2Fetc%2Fpasswd",
        ".hidden",
        "v1%00",
        "v1/..",
        "x" * 129,
        "v%0a1",
        "é",
    ],
)
def test_a_name_that_is_no_version_is_refused(managed, name):
    response = activate(managed, name)
    assert response.status_code in {404, 405, 422}
    assert response.headers["content-type"] == "application/problem+json"
    response = admin(managed, "PUT", "/admin/challenger", json={"version": name, "share": 0.5})
    assert response.status_code in {404, 422}
    assert served(managed) == "v2"


def test_one_change_at_a_time_and_requests_are_answered_meanwhile(managed_settings, open_client):
    loading, go_on = threading.Event(), threading.Event()

    def load(settings, path):
        if path.name == "v1":
            loading.set()
            assert go_on.wait(20)
        return load_model(settings, path)

    managed = open_client(create_app(managed_settings, load_model=load))
    answers = []

    async def scenario():
        import asyncio

        first = asyncio.create_task(managed.http.post("/admin/models/v1/activate", headers=HEADERS))
        await asyncio.to_thread(loading.wait, 20)
        second = await managed.http.post("/admin/models/v1/activate", headers=HEADERS)
        answers.append((await managed.http.post("/recommend", json=QUESTION)).headers["x-model-version"])
        go_on.set()
        return (await first).status_code, second

    status, second = managed.runner.run(scenario())
    assert (status, second.status_code) == (200, 409)
    assert second.json()["type"] == "urn:recjpq:problem:models-busy"
    assert answers == ["v2"]
    assert served(managed) == "v1"


def test_another_process_that_changes_the_models_is_waited_for(managed, managed_settings):
    from service.lifecycle.durable import locked

    with locked(managed_settings.state_path / ".change.lock"):
        response = activate(managed, "v1")
        assert (response.status_code, response.json()["type"]) == (409, "urn:recjpq:problem:models-busy")
    assert activate(managed, "v1").status_code == 200


def test_processes_follow_each_other(managed, managed_settings, open_client, eventually):
    other = open_client(create_app(managed_settings))
    activate(managed, "v1")
    eventually(lambda: served(other) == "v1")
    assert admin(other, "GET", "/admin/models").json()["previous"] == "v2"
    admin(other, "PUT", "/admin/challenger", json={"version": "v2", "share": 1})
    eventually(lambda: served(managed, user_id="u1") == "v2")
    admin(managed, "POST", "/admin/rollback")  # the challenger becomes champion, and so is no challenger
    eventually(lambda: served(other) == "v2")
    eventually(lambda: served(other, user_id="u1") == "v2")
    assert other.get("/model").json()["challenger"] is None


def test_a_process_that_cannot_follow_goes_on_with_what_it_has(
    managed, managed_settings, open_client, eventually, monkeypatch
):
    monkeypatch.setattr("service.lifecycle.models.RETRY_S", 0)
    works = threading.Event()

    def load(settings, path):
        if path.name == "v1" and not works.is_set():
            raise ArtifactError("not here")
        return load_model(settings, path)

    other = open_client(create_app(managed_settings, load_model=load))
    activate(managed, "v1")
    failed = 'recjpq_model_reloads_total{result="failed"} 0.0'
    eventually(lambda: failed not in other.get("/metrics").text)
    assert served(other) == "v2"
    works.set()
    eventually(lambda: served(other) == "v1")


@pytest.mark.parametrize("change", ["rollback", "activate"])
def test_a_process_that_cannot_follow_can_take_the_change_back(
    managed, managed_settings, open_client, eventually, change
):
    def load(settings, path):
        if path.name == "v1":
            raise ArtifactError("not here")
        return load_model(settings, path)

    other = open_client(create_app(managed_settings, load_model=load))
    activate(managed, "v1")
    ended = admin(other, "DELETE", "/admin/challenger")  # would decide for the others
    assert (ended.status_code, ended.json()["type"]) == (409, "urn:recjpq:problem:models-conflict")
    assert activate(other, "v3").status_code == 404  # and changes nothing
    assert (served(managed), served(other)) == ("v1", "v2")
    response = admin(other, "POST", "/admin/rollback") if change == "rollback" else activate(other, "v2")
    assert (response.status_code, response.json()["champion"]) == (200, "v2")
    eventually(lambda: served(managed) == "v2")


def test_a_state_that_was_damaged_changes_nothing(managed, managed_settings):
    activate(managed, "v1")
    (managed_settings.state_path / "active.json").write_text("{")
    response = admin(managed, "POST", "/admin/rollback")
    assert (response.status_code, response.json()["type"]) == (503, "urn:recjpq:problem:state-unavailable")
    assert served(managed) == "v1"


def test_a_state_that_cannot_be_written_changes_nothing(managed, managed_settings):
    managed_settings.state_path.parent.mkdir(exist_ok=True)
    managed_settings.state_path.write_text("a file where the directory should be")
    response = activate(managed, "v1")
    assert (response.status_code, response.json()["type"]) == (503, "urn:recjpq:problem:state-unavailable")
    assert served(managed) == "v2"


@pytest.mark.parametrize("content", ["", "{", '{"champion": "../v1"}', '{"counter": -1}'])
def test_a_state_that_is_none_ends_the_start(managed_settings, runner, content):
    managed_settings.state_path.mkdir()
    (managed_settings.state_path / "active.json").write_text(content)
    app = create_app(managed_settings)
    with pytest.raises(StateError, match=r"active\.json: not a service's state"):
        runner.run(app.router.lifespan_context(app).__aenter__())


def test_one_artifact_is_one_version(settings, artifact, open_client):
    changes = {"admin_key": SecretStr(ADMIN_KEY), "model_path": str(artifact)}
    managed = open_client(create_app(settings.model_copy(update=changes)))
    assert [v["version"] for v in admin(managed, "GET", "/admin/models").json()["versions"]] == ["v1"]
    assert activate(managed, "v1").status_code == 200
    assert activate(managed, "v2").status_code == 404


def test_swaps_under_load_fail_no_request_and_every_answer_is_of_the_version_it_names(
    start_service, make_artifact, two_models
):
    """Four clients ask without a pause, while versions are activated, refused, rolled back and tried."""
    service = start_service(model_path=two_models, admin_key=ADMIN_KEY)
    damage(make_artifact(two_models, "v3", seed=3))
    url = service.url
    answers: list[list[tuple[int, str, str, list[float]]]] = [[] for _ in range(4)]
    done = threading.Event()

    def ask(number):
        with httpx.Client(base_url=url, timeout=20) as managed:
            while not done.is_set():
                response = managed.post("/recommend", json=QUESTION | {"user_id": f"u{number}"})
                body = response.json()
                scores = [item["score"] for item in body.get("items", ())]
                version = body.get("model", {}).get("version")
                answers[number].append(
                    (response.status_code, response.headers["x-model-version"], version, scores)
                )

    threads = [threading.Thread(target=ask, args=[number]) for number in range(4)]
    with contextlib.ExitStack() as stack, httpx.Client(base_url=url, timeout=60) as managed:
        expected = {"v2": scores_of(managed)}
        stack.callback(lambda: [thread.join() for thread in threads])
        stack.callback(done.set)
        for thread in threads:
            thread.start()
        for _ in range(3):
            assert activate(managed, "v1").status_code == 200
            expected["v1"] = scores_of(managed)
            assert activate(managed, "v3").status_code == 422
            assert (
                admin(managed, "PUT", "/admin/challenger", json={"version": "v2", "share": 0.5}).status_code
                == 200
            )
            assert admin(managed, "POST", "/admin/rollback").status_code == 200
            assert admin(managed, "DELETE", "/admin/challenger").status_code == 204
    everything = [answer for each in answers for answer in each]
    assert not np.allclose(expected["v1"], expected["v2"], atol=0.01)
    assert {answer[:3] for answer in everything} == {(200, "v1", "v1"), (200, "v2", "v2")}
    for _, version, _, scores in everything:
        assert scores == pytest.approx(expected[version], abs=1e-4)


def test_a_killed_process_serves_what_was_activated(start_service, two_models):
    service = start_service(model_path=two_models, admin_key=ADMIN_KEY)
    with httpx.Client(base_url=service.url, timeout=20) as managed:
        assert activate(managed, "v1").status_code == 200
    service.process.kill()
    service.process.wait()
    again = start_service(model_path=two_models, admin_key=ADMIN_KEY)
    with httpx.Client(base_url=again.url, timeout=20) as managed:
        assert served(managed) == "v1"
    [line] = [json.loads(line) for line in again.log.read_text().splitlines() if '"serving"' in line]
    assert line["version"] == "v1"


def test_workers_follow_each_other_and_one_that_is_started_again_joins_them(
    start_service, make_artifact, two_models, eventually
):
    service = start_service(model_path=two_models, admin_key=ADMIN_KEY, workers=2)

    def get(path):
        return httpx.get(
            f"{service.url}{path}", timeout=20
        )  # each on a connection, perhaps a worker, of its own

    def info():
        return {
            line.split('version="')[1][:2]
            for line in get("/metrics").text.splitlines()
            if "_model_info{" in line
        }

    def workers():
        text = service.log.read_text()
        return [
            int(line.split("[")[1].split("]")[0])
            for line in text.splitlines()
            if "Started server process" in line
        ]

    def ready(number):  # the killed ones among them; a worker is counted before it has loaded its model
        complete = service.log.read_text().count("Application startup complete")
        return complete == number and "recjpq_workers 2.0" in get("/metrics").text

    eventually(lambda: ready(2))
    assert info() == {"v2"}
    make_artifact(two_models, "v3")  # newer, and activated by nobody
    os.kill(workers()[0], signal.SIGKILL)
    eventually(lambda: ready(3))
    assert info() == {"v2"}
    with httpx.Client(base_url=service.url, timeout=20) as managed:
        assert activate(managed, "v1").status_code == 200
        added = {"items": [{"item_id": "n1", "similar": ["i3"]}]}
        assert managed.post("/items", json=added, headers=HEADERS).status_code == 200
    eventually(lambda: info() == {"v1"})
    assert {get("/model").json()["version"] for _ in range(20)} == {"v1"}
    eventually(lambda: {get("/model").json()["added_items"] for _ in range(20)} == {1})
    os.kill(workers()[1], signal.SIGKILL)
    eventually(lambda: ready(4))
    described = [get("/model").json() for _ in range(20)]
    assert {(each["version"], each["added_items"]) for each in described} == {("v1", 1)}
