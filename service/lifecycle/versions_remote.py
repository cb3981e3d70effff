"""Versions in a remote location (S3, HTTP, whatever fsspec reads), copied here before they are loaded."""

import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

import fsspec

from recjpq.artifact import Manifest, load_artifact
from recjpq.errors import (
    ArtifactError,
    ArtifactIncompleteError,
    ArtifactManifestError,
    ArtifactNotFoundError,
)
from service.errors import LocationUnavailableError, SettingsError
from service.lifecycle.durable import locked, sync
from service.lifecycle.versions import MANIFEST, VERSION_PATTERN, Version, check_name, not_found, readable

INDEX = "versions.json"
"""Names the versions beside it, `{"versions": ["v1", "v2"]}`: HTTP has no directories to list."""

ANSWER_S = 10.0
"""How long a location may say nothing, neither to a connection nor between two pieces of a file."""
_TRIES = 2

_log = logging.getLogger(__name__)


class RemoteVersions:
    """Versions at a URL: one artifact, or several under a prefix; see `Versions`.

    A version is immutable, so a copy that was checked once is used from then on, also while the location
    does not answer. Processes that share the cache copy a version once.
    """

    def __init__(self, filesystem: Any, root: str, cache: Path) -> None:
        """Take a filesystem of fsspec, a path in it, and a directory for copies of this location alone."""
        self._fs = filesystem
        self._root = root.rstrip("/")
        self._cache = cache
        self._seen: dict[str, Version] = {}

    @classmethod
    def open(cls, url: str, cache: Path) -> Self:
        """Find the filesystem of a URL.

        Raises:
            SettingsError: there is none for its scheme, or what it needs is not installed.
        """
        try:
            filesystem, root = fsspec.core.url_to_fs(url, **_patience(url))
        except (ImportError, ValueError) as error:
            raise SettingsError(
                f"RECJPQ_MODEL_PATH: {error}; install recjpq[remote] for s3:// and http(s)://"
            ) from error
        if hasattr(filesystem, "retries"):
            filesystem.retries = _TRIES  # s3fs's own: each of five waits for the whole time
        return cls(filesystem, root, cache / hashlib.sha256(url.encode()).hexdigest()[:16])

    def known(self) -> list[Version]:
        """See `Versions.known`."""
        directories = self._directories()
        new = {f"{path}/{MANIFEST}": name for name, path in directories.items() if name not in self._seen}
        for path, content in self._read(list(new)).items():
            if (version := _described(content)) is not None and version.name == new[path]:
                self._seen[version.name] = version
            else:
                _log.warning("left out of the versions: %s is not the manifest of %r", MANIFEST, new[path])
        found = [self._seen[name] for name in directories if name in self._seen]
        return sorted(found, key=lambda version: version.age_key, reverse=True)

    def newest(self) -> str:
        """See `Versions.newest`."""
        if not (known := self.known()):
            raise ArtifactNotFoundError(
                "no finished artifact at RECJPQ_MODEL_PATH; export a model there first"
            )
        return known[0].name

    def fetch(self, name: str) -> Path:
        """See `Versions.fetch`."""
        check_name(name)
        copy = self._cache / name
        if not copy.is_dir():
            with self._only_one(name):
                if not copy.is_dir():  # else another process has just brought it
                    self._copy(name, copy)
        return copy

    def discard(self, name: str) -> None:
        """See `Versions.discard`."""
        with self._only_one(name):
            shutil.rmtree(self._cache / name, ignore_errors=True)

    def _copy(self, name: str, target: Path) -> None:
        if (source := self._directories().get(name)) is None:
            raise not_found(name)
        partial = target.with_name(f".{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        try:
            self._get(source, MANIFEST, partial)
            for file in Manifest.read(partial).files:
                self._get(source, file, partial)
            load_artifact(partial)
            for path in (*partial.iterdir(), partial):
                sync(path)
            partial.rename(target)
            sync(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _get(self, source: str, file: str, directory: Path) -> None:
        with _answering():
            try:
                self._fs.get_file(f"{source}/{file}", str(directory / file))
            except FileNotFoundError as error:
                raise ArtifactIncompleteError(
                    f"{directory}: there is no {file}, so this is no finished artifact; copy it there again"
                ) from error

    def _directories(self) -> dict[str, str]:
        """Return the path of every version by its name, finished or not."""
        manifest, index = f"{self._root}/{MANIFEST}", f"{self._root}/{INDEX}"
        found = self._read([manifest, index])
        if manifest in found:
            version = _described(found[manifest])
            return {} if version is None else {version.name: self._root}
        names = _indexed(found[index]) if index in found else self._listed()
        return {name: f"{self._root}/{name}" for name in names if re.fullmatch(VERSION_PATTERN, name)}

    def _listed(self) -> list[str]:
        if "http" in self._fs.protocol:
            raise ArtifactNotFoundError(
                f"neither {MANIFEST} nor {INDEX} at RECJPQ_MODEL_PATH; put a {INDEX} there"
            )
        with _answering():
            self._fs.invalidate_cache()
            try:
                entries = self._fs.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        return [e["name"].rstrip("/").rpartition("/")[2] for e in entries if e["type"] == "directory"]

    def _read(self, paths: list[str]) -> dict[str, bytes]:
        """Return the contents of those of some small files that are there."""
        if not paths:
            return {}
        with _answering():
            contents = self._fs.cat(paths, on_error="return")
            for content in contents.values():
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content
        return {path: content for path, content in contents.items() if isinstance(content, bytes)}

    def _only_one(self, name: str) -> AbstractContextManager[None]:
        """Wait until no other process copies this version."""
        return locked(self._cache / f".{name}.lock")


def _patience(url: str) -> dict[str, Any]:
    """Return a filesystem's options by which `ANSWER_S` holds; who else asks is left waiting for minutes."""
    scheme = url.partition("://")[0]
    if scheme == "s3":
        config = {"connect_timeout": ANSWER_S, "read_timeout": ANSWER_S, "retries": {"total_max_attempts": 1}}
        return {"config_kwargs": config}
    if scheme in ("http", "https"):
        import aiohttp  # noqa: PLC0415  # an extra

        # Not of the whole: a large file takes as long as it takes.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_S, sock_read=ANSWER_S)
        return {"client_kwargs": {"timeout": timeout}}
    return {}


@contextmanager
def _answering() -> Iterator[None]:
    """Turn whatever a filesystem raises into LocationUnavailableError; they have no common class."""
    try:
        yield
    except (ArtifactError, FileNotFoundError):
        raise
    except Exception as error:
        raise LocationUnavailableError(f"RECJPQ_MODEL_PATH: {type(error).__name__}: {error}") from error


def _described(content: bytes) -> Version | None:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / MANIFEST).write_bytes(content)
        versions = readable([Path(directory)], Manifest.read)
    return versions[0] if versions else None


def _indexed(content: bytes) -> list[str]:
    try:
        names = json.loads(content)["versions"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactManifestError(f'{INDEX}: expected {{"versions": ["v1", ...]}}') from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ArtifactManifestError(f'{INDEX}: expected {{"versions": ["v1", ...]}}, names of directories')
    return names
