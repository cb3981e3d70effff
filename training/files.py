"""Stage outputs on disk: complete or absent, and stamped with what they were made from."""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.errors import StageError


def fingerprint(*parts: Any) -> str:
    """Return a hash of JSON-like values: equal exactly when every part is equal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def is_made_from(summary: Path, made_from: str) -> bool:
    """Whether a stage's summary is there and carries this fingerprint of the stage's inputs."""
    try:
        found = json.loads(summary.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # not made yet, or damaged: it is made anew
        return False
    return isinstance(found, dict) and found.get("fingerprint") == made_from


@contextmanager
def replacing_directory(path: Path, own: Collection[str]) -> Iterator[Path]:
    """Yield an empty directory; its files, flushed to disk, take the place of `path` when all ends well.

    Raises:
        StageError: `path` holds something that is not among the stage's `own` files and would be lost.
    """
    strangers = sorted({each.name for each in path.iterdir()} - set(own)) if path.exists() else []
    if strangers:
        raise StageError(
            f"{path}: found {', '.join(strangers[:3])}{', ...' if len(strangers) > 3 else ''}, expected only "
            "what this stage writes; move them away, or choose another run.directory"
        )
    partial, old = (path.with_name(f".{path.name}.{kind}") for kind in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in partial.iterdir():
            _flush(file)
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a path to write; flushed to disk and renamed to `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        _flush(partial)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def read_json(path: Path, made_by: str) -> dict[str, Any]:
    """Read a stage's JSON file; raises StageError naming the verb that makes it when it is missing."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StageError(f"{path}: missing; run `recjpq-train {made_by}` first") from error
    except ValueError as error:
        raise StageError(f"{path}: not valid JSON ({error}); run `recjpq-train {made_by}` again") from error
    return content


def read_array(path: Path, made_by: str, *, mapped: bool = True) -> npt.NDArray[Any]:
    """Read or map a stage's array; raises StageError naming the verb that makes it when that cannot be."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None)
    except (FileNotFoundError, ValueError, EOFError) as error:
        raise StageError(
            f"{path}: missing or damaged ({error}); delete {path.parent} and run `recjpq-train {made_by}`"
        ) from error
    return array


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file completely or not at all."""
    with replacing_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
