"""Writing an artifact so that a half-written one can never be loaded."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from recjpq.artifact import manifest as names
from recjpq.artifact.golden import Golden
from recjpq.artifact.load import load_artifact, sha256_of
from recjpq.artifact.manifest import FileEntry, Manifest, ModelDescription
from recjpq.errors import ArtifactError, ArtifactExistsError

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def write_artifact(
    parent: Path,
    model: ModelDescription,
    *,
    encoder: bytes,
    recommender: bytes,
    item_codes: npt.NDArray[np.uint8],
    items: pa.Table,
    golden: Golden,
    sub_embeddings: npt.NDArray[np.float32] | None = None,
) -> Path:
    """Write `parent/<version>` and return its path.

    Everything goes into a hidden directory beside it, flushed to disk, the manifest last; then one rename
    makes it visible. A process killed at any moment leaves at most that hidden directory, which nothing
    loads and the next write of this version removes.

    Raises:
        ArtifactExistsError: the version is there already, or another process is writing it.
        ArtifactError: the version's name is not a safe directory name, or loading what was written is
            refused, with the error of `load_artifact`; nothing is published.
    """
    if not _VERSION.fullmatch(model.version):
        raise ArtifactError(
            f"version {model.version!r}: expected 1 to 128 letters, digits, dots, dashes or underscores, "
            "starting with a letter or digit"
        )
    with _publish(parent / model.version) as directory:
        (directory / names.ENCODER).write_bytes(encoder)
        (directory / names.RECOMMENDER).write_bytes(recommender)
        arrays: dict[str, npt.NDArray[Any]] = {names.ITEM_CODES: item_codes}
        if sub_embeddings is not None:
            arrays[names.SUB_EMBEDDINGS] = sub_embeddings
        for name, array in arrays.items():
            np.save(directory / name, np.ascontiguousarray(array), allow_pickle=False)
        pq.write_table(items, directory / names.ITEMS, compression="zstd")
        golden.save(directory / names.GOLDEN)
        files = {name: _entry(directory / name, arrays.get(name)) for name in {*names.FILES, *arrays}}
        for name in files:
            _sync(directory / name)
        (directory / names.MANIFEST).write_text(Manifest(model, files).to_json())
    return parent / model.version


@contextmanager
def _publish(path: Path) -> Iterator[Path]:
    """Yield a hidden sibling of `path` to fill; check it and rename it to `path` if the block ends well."""
    if path.exists():
        raise ArtifactExistsError(f"{path} exists and versions are immutable; choose another version")
    partial = path.with_name(f".{path.name}.partial")
    with _only_writer(partial):
        for leftover in partial.iterdir():  # of a writer that was killed
            leftover.unlink()
        try:
            yield partial
            _sync(partial / names.MANIFEST)
            _sync(partial)
            load_artifact(partial)  # what would be refused later is not published
            _rename(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _only_writer(directory: Path) -> Iterator[None]:
    """Make a directory and lock it; the lock goes with the process, however that ends."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ArtifactExistsError(f"{directory}: another process is writing this version") from error
    finally:
        os.close(descriptor)


def _rename(partial: Path, path: Path) -> None:
    try:
        partial.rename(path)
    except OSError as error:
        raise ArtifactExistsError(f"{path}: cannot be published ({error}); choose another version") from error
    _sync(path.parent)


def _entry(path: Path, array: npt.NDArray[Any] | None) -> FileEntry:
    entry = FileEntry(sha256_of(path), path.stat().st_size)
    return entry if array is None else replace(entry, shape=tuple(array.shape), dtype=str(array.dtype))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
