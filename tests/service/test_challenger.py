"""A version tried on a share of the users."""

import re

import pytest

from service.serving import is_chosen
from tests.service.administration import QUESTION, activate, admin, served


def test_the_challenger_serves_its_share_of_the_users_and_always_the_same(managed):
    response = admin(managed, "PUT", "/admin/challenger", json={"version": "v1", "share": 0.3})
    assert response.json()["challenger"] == {"version": "v1", "share": 0.3}
    users = [f"u{number}" for number in range(100)]
    split = {user: served(managed, user_id=user) for user in users}
    assert split == {user: "v1" if is_chosen(user, "v1", 0.3) else "v2" for user in users}
    assert {"v1", "v2"} == set(split.values())
    assert served(managed) == "v2"  # nobody
    described = managed.get("/model").json()
    assert (described["version"], described["challenger"]["version"]) == ("v2", "v1")
    metrics = managed.get("/metrics").text
    tried = sum(version == "v1" for version in split.values())
    assert f'recommendations_total{{strategy="model",variant="challenger"}} {tried}.0' in metrics
    assert f'recommendations_total{{strategy="model",variant="champion"}} {101 - tried}.0' in metrics
    assert 'variant="challenger",version="v1"} 1.0' in metrics
    assert admin(managed, "DELETE", "/admin/challenger").status_code == 204
    assert admin(managed, "DELETE", "/admin/challenger").status_code == 204
    assert {served(managed, user_id=user) for user in users} == {"v2"}


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
def test_a_challenger_that_cannot_be(managed, body, status):
    assert admin(managed, "PUT", "/admin/challenger", json=body).status_code == status
    assert admin(managed, "GET", "/admin/models").json()["challenger"] is None


def told(client, metric):
    [value] = re.findall(rf"^{re.escape(metric)} (.*)$", client.get("/metrics").text, flags=re.MULTILINE)
    return float(value)


def test_a_challenger_is_a_change_of_the_models_and_leaves_the_champions_age(managed):
    changes, loaded = (
        'recjpq_model_reloads_total{result="succeeded"}',
        "recjpq_model_loaded_timestamp_seconds",
    )
    before, since = told(managed, changes), told(managed, loaded)
    admin(managed, "PUT", "/admin/challenger", json={"version": "v1", "share": 0.5})
    assert (told(managed, changes), told(managed, loaded)) == (before + 1, since)
    for _ in range(2):  # without a challenger there is nothing to change
        admin(managed, "DELETE", "/admin/challenger")
        assert (told(managed, changes), told(managed, loaded)) == (before + 2, since)
    activate(managed, "v1")
    assert told(managed, changes) == before + 3
    assert told(managed, loaded) > since


def test_activating_the_challenger_ends_its_trial(managed):
    admin(managed, "PUT", "/admin/challenger", json={"version": "v1", "share": 0.5})
    state = activate(managed, "v1").json()
    assert (state["champion"], state["previous"], state["challenger"]) == ("v1", "v2", None)


def test_a_batch_is_answered_by_each_user_s_model(managed):
    admin(managed, "PUT", "/admin/challenger", json={"version": "v1", "share": 0.5})
    users = [f"u{number}" for number in range(20)]
    body = {"requests": [QUESTION | {"user_id": user} for user in users]}
    results = managed.post("/recommend/batch", json=body).json()["results"]
    assert [result["model"]["version"] for result in results] == [
        "v1" if is_chosen(user, "v1", 0.5) else "v2" for user in users
    ]
