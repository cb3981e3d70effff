"""The manifest: what an artifact is, in one JSON file, written last."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeGuard

from recjpq.errors import ArtifactIncompleteError, ArtifactManifestError, ArtifactSchemaError
from recjpq.scoring.checks import MAX_ITEMS, MAX_SPLITS, MAX_SUB_IDS

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
ENCODER = "encoder.onnx"
RECOMMENDER = "recommender.onnx"
ITEM_CODES = "item_codes.npy"
ITEMS = "items.parquet"
GOLDEN = "golden.npz"
SUB_EMBEDDINGS = "sub_embeddings.npy"
FILES = (ENCODER, GOLDEN, ITEM_CODES, ITEMS, RECOMMENDER)
OPTIONAL_FILES = (SUB_EMBEDDINGS,)
"""Files that artifacts of earlier releases lack."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file as it was written; shape and dtype are None where the file is no single array."""

    sha256: str
    size_bytes: int
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a model is: its sizes, where it came from and how well it did.

    Attributes:
        name: the model's name.
        version: this version's name, a safe directory name.
        created_at: ISO 8601 with its offset, in UTC.
        backbone: `sasrec`, `bert4rec` or `gru4rec`.
        num_items: N. max_length: L, the longest history that the encoder was trained on.
        num_splits: M. num_sub_ids: V. dim: D, the width of an item embedding.
        training_config: the whole training configuration.
        data: statistics and hash of the interaction log.
        metrics: offline metrics, with the protocol that they were measured under.
        libraries: versions of the libraries that made the artifact.
        git_revision: of the training code, or None.
    """

    name: str
    version: str
    created_at: str
    backbone: str
    num_items: int
    max_length: int
    num_splits: int
    num_sub_ids: int
    dim: int
    training_config: Mapping[str, Any]
    data: Mapping[str, Any]
    metrics: Mapping[str, Any]
    libraries: Mapping[str, str]
    git_revision: str | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model's description and its files."""

    model: ModelDescription
    files: Mapping[str, FileEntry]

    def to_json(self) -> str:
        """Return the manifest as it is written; raises ArtifactManifestError for NaN and the like."""
        files = {name: asdict(entry) for name, entry in sorted(self.files.items())}
        content = {"schema_version": SCHEMA_VERSION, **asdict(self.model), "files": files}
        try:
            return json.dumps(content, indent=2, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise ArtifactManifestError(f"the model's description cannot be written: {error}") from error

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read and check `manifest.json`.

        Raises:
            ArtifactIncompleteError: there is none.
            ArtifactManifestError: it is not JSON, or a field is missing or wrong.
            ArtifactSchemaError: its schema version is not 1.
        """
        path = directory / MANIFEST
        try:
            fields = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise ArtifactIncompleteError(
                f"{directory}: no {MANIFEST}, so this is no finished artifact; export the model again"
            ) from error
        except (ValueError, RecursionError) as error:
            raise ArtifactManifestError(
                f"{path}: not valid JSON ({error}); export the model again"
            ) from error
        if not isinstance(fields, dict):
            raise ArtifactManifestError(f"{path}: found {type(fields).__name__}, expected a JSON object")
        schema_version = fields.get("schema_version")
        if type(schema_version) is not int or schema_version != SCHEMA_VERSION:
            raise ArtifactSchemaError(
                f"{path}: found schema_version {schema_version!r}, expected {SCHEMA_VERSION}; "
                "install a recjpq release that reads it, or export the model again with this one"
            )
        return cls(_model(path, fields), _files(path, fields))


_SIZES = {"num_items": MAX_ITEMS, "max_length": MAX_ITEMS, "num_splits": MAX_SPLITS,
          "num_sub_ids": MAX_SUB_IDS, "dim": MAX_ITEMS}  # fmt: skip
_STRINGS = ("name", "version", "created_at", "backbone")
_OBJECTS = ("training_config", "data", "metrics", "libraries")


def _model(path: Path, fields: dict[str, Any]) -> ModelDescription:
    for names, kind, expected in ((_STRINGS, str, "a string"), (_OBJECTS, dict, "an object")):
        for name in names:
            if not isinstance(fields.get(name), kind):
                raise ArtifactManifestError(f"{path}: {name} is {fields.get(name)!r}, expected {expected}")
    for name, largest in _SIZES.items():
        value = fields.get(name)
        if not _is_count(value) or not 1 <= value <= largest:
            raise ArtifactManifestError(f"{path}: {name} is {value!r}, expected an integer, 1 to {largest}")
    _check_created_at(path, fields["created_at"])
    revision = fields.get("git_revision")
    if revision is not None and not isinstance(revision, str):
        raise ArtifactManifestError(f"{path}: git_revision is {revision!r}, expected a string or null")
    return ModelDescription(
        **{name: fields[name] for name in (*_STRINGS, *_SIZES, *_OBJECTS)}, git_revision=revision
    )


def _check_created_at(path: Path, created_at: str) -> None:
    """Raise ArtifactManifestError unless versions can be ordered by this time."""
    try:
        offset = datetime.fromisoformat(created_at).utcoffset()
    except ValueError:
        offset = None
    if offset is None:
        raise ArtifactManifestError(
            f"{path}: created_at is {created_at!r}, expected a time such as 2026-01-31T12:00:00+00:00"
        )


def _files(path: Path, fields: dict[str, Any]) -> dict[str, FileEntry]:
    entries = fields.get("files")
    if not isinstance(entries, dict) or sorted(entries.keys() - set(OPTIONAL_FILES)) != sorted(FILES):
        found = sorted(entries) if isinstance(entries, dict) else entries
        raise ArtifactManifestError(
            f"{path}: files lists {found}, expected {sorted(FILES)} and perhaps {', '.join(OPTIONAL_FILES)}"
        )
    return {name: _file(path, name, entry) for name, entry in entries.items()}


def _file(path: Path, name: str, entry: Any) -> FileEntry:
    fields = entry if isinstance(entry, dict) else {}
    sha256, size_bytes = fields.get("sha256"), fields.get("size_bytes")
    if not isinstance(sha256, str) or not _is_count(size_bytes):
        raise ArtifactManifestError(f"{path}: files.{name} is {entry!r}, expected sha256 and size_bytes")
    shape, dtype = fields.get("shape"), fields.get("dtype")
    if not (shape is None or (isinstance(shape, list) and all(map(_is_count, shape)))):
        raise ArtifactManifestError(f"{path}: files.{name}.shape is {shape!r}, expected sizes or null")
    if not (dtype is None or isinstance(dtype, str)):
        raise ArtifactManifestError(f"{path}: files.{name}.dtype is {dtype!r}, expected a string or null")
    return FileEntry(sha256, size_bytes, None if shape is None else tuple(shape), dtype)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
