"""Manifests that are wrong: none is half understood, and each refusal names the field."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recjpq.artifact import find_artifact, load_artifact
from recjpq.errors import ArtifactManifestError, ArtifactSchemaError, RecJPQError

EditManifest = Callable[..., None]

FILES = ["encoder.onnx", "golden.npz", "item_codes.npy", "items.parquet", "recommender.onnx"]


@pytest.fixture
def path(tiny: Any, tmp_path: Path) -> Path:
    """A written artifact of 6 items, M=2, V=4, L=3, to be made wrong."""
    return tiny.write(tmp_path)


def refusal(path: Path, error: type[RecJPQError]) -> str:
    """The message with which an artifact is refused, by exactly this error."""
    with pytest.raises(RecJPQError) as raised:
        load_artifact(path)
    assert raised.type is error
    assert str(path) in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"schema_version": 1',
        b"\x80\x81",
        b'{"schema_version": 1}{}',
        b"\x00" * 1000,
        b"[" * 100_000,
        b'{"schema_version": ' + b"9" * 10_000 + b"}",
    ],
    ids=["empty", "brace", "cut", "not utf-8", "two", "zeros", "deep", "long number"],
)
def test_a_manifest_that_is_not_json(path: Path, content: bytes) -> None:
    (path / "manifest.json").write_bytes(content)
    assert "manifest.json: not valid JSON" in refusal(path, ArtifactManifestError)


@pytest.mark.parametrize("content", ["[]", "null", "1", '"manifest"', "true"])
def test_a_manifest_that_is_no_object(path: Path, content: str) -> None:
    (path / "manifest.json").write_text(content)
    assert "expected a JSON object" in refusal(path, ArtifactManifestError)


@pytest.mark.parametrize("schema_version", [2, 0, -1, True, 1.0, "1", None, [1], {}], ids=repr)
def test_another_schema_version(path: Path, edit_manifest: EditManifest, schema_version: Any) -> None:
    edit_manifest(path, schema_version=schema_version)
    message = refusal(path, ArtifactSchemaError)
    assert f"found schema_version {schema_version!r}, expected 1; install a recjpq release" in message
    with pytest.raises(ArtifactSchemaError):
        find_artifact(path.parent)


def test_the_schema_version_is_judged_before_the_other_fields(path: Path) -> None:
    (path / "manifest.json").write_text('{"schema_version": 2, "all else": "may have changed"}')
    refusal(path, ArtifactSchemaError)


SIZES = ["num_items", "max_length", "num_splits", "num_sub_ids", "dim"]
STRINGS = ["name", "version", "created_at", "backbone"]
OBJECTS = ["training_config", "data", "metrics", "libraries"]


@pytest.mark.parametrize("value", [None, 0, -1, True, 6.0, "6", [6], 2**31], ids=repr)
@pytest.mark.parametrize("name", SIZES)
def test_a_size_that_is_none(path: Path, edit_manifest: EditManifest, name: str, value: Any) -> None:
    edit_manifest(path, **{name: value})
    assert f"{name} is {value!r}, expected an integer, 1 to " in refusal(path, ArtifactManifestError)


@pytest.mark.parametrize(("name", "value"), [("num_splits", 65), ("num_sub_ids", 257)])
def test_a_size_that_no_scorer_takes(path: Path, edit_manifest: EditManifest, name: str, value: int) -> None:
    edit_manifest(path, **{name: value})
    message = refusal(path, ArtifactManifestError)
    assert f"{name} is {value}, expected an integer, 1 to {value - 1}" in message


@pytest.mark.parametrize("value", [None, 1, True, ["a"], {}], ids=repr)
@pytest.mark.parametrize("name", STRINGS)
def test_a_string_that_is_none(path: Path, edit_manifest: EditManifest, name: str, value: Any) -> None:
    edit_manifest(path, **{name: value})
    assert f"{name} is {value!r}, expected a string" in refusal(path, ArtifactManifestError)


@pytest.mark.parametrize("value", [None, 1, "x", []], ids=repr)
@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_that_is_none(path: Path, edit_manifest: EditManifest, name: str, value: Any) -> None:
    edit_manifest(path, **{name: value})
    assert f"{name} is {value!r}, expected an object" in refusal(path, ArtifactManifestError)


@pytest.mark.parametrize(
    "value", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-31", "2026-01-31T12:00:00"]
)
def test_a_time_that_versions_cannot_be_ordered_by(
    path: Path, edit_manifest: EditManifest, value: str
) -> None:
    edit_manifest(path, created_at=value)
    assert f"created_at is {value!r}, expected a time such as" in refusal(path, ArtifactManifestError)
    with pytest.raises(ArtifactManifestError):
        find_artifact(path.parent)


def test_a_git_revision_is_a_string_or_null(path: Path, edit_manifest: EditManifest) -> None:
    edit_manifest(path, git_revision="abc")
    assert load_artifact(path).manifest.model.git_revision == "abc"
    edit_manifest(path, git_revision=1)
    assert "git_revision is 1, expected a string or null" in refusal(path, ArtifactManifestError)


def test_fields_of_a_later_release_of_schema_1_are_passed_over(
    path: Path, edit_manifest: EditManifest
) -> None:
    edit_manifest(path, added_later={"x": 1})
    assert load_artifact(path).manifest.model.num_items == 6


def edited_files(path: Path, change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    files = json.loads((path / "manifest.json").read_text())["files"]
    change(files)
    return files


@pytest.mark.parametrize(
    "change",
    [
        lambda files: files.pop("golden.npz"),
        lambda files: files.clear(),
        lambda files: files.update({"extra.bin": files["golden.npz"]}),
        lambda files: files.update({"../golden.npz": files.pop("golden.npz")}),
        lambda files: files.update({"/etc/passwd": files.pop("golden.npz")}),
        lambda files: files.update({"manifest.json": files["golden.npz"]}),
    ],
    ids=["one missing", "all missing", "one more", "traversal", "absolute", "the manifest itself"],
)
def test_files_other_than_those_of_the_schema(
    path: Path, edit_manifest: EditManifest, change: Callable[[dict[str, Any]], Any]
) -> None:
    edit_manifest(path, files=edited_files(path, change))
    assert f"expected {FILES}" in refusal(path, ArtifactManifestError)


@pytest.mark.parametrize("files", [None, [], "files", FILES], ids=repr)
def test_files_that_are_no_object(path: Path, edit_manifest: EditManifest, files: Any) -> None:
    edit_manifest(path, files=files)
    assert f"files lists {files}, expected {FILES}" in refusal(path, ArtifactManifestError)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (None, "files.items.parquet is None, expected sha256 and size_bytes"),
        ([], "files.items.parquet is [], expected sha256 and size_bytes"),
        ({"sha256": None}, "expected sha256 and size_bytes"),
        ({"sha256": 1}, "expected sha256 and size_bytes"),
        ({"size_bytes": None}, "expected sha256 and size_bytes"),
        ({"size_bytes": "1"}, "expected sha256 and size_bytes"),
        ({"size_bytes": True}, "expected sha256 and size_bytes"),
        ({"size_bytes": 1.0}, "expected sha256 and size_bytes"),
        ({"size_bytes": -1}, "expected sha256 and size_bytes"),
        ({"shape": 6}, "files.items.parquet.shape is 6, expected sizes or null"),
        ({"shape": [6, "2"]}, "files.items.parquet.shape is [6, '2'], expected sizes or null"),
        ({"shape": [-1]}, "files.items.parquet.shape is [-1], expected sizes or null"),
        ({"dtype": 8}, "files.items.parquet.dtype is 8, expected a string or null"),
    ],
    ids=str,
)
def test_a_file_entry_of_the_wrong_form(
    path: Path, edit_manifest: EditManifest, entry: Any, message: str
) -> None:
    def change(files: dict[str, Any]) -> None:
        files["items.parquet"] = files["items.parquet"] | entry if isinstance(entry, dict) else entry

    edit_manifest(path, files=edited_files(path, change))
    assert message in refusal(path, ArtifactManifestError)
