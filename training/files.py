"""Stage outputs on disk: complete or absent, and stamped with what they were made from."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.errors import StageError


def fingerprint(*parts: Any) -> str:
    """Return a hash of JSON-like values: equal exactly when every part is equal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def is_made_from(summary: Path, made_from: str) -> bool:
    """Whether a stage's summary is there and carries this fingerprint of the stage's inputs."""
    return (
        summary.exists() and json.loads(summary.read_text(encoding="utf-8")).get("fingerprint") == made_from
    )


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory; its files, flushed to disk, take the place of `path` when all ends well."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in partial.iterdir():
            _flush(file)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file completely or not at all."""
    with replacing_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
