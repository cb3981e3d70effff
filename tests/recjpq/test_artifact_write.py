"""Writing an artifact: what is written loads, and a version never changes."""

import fcntl
import json
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recjpq.artifact import Manifest, load_artifact, sha256_of
from recjpq.errors import ArtifactError, ArtifactExistsError, ArtifactManifestError, ArtifactShapeError

FILES = [
    "encoder.onnx", "golden.npz", "item_codes.npy", "items.parquet", "manifest.json", "recommender.onnx",
    "sub_embeddings.npy",
]  # fmt: skip


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# ---------------------------------------------------------------- round trip


def test_what_is_written_is_loaded(tiny: Any, tmp_path: Path) -> None:
    path = tiny.write(tmp_path)
    assert path == tmp_path / "v1"
    assert names_in(path) == FILES
    assert names_in(tmp_path) == ["v1"]
    artifact = load_artifact(path)
    assert artifact.path == path
    assert artifact.manifest.model == tiny.model
    assert np.array_equal(artifact.catalogue.item_codes, tiny.item_codes)
    assert artifact.catalogue.ids_of(np.arange(6)) == list("abcdef")
    assert artifact.catalogue.metadata_of(np.array([2])) == [{"title": "C"}]
    assert artifact.encoder_path.read_bytes() == b"encoder"
    assert artifact.recommender_path.read_bytes() == b"recommender"
    for field in fields(tiny.golden):
        loaded, written = getattr(artifact.golden, field.name), getattr(tiny.golden, field.name)
        assert loaded.dtype == written.dtype
        assert np.array_equal(loaded, written)


def test_codes_are_memory_mapped_and_read_only(tiny: Any, tmp_path: Path) -> None:
    item_codes = load_artifact(tiny.write(tmp_path)).catalogue.item_codes
    assert isinstance(item_codes, np.memmap)
    assert not item_codes.flags.writeable


@pytest.mark.parametrize("width", [4, 8], ids=["end to end", "added up"])
def test_sub_embeddings_are_memory_mapped(tiny: Any, tmp_path: Path, width: int) -> None:
    written = np.arange(2 * 4 * width, dtype=np.float32).reshape(2, 4, width)
    path = tiny.with_(sub_embeddings=written).write(tmp_path)
    loaded = load_artifact(path).sub_embeddings
    assert isinstance(loaded, np.memmap)
    assert np.array_equal(loaded, written)
    entry = json.loads((path / "manifest.json").read_text())["files"]["sub_embeddings.npy"]
    assert (entry["shape"], entry["dtype"]) == ([2, 4, width], "float32")


def test_an_artifact_without_sub_embeddings_loads(tiny: Any, tmp_path: Path) -> None:
    path = tiny.with_(sub_embeddings=None).write(tmp_path)
    assert names_in(path) == [name for name in FILES if name != "sub_embeddings.npy"]
    assert load_artifact(path).sub_embeddings is None


def test_codes_in_any_memory_order_are_written_item_by_item(tiny: Any, tmp_path: Path) -> None:
    path = tiny.with_(item_codes=np.asfortranarray(tiny.item_codes)).write(tmp_path)
    loaded = load_artifact(path).catalogue.item_codes
    assert np.array_equal(loaded, tiny.item_codes)
    assert loaded.flags.c_contiguous


def test_the_manifest_states_the_schema_and_every_file(tiny: Any, tmp_path: Path) -> None:
    path = tiny.write(tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["schema_version"] == 1
    assert sorted(manifest["files"]) == [name for name in FILES if name != "manifest.json"]
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == sha256_of(path / name)
        assert entry["size_bytes"] == (path / name).stat().st_size
    assert manifest["files"]["item_codes.npy"]["shape"] == [6, 2]
    assert manifest["files"]["item_codes.npy"]["dtype"] == "uint8"


def test_a_manifest_reads_back_as_it_was(tiny: Any, tmp_path: Path) -> None:
    manifest = Manifest.read(tiny.write(tmp_path))
    again = tmp_path / "again"
    again.mkdir()
    (again / "manifest.json").write_text(manifest.to_json())
    assert Manifest.read(again) == manifest


def test_parents_are_made(tiny: Any, tmp_path: Path) -> None:
    assert load_artifact(tiny.write(tmp_path / "a" / "b")).path == tmp_path / "a" / "b" / "v1"


# ---------------------------------------------------------------- versions


@pytest.mark.parametrize("version", ["1", "v1", "2026-01-31T12.00", "A_b-c.d", "x" * 128])
def test_a_safe_version_name(tiny: Any, tmp_path: Path, version: str) -> None:
    assert load_artifact(tiny.write(tmp_path, version)).manifest.model.version == version


@pytest.mark.parametrize(
    "version",
    [
        "",
        ".",
        "..",
        ".v1",
        "-v1",
        "_v1",
        "a/b",
        "../v1",
        "/tmp/v1",
        "a\\b",
        "a b",
        "v1\n",
        "v\x00",
        "é",
        "x" * 129,
    ],
    ids=ascii,
)
def test_an_unsafe_version_name_is_refused_before_anything_is_written(
    tiny: Any, tmp_path: Path, version: str
) -> None:
    parent = tmp_path / "artifacts"
    with pytest.raises(ArtifactError, match="expected 1 to 128 letters, digits") as raised:
        tiny.write(parent, version)
    assert repr(version) in str(raised.value)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("is_file", [False, True], ids=["directory", "file"])
def test_an_existing_version_is_left_alone(tiny: Any, tmp_path: Path, is_file: bool) -> None:
    existing = tmp_path / "v1"
    if is_file:
        existing.write_text("mine")
    else:
        existing.mkdir()
    with pytest.raises(ArtifactExistsError, match="v1 exists and versions are immutable"):
        tiny.write(tmp_path)
    assert names_in(tmp_path) == ["v1"]
    assert existing.is_file() == is_file


def test_a_written_version_is_immutable(tiny: Any, tmp_path: Path) -> None:
    path = tiny.write(tmp_path)
    with pytest.raises(ArtifactExistsError):
        tiny.with_(encoder=b"another").write(tmp_path)
    assert load_artifact(path).encoder_path.read_bytes() == b"encoder"


def test_a_version_published_meanwhile_is_left_alone(tiny: Any, tmp_path: Path) -> None:
    first = tiny.write(tmp_path / "elsewhere")

    class GoldenOfTheSecond:
        def save(self, path: Path) -> None:
            first.rename(tmp_path / "v1")
            tiny.golden.save(path)

    with pytest.raises(ArtifactExistsError, match="v1: cannot be published"):
        tiny.with_(encoder=b"second", golden=GoldenOfTheSecond()).write(tmp_path)
    assert names_in(tmp_path) == ["elsewhere", "v1"]
    assert load_artifact(tmp_path / "v1").encoder_path.read_bytes() == b"encoder"


def test_a_failed_write_leaves_nothing(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        tiny.with_(encoder="not bytes").write(tmp_path)
    assert names_in(tmp_path) == []
    assert load_artifact(tiny.write(tmp_path)).path == tmp_path / "v1"


def test_what_loading_would_refuse_is_not_published(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactShapeError, match=r"found shape \(6, 2\), the manifest says \(7, 2\)"):
        tiny.with_(model=replace(tiny.model, num_items=7)).write(tmp_path)
    assert names_in(tmp_path) == []


def test_metrics_that_are_not_json_are_not_published(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactManifestError, match="not JSON compliant"):
        tiny.with_(model=replace(tiny.model, metrics={"ndcg@10": float("nan")})).write(tmp_path)
    assert names_in(tmp_path) == []


def test_a_version_has_one_writer_at_a_time(tiny: Any, tmp_path: Path) -> None:
    partial = tmp_path / ".v1.partial"
    partial.mkdir()
    descriptor = os.open(partial, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(ArtifactExistsError, match="another process is writing this version"):
            tiny.write(tmp_path)
    finally:
        os.close(descriptor)
    assert load_artifact(tiny.write(tmp_path)).path == tmp_path / "v1"
