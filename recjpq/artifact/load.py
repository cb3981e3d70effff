"""Loading an artifact: everything is checked before anything is used."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recjpq.artifact import manifest as names
from recjpq.artifact.golden import Golden
from recjpq.artifact.manifest import FileEntry, Manifest, ModelDescription
from recjpq.catalogue import Catalogue
from recjpq.errors import (
    ArtifactChecksumError,
    ArtifactCodeRangeError,
    ArtifactDtypeError,
    ArtifactFileMissingError,
    ArtifactNotFoundError,
    ArtifactShapeError,
    ArtifactSizeError,
)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model whose files have all been checked; the graphs and golden histories are yet to be replayed.

    Attributes:
        path: its directory.
        manifest: what it says of itself.
        catalogue: its items; the codes are memory-mapped, so that processes share them.
        golden: histories to replay (`recjpq.artifact.replay`) before serving.
        sub_embeddings: the model's input and output embedding, float32 (M, V, W), memory-mapped: W = D where
            an item is their sum, W = D/M where they stand end to end. None if the artifact is older.
    """

    path: Path
    manifest: Manifest
    catalogue: Catalogue
    golden: Golden
    sub_embeddings: npt.NDArray[np.float32] | None = None

    @property
    def encoder_path(self) -> Path:
        """The graph from codes to score tables."""
        return self.path / names.ENCODER

    @property
    def recommender_path(self) -> Path:
        """The graph from item indices to top-k."""
        return self.path / names.RECOMMENDER


def find_artifact(path: Path) -> Path:
    """Return `path` if it is an artifact, else the newest version in it (by creation time, then name).

    Raises:
        ArtifactNotFoundError: there is no such directory, or no finished artifact in it.
        ArtifactManifestError, ArtifactSchemaError: a version's manifest cannot be read.
    """
    if not path.is_dir():
        raise ArtifactNotFoundError(f"{path}: no such directory; train a model and export it there first")
    if (path / names.MANIFEST).exists():
        return path
    versions = [p.parent for p in path.glob(f"*/{names.MANIFEST}") if not p.parent.name.startswith(".")]
    if not versions:
        raise ArtifactNotFoundError(f"{path}: no artifact here; train a model and export it there first")
    return max(versions, key=_age_key)


def _age_key(version: Path) -> tuple[datetime, str]:
    return datetime.fromisoformat(Manifest.read(version).model.created_at), version.name


def load_artifact(path: Path) -> Artifact:
    """Load the artifact at `path`, refusing it with one error per way in which it can be wrong.

    Raises:
        ArtifactError: one of its subclasses (see `recjpq.errors`).
        CatalogueError: `items.parquet` is not a catalogue.
    """
    if not path.is_dir():
        raise ArtifactNotFoundError(f"{path}: no such directory; train a model and export it there first")
    manifest = Manifest.read(path)
    for name, entry in manifest.files.items():
        _check_file(path / name, entry)
    item_codes = _load_codes(path / names.ITEM_CODES, manifest.model)
    golden = Golden.load(path / names.GOLDEN)
    _check_golden(path / names.GOLDEN, golden, manifest.model)
    sub_embeddings = None
    if names.SUB_EMBEDDINGS in manifest.files:
        sub_embeddings = _load_sub_embeddings(path / names.SUB_EMBEDDINGS, manifest.model)
    catalogue = Catalogue.load(path / names.ITEMS, item_codes)
    return Artifact(path, manifest, catalogue, golden, sub_embeddings)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise ArtifactFileMissingError(f"{path}: missing, the manifest lists it; copy the artifact again")
    if (size_bytes := path.stat().st_size) != entry.size_bytes:
        raise ArtifactSizeError(
            f"{path}: found {size_bytes} bytes, expected {entry.size_bytes}; copy the artifact again"
        )
    if (sha256 := sha256_of(path)) != entry.sha256:
        raise ArtifactChecksumError(
            f"{path}: found sha256 {sha256}, expected {entry.sha256}; copy the artifact again"
        )


def _load_array(path: Path, dtype: type[np.generic]) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")  # refuses pickles
    except ValueError as error:
        raise ArtifactDtypeError(f"{path}: not a NumPy array file ({error})") from error
    if array.dtype != dtype:
        raise ArtifactDtypeError(f"{path}: found dtype {array.dtype}, expected {np.dtype(dtype)}")
    return array


def _load_codes(path: Path, model: ModelDescription) -> npt.NDArray[np.uint8]:
    codes = _load_array(path, np.uint8)
    if codes.shape != (model.num_items, model.num_splits):
        raise ArtifactShapeError(
            f"{path}: found shape {codes.shape}, the manifest says ({model.num_items}, {model.num_splits})"
        )
    if (largest := int(codes.max())) >= model.num_sub_ids:
        raise ArtifactCodeRangeError(
            f"{path}: found sub-id {largest}, expected less than V={model.num_sub_ids}"
        )
    return codes


def _load_sub_embeddings(path: Path, model: ModelDescription) -> npt.NDArray[np.float32]:
    sub_embeddings = _load_array(path, np.float32)
    shape, M, V = sub_embeddings.shape, model.num_splits, model.num_sub_ids
    if shape[:-1] != (M, V) or model.dim not in {shape[-1], shape[-1] * M}:
        raise ArtifactShapeError(
            f"{path}: found shape {shape}, the manifest says ({M}, {V}, W), W being D={model.dim} or D/M"
        )
    if not np.isfinite(sub_embeddings).all():
        raise ArtifactDtypeError(f"{path}: found NaN or infinity, expected finite float32")
    return sub_embeddings


def _check_golden(path: Path, golden: Golden, model: ModelDescription) -> None:
    count, length = golden.histories.shape
    shapes_agree = (
        1 <= length <= model.max_length
        and golden.lengths.shape == (count,)
        and golden.score_tables.shape == (count, model.num_splits, model.num_sub_ids)
        and golden.top_ids.shape == golden.top_scores.shape
        and golden.top_ids.shape[0] == count
        and golden.top_ids.size > 0
    )
    if not shapes_agree:
        raise ArtifactShapeError(
            f"{path}: the arrays are empty, or do not fit each other or the manifest's L, M and V"
        )
    indices_agree = golden.histories.min() >= 0 and golden.histories.max() < model.num_items
    if not indices_agree or golden.lengths.min() < 1 or golden.lengths.max() > length:
        raise ArtifactShapeError(f"{path}: a history holds an item index or length out of range")
