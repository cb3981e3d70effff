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
from service.serving import is_chosen

ADMIN = "admin-key-1"
HEADERS = {"X-API-Key": ADMIN}
QUESTION = {"history": ["i1", "i4"], "k": 12, "exclude_seen": False}


@pytest.fixture
def versions(make_artifact, tmp_path):
    """A directory with v1 and v2, which are different models."""
    directory = tmp_path / "versions"
    for seed, version in enumerate(("v1", "v2")):
        make_artifact(directory, version, seed=seed)
    return directory


@pytest.fixture
def own_settings(settings, versions):
    changes = {"admin_key": SecretStr(ADMIN), "model_path": str(versions)}
    return settings.model_copy(update=changes)


@pytest.fixture
def client(own_settings, open_client):
    return open_client(create_app(own_settings))


def served(client, **question):
    response = client.post("/recommend", json=QUESTION | question)
    assert response.status_code == 200, response.text
    assert response.headers["x-model-version"] == response.json()["model"]["version"]
    return response.headers["x-model-version"]


def admin(client, method, path, **arguments):
    return client.request(method, path, headers=HEADERS, **arguments)


def activate(client, version):
    return admin(client, "POST", f"/admin/models/{version}/activate")


def damage(version):
    """Change one bit of a version's codes."""
    codes = bytearray((version / "item_codes.npy").read_bytes())
    codes[-1] ^= 1
    (version / "item_codes.npy").write_bytes(codes)


def test_the_newest_is_served_until_another_is_activated(client):
    assert served(client) == "v2"
    before = admin(client, "GET", "/admin/models").json()
    assert (before["champion"], before["activated"], before["previous"]) == ("v2", False, None)
    assert [version["version"] for version in before["versions"]] == ["v2", "v1"]
    response = activate(client, "v1")
    assert response.status_code == 200, response.text
    after = response.json()
    assert (after["champion"], after["activated"], after["previous"]) == ("v1", True, "v2")
    assert after["loaded"] == ["v1", "v2"]
    assert served(client) == "v1"
    described = client.get("/model").json()
    assert (described["version"], described["previous"]) == ("v1", "v2")


def test_a_rollback_brings_the_previous_version_back_and_again_the_later_one(client):
    refused = admin(client, "POST", "/admin/rollback")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:recjpq:problem:models-conflict")
    activate(client, "v1")
    for expected in ("v2", "v1"):
        assert admin(client, "POST", "/admin/rollback").json()["champion"] == expected
        assert served(client) == expected


def test_a_rollback_needs_no_loading(own_settings, open_client):
    loads = []
    client = open_client(create_app(own_settings, load_model=lambda *at: loads.append(at) or load_model(*at)))
    activate(client, "v1")
    admin(client, "POST", "/admin/rollback")
    admin(client, "POST", "/admin/rollback")
    assert [path.name for _, path in loads] == ["v2", "v1"]


def test_activating_what_is_served_keeps_it_after_a_restart(
    own_settings, open_client, make_artifact, versions
):
    client = open_client(create_app(own_settings))
    assert activate(client, "v2").json()["activated"]
    make_artifact(versions, "v3")
    assert served(open_client(create_app(own_settings))) == "v2"


def test_a_restart_serves_what_was_activated(client, own_settings, open_client):
    activate(client, "v1")
    admin(client, "PUT", "/admin/challenger", json={"version": "v2", "share": 1})
    again = open_client(create_app(own_settings))
    assert served(again) == "v1"
    assert served(again, user_id="u1") == "v2"
    assert admin(again, "POST", "/admin/rollback").json()["champion"] == "v2"  # loaded only now


def test_if_the_activated_version_is_gone_the_newest_is_served(
    client, own_settings, open_client, versions, caplog
):
    activate(client, "v1")
    shutil.rmtree(versions / "v1")
    assert served(open_client(create_app(own_settings))) == "v2"
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
def test_a_name_that_is_no_version_is_refused(client, name):
    response = activate(client, name)
    assert response.status_code in {404, 405, 422}
    assert response.headers["content-type"] == "application/problem+json"
    response = admin(client, "PUT", "/admin/challenger", json={"version": name, "share": 0.5})
    assert response.status_code in {404, 422}
    assert served(client) == "v2"


def negated(directory):
    """An encoder that computes something else than was recorded."""
    import onnx

    model = onnx.load_model(directory / "v1" / "encoder.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == "sub_embeddings":
            tensor.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), tensor.name))
    return model.SerializeToString()


def damaged(versions, make_artifact):
    damage(make_artifact(versions, "v3"))


def unfinished(versions, make_artifact):
    (make_artifact(versions, "v3") / "manifest.json").unlink()


def without_a_file(versions, make_artifact):
    (make_artifact(versions, "v3") / "items.parquet").unlink()


def shorter(versions, make_artifact):
    path = make_artifact(versions, "v3") / "encoder.onnx"
    path.write_bytes(path.read_bytes()[:-1])


def computing_something_else(versions, make_artifact):
    make_artifact(versions, "v3", encoder=negated(versions), seed=0)


@pytest.mark.parametrize(
    ("arrange", "reason"),
    [
        (damaged, "item_codes.npy: found sha256"),
        (unfinished, "no manifest.json, so this is no finished artifact"),
        (without_a_file, "items.parquet: missing, the manifest lists it"),
        (shorter, "encoder.onnx: found"),
        (computing_something_else, "golden replay: score tables differ"),
    ],
)
def test_a_version_that_must_not_be_served_changes_nothing_and_says_why(
    client, versions, make_artifact, arrange, reason
):
    arrange(versions, make_artifact)
    response = activate(client, "v3")
    assert (response.status_code, response.json()["type"]) == (422, "urn:recjpq:problem:version-refused")
    assert reason in response.json()["detail"]
    assert str(versions.parent) not in response.text
    state = admin(client, "GET", "/admin/models").json()
    assert (state["champion"], state["previous"]) == ("v2", None)
    assert state["last_failure"]["version"] == "v3"
    assert reason in state["last_failure"]["detail"]
    assert 'recjpq_model_reloads_total{result="failed"} 1.0' in client.get("/metrics").text
    assert served(client) == "v2"
    assert activate(client, "v1").json()["last_failure"] is None


def test_what_fails_in_no_foreseen_way_is_told_without_its_text(own_settings, open_client):
    def load(settings, path):
        if path.name == "v1":
            raise MemoryError("secret internals")
        return load_model(settings, path)

    client = open_client(create_app(own_settings, load_model=load))
    response = activate(client, "v1")
    assert response.status_code == 422
    assert "secret" not in response.text
    assert served(client) == "v2"


def test_one_change_at_a_time_and_requests_are_answered_meanwhile(own_settings, open_client):
    loading, go_on = threading.Event(), threading.Event()

    def load(settings, path):
        if path.name == "v1":
            loading.set()
            assert go_on.wait(20)
        return load_model(settings, path)

    client = open_client(create_app(own_settings, load_model=load))
    answers = []

    async def scenario():
        import asyncio

        first = asyncio.create_task(client.http.post("/admin/models/v1/activate", headers=HEADERS))
        await asyncio.to_thread(loading.wait, 20)
        second = await client.http.post("/admin/models/v1/activate", headers=HEADERS)
        answers.append((await client.http.post("/recommend", json=QUESTION)).headers["x-model-version"])
        go_on.set()
        return (await first).status_code, second

    status, second = client.runner.run(scenario())
    assert (status, second.status_code) == (200, 409)
    assert second.json()["type"] == "urn:recjpq:problem:models-busy"
    assert answers == ["v2"]
    assert served(client) == "v1"


def test_another_process_that_changes_the_models_is_waited_for(client, own_settings):
    from service.lifecycle.durable import locked

    with locked(own_settings.state_path / ".change.lock"):
        response = activate(client, "v1")
        assert (response.status_code, response.json()["type"]) == (409, "urn:recjpq:problem:models-busy")
    assert activate(client, "v1").status_code == 200


def test_processes_follow_each_other(client, own_settings, open_client, eventually):
    other = open_client(create_app(own_settings))
    activate(client, "v1")
    eventually(lambda: served(other) == "v1")
    assert admin(other, "GET", "/admin/models").json()["previous"] == "v2"
    admin(other, "PUT", "/admin/challenger", json={"version": "v2", "share": 1})
    eventually(lambda: served(client, user_id="u1") == "v2")
    admin(client, "POST", "/admin/rollback")  # the challenger becomes champion, and so is no challenger
    eventually(lambda: served(other) == "v2")
    eventually(lambda: served(other, user_id="u1") == "v2")
    assert other.get("/model").json()["challenger"] is None


def test_a_process_that_cannot_follow_goes_on_with_what_it_has(
    client, own_settings, open_client, eventually, monkeypatch
):
    monkeypatch.setattr("service.lifecycle.models.RETRY_S", 0)
    works = threading.Event()

    def load(settings, path):
        if path.name == "v1" and not works.is_set():
            raise ArtifactError("not here")
        return load_model(settings, path)

    other = open_client(create_app(own_settings, load_model=load))
    activate(client, "v1")
    failed = 'recjpq_model_reloads_total{result="failed"} 0.0'
    eventually(lambda: failed not in other.get("/metrics").text)
    assert served(other) == "v2"
    works.set()
    eventually(lambda: served(other) == "v1")


def test_a_state_that_cannot_be_written_changes_nothing(client, own_settings):
    own_settings.state_path.parent.mkdir(exist_ok=True)
    own_settings.state_path.write_text("a file where the directory should be")
    response = activate(client, "v1")
    assert (response.status_code, response.json()["type"]) == (503, "urn:recjpq:problem:state-unavailable")
    assert served(client) == "v2"


@pytest.mark.parametrize("content", ["", "{", '{"champion": "../v1"}', '{"counter": -1}'])
def test_a_state_that_is_none_ends_the_start(own_settings, runner, content):
    own_settings.state_path.mkdir()
    (own_settings.state_path / "active.json").write_text(content)
    app = create_app(own_settings)
    with pytest.raises(StateError, match=r"active\.json: not a service's state"):
        runner.run(app.router.lifespan_context(app).__aenter__())


def test_the_challenger_serves_its_share_of_the_users_and_always_the_same(client):
    response = admin(client, "PUT", "/admin/challenger", json={"version": "v1", "share": 0.3})
    assert response.json()["challenger"] == {"version": "v1", "share": 0.3}
    users = [f"u{number}" for number in range(100)]
    split = {user: served(client, user_id=user) for user in users}
    assert split == {user: "v1" if is_chosen(user, "v1", 0.3) else "v2" for user in users}
    assert {"v1", "v2"} == set(split.values())
    assert served(client) == "v2"  # nobody
    described = client.get("/model").json()
    assert (described["version"], described["challenger"]["version"]) == ("v2", "v1")
    metrics = client.get("/metrics").text
    tried = sum(version == "v1" for version in split.values())
    assert f'recommendations_total{{strategy="model",variant="challenger"}} {tried}.0' in metrics
    assert f'recommendations_total{{strategy="model",variant="champion"}} {101 - tried}.0' in metrics
    assert 'variant="challenger",version="v1"} 1.0' in metrics
    assert admin(client, "DELETE", "/admin/challenger").status_code == 204
    assert admin(client, "DELETE", "/admin/challenger").status_code == 204
    assert {served(client, user_id=user) for user in users} == {"v2"}


def test_shares_nest_and_experiments_are_independent():
    users = [f"user-{number}" for number in range(20_000)]
    chosen = {share: {u for u in users if is_chosen(u, "v2", share)} for share in (0.1, 0.5, 1.0)}
    assert chosen[0.1] < chosen[0.5] < chosen[1.0] == set(users)
    assert len(chosen[0.1]) == pytest.approx(2000, rel=0.1)  # 5 standard deviations are 212
    other = {u for u in users if is_chosen(u, "v3", 0.5)}
    assert len(other & chosen[0.5]) == pytest.approx(5000, rel=0.1)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"version": "v2", "share": 0.5}, 409),  # the champion
        ({"version": "v9", "share": 0.5}, 404),
        ({"version": "v1", "share": 0}, 422),
        ({"version": "v1", "share": 1.1}, 422),
        ({"version": "v1"}, 422),
        ({"version": "../v1", "share": 0.5}, 422),
    ],
)
def test_a_challenger_that_cannot_be(client, body, status):
    assert admin(client, "PUT", "/admin/challenger", json=body).status_code == status
    assert admin(client, "GET", "/admin/models").json()["challenger"] is None


def test_activating_the_challenger_ends_its_trial(client):
    admin(client, "PUT", "/admin/challenger", json={"version": "v1", "share": 0.5})
    state = activate(client, "v1").json()
    assert (state["champion"], state["previous"], state["challenger"]) == ("v1", "v2", None)


def test_a_batch_is_answered_by_each_user_s_model(client):
    admin(client, "PUT", "/admin/challenger", json={"version": "v1", "share": 0.5})
    users = [f"u{number}" for number in range(20)]
    body = {"requests": [QUESTION | {"user_id": user} for user in users]}
    results = client.post("/recommend/batch", json=body).json()["results"]
    assert [result["model"]["version"] for result in results] == [
        "v1" if is_chosen(user, "v1", 0.5) else "v2" for user in users
    ]


def test_one_artifact_is_one_version(settings, artifact, open_client):
    changes = {"admin_key": SecretStr(ADMIN), "model_path": str(artifact)}
    client = open_client(create_app(settings.model_copy(update=changes)))
    assert [v["version"] for v in admin(client, "GET", "/admin/models").json()["versions"]] == ["v1"]
    assert activate(client, "v1").status_code == 200
    assert activate(client, "v2").status_code == 404


def test_swaps_under_load_fail_no_request_and_every_answer_is_of_the_version_it_names(
    start_service, make_artifact, versions
):
    """Four clients ask without a pause, while versions are activated, refused, rolled back and tried."""
    service = start_service(model_path=versions, admin_key=ADMIN)
    damage(make_artifact(versions, "v3", seed=3))
    url = service.url
    answers: list[list[tuple[int, str, str, list[float]]]] = [[] for _ in range(4)]
    done = threading.Event()

    def ask(number):
        with httpx.Client(base_url=url, timeout=20) as client:
            while not done.is_set():
                response = client.post("/recommend", json=QUESTION | {"user_id": f"u{number}"})
                body = response.json()
                scores = [item["score"] for item in body.get("items", ())]
                version = body.get("model", {}).get("version")
                answers[number].append(
                    (response.status_code, response.headers["x-model-version"], version, scores)
                )

    threads = [threading.Thread(target=ask, args=[number]) for number in range(4)]
    with contextlib.ExitStack() as stack, httpx.Client(base_url=url, timeout=60) as client:
        expected = {"v2": scores_of(client)}
        stack.callback(lambda: [thread.join() for thread in threads])
        stack.callback(done.set)
        for thread in threads:
            thread.start()
        for _ in range(3):
            assert activate(client, "v1").status_code == 200
            expected["v1"] = scores_of(client)
            assert activate(client, "v3").status_code == 422
            assert (
                admin(client, "PUT", "/admin/challenger", json={"version": "v2", "share": 0.5}).status_code
                == 200
            )
            assert admin(client, "POST", "/admin/rollback").status_code == 200
            assert admin(client, "DELETE", "/admin/challenger").status_code == 204
    everything = [answer for each in answers for answer in each]
    assert not np.allclose(expected["v1"], expected["v2"], atol=0.01)
    assert {answer[:3] for answer in everything} == {(200, "v1", "v1"), (200, "v2", "v2")}
    for _, version, _, scores in everything:
        assert scores == pytest.approx(expected[version], abs=1e-4)


def scores_of(client):
    return [item["score"] for item in client.post("/recommend", json=QUESTION).json()["items"]]


def test_a_killed_process_serves_what_was_activated(start_service, versions):
    service = start_service(model_path=versions, admin_key=ADMIN)
    with httpx.Client(base_url=service.url, timeout=20) as client:
        assert activate(client, "v1").status_code == 200
    service.process.kill()
    service.process.wait()
    again = start_service(model_path=versions, admin_key=ADMIN)
    with httpx.Client(base_url=again.url, timeout=20) as client:
        assert served(client) == "v1"
    [line] = [json.loads(line) for line in again.log.read_text().splitlines() if '"serving"' in line]
    assert line["version"] == "v1"


def test_workers_follow_each_other_and_one_that_is_started_again_joins_them(
    start_service, make_artifact, versions, eventually
):
    service = start_service(model_path=versions, admin_key=ADMIN, workers=2)

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

    eventually(lambda: "recjpq_workers 2.0" in get("/metrics").text)
    assert info() == {"v2"}
    make_artifact(versions, "v3")  # newer, and activated by nobody
    os.kill(workers()[0], signal.SIGKILL)
    eventually(lambda: len(workers()) == 3 and "recjpq_workers 2.0" in get("/metrics").text)
    assert info() == {"v2"}
    with httpx.Client(base_url=service.url, timeout=20) as client:
        assert activate(client, "v1").status_code == 200
        added = {"items": [{"item_id": "n1", "similar": ["i3"]}]}
        assert client.post("/items", json=added, headers=HEADERS).status_code == 200
    eventually(lambda: info() == {"v1"})
    assert {get("/model").json()["version"] for _ in range(20)} == {"v1"}
    eventually(lambda: {get("/model").json()["added_items"] for _ in range(20)} == {1})
    os.kill(workers()[1], signal.SIGKILL)
    eventually(lambda: len(workers()) == 4 and "recjpq_workers 2.0" in get("/metrics").text)
    described = [get("/model").json() for _ in range(20)]
    assert {(each["version"], each["added_items"]) for each in described} == {("v1", 1)}
