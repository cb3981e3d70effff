"""Versions that must not be served, and what is said of them."""

import pytest

from service.app import create_app
from service.model import load_model
from tests.service.administration import activate, admin, damage, served


def negated(directory):
    """An encoder that computes something else than was recorded."""
    import onnx

    model = onnx.load_model(directory / "v1" / "encoder.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == "sub_embeddings":
            tensor.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), tensor.name))
    return model.SerializeToString()


def damaged(two_models, make_artifact):
    damage(make_artifact(two_models, "v3"))


def unfinished(two_models, make_artifact):
    (make_artifact(two_models, "v3") / "manifest.json").unlink()


def without_a_file(two_models, make_artifact):
    (make_artifact(two_models, "v3") / "items.parquet").unlink()


def shorter(two_models, make_artifact):
    path = make_artifact(two_models, "v3") / "encoder.onnx"
    path.write_bytes(path.read_bytes()[:-1])


def computing_something_else(two_models, make_artifact):
    make_artifact(two_models, "v3", encoder=negated(two_models), seed=0)


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
    managed, two_models, make_artifact, arrange, reason
):
    arrange(two_models, make_artifact)
    response = activate(managed, "v3")
    assert (response.status_code, response.json()["type"]) == (422, "urn:recjpq:problem:version-refused")
    assert reason in response.json()["detail"]
    assert str(two_models.parent) not in response.text
    state = admin(managed, "GET", "/admin/models").json()
    assert (state["champion"], state["previous"]) == ("v2", None)
    assert state["last_failure"]["version"] == "v3"
    assert reason in state["last_failure"]["detail"]
    assert 'recjpq_model_reloads_total{result="failed"} 1.0' in managed.get("/metrics").text
    assert served(managed) == "v2"
    assert activate(managed, "v1").json()["last_failure"] is None


def test_what_fails_in_no_foreseen_way_is_told_without_its_text(managed_settings, open_client):
    def load(settings, path):
        if path.name == "v1":
            raise MemoryError("secret internals")
        return load_model(settings, path)

    managed = open_client(create_app(managed_settings, load_model=load))
    response = activate(managed, "v1")
    assert response.status_code == 422
    assert "secret" not in response.text
    assert served(managed) == "v2"
