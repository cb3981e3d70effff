"""A process that must not serve ends at once and says why, in one line."""

import json
import shutil
import sqlite3
import subprocess
import sys

import pytest


def copy_of(artifact, tmp_path):
    return shutil.copytree(artifact, tmp_path / "copy")


def truncated(artifact, tmp_path):
    copy = copy_of(artifact, tmp_path)
    graph = (copy / "encoder.onnx").read_bytes()
    (copy / "encoder.onnx").write_bytes(graph[:-1])
    return {"model_path": copy}


def corrupted(artifact, tmp_path):
    copy = copy_of(artifact, tmp_path)
    codes = bytearray((copy / "item_codes.npy").read_bytes())
    codes[-1] ^= 1
    (copy / "item_codes.npy").write_bytes(codes)
    return {"model_path": copy}


def from_the_future(artifact, tmp_path):
    copy = copy_of(artifact, tmp_path)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 2}))
    return {"model_path": copy}


def missing(artifact, tmp_path):
    return {"model_path": tmp_path / "nowhere"}


def without_a_gpu(artifact, tmp_path):
    return {"model_path": artifact, "device": "cuda"}


def with_a_newer_store(artifact, tmp_path):
    with sqlite3.connect(tmp_path / "newer.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    return {"model_path": artifact, "store_url": f"sqlite:///{tmp_path}/newer.sqlite3"}


@pytest.mark.parametrize(
    ("arrange", "reason"),
    [
        (truncated, "encoder.onnx: found 1"),
        (corrupted, "item_codes.npy: found sha256"),
        (from_the_future, "found schema_version 2, expected 1"),
        (missing, "nowhere: no such directory; train a model"),
        (without_a_gpu, "device 'cuda'"),
        (with_a_newer_store, "found store schema 7, expected 1"),
    ],
)
def test_the_process_ends_and_names_the_reason(start_service, artifact, tmp_path, arrange, reason):
    service = start_service(wait=False, **arrange(artifact, tmp_path))
    assert service.process.wait(20) == 3
    records = [json.loads(line) for line in service.log.read_text().splitlines()]
    [error] = [record for record in records if "cannot start" in record["message"]]
    assert reason in error["message"]
    assert "\n" not in error["message"]
    assert not any("exception" in record or "Traceback" in record["message"] for record in records)


def test_an_encoder_that_computes_something_else_is_refused(start_service, make_artifact, tmp_path):
    import onnx

    def negate(graph):
        model = onnx.load_model_from_string(graph)
        for tensor in model.graph.initializer:
            if tensor.name == "sub_embeddings":
                tensor.CopyFrom(
                    onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), tensor.name)
                )
        return model.SerializeToString()

    good = make_artifact(tmp_path / "good")
    wrong = make_artifact(tmp_path / "wrong", encoder=negate((good / "encoder.onnx").read_bytes()))
    service = start_service(wait=False, model_path=wrong)
    assert service.process.wait(20) == 3
    assert "golden replay: score tables differ" in service.log.read_text()


def test_a_bad_setting_ends_the_process_with_one_line(start_service):
    service = start_service(wait=False, max_k="many")
    assert service.process.wait(20) == 2
    [line] = service.log.read_text().splitlines()
    assert line.startswith("recjpq-serve: RECJPQ_MAX_K='many': ")


def test_the_newest_version_in_a_directory_is_served(start_service, make_artifact, tmp_path):
    import httpx

    for version in ("v1", "v3", "v2"):
        make_artifact(tmp_path / "versions", version)
    service = start_service(model_path=tmp_path / "versions")
    assert httpx.get(f"{service.url}/model").json()["version"] == "v3"


def test_help_lists_the_settings():
    command = [sys.executable, "-W", "error", "-m", "service", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "--port" in text
    assert "RECJPQ_STORE_URL (default: sqlite:///" in text
