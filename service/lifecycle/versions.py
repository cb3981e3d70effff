"""Where versions of the model are kept: an artifact, a directory of them, or a location that fsspec reads."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from recjpq.artifact import Manifest, find_artifact
from recjpq.errors import ArtifactError, ArtifactNotFoundError
from service.errors import VersionNotFoundError

VERSION_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$"
"""A version's name is also a directory's: no separator, and nothing hidden."""

MANIFEST = "manifest.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Version:
    """A finished version."""

    name: str
    created_at: str

    @property
    def age_key(self) -> tuple[datetime, str]:
        """Orders versions by creation time, then name."""
        return datetime.fromisoformat(self.created_at), self.name


class Versions(Protocol):
    """A place of versions; every method may wait for disks and networks, so call it off the event loop."""

    def known(self) -> list[Version]:
        """Return the finished versions, the newest first; unreadable ones are left out and logged."""
        ...

    def newest(self) -> str:
        """Return the name of the newest version.

        Raises:
            ArtifactError: there is none.
        """
        ...

    def fetch(self, name: str) -> Path:
        """Return the directory of a version on this machine.

        Raises:
            VersionNotFoundError: there is no such version.
            ArtifactError: what is there is unfinished or damaged; not everything need be checked.
            LocationUnavailableError: the location did not answer.
        """
        ...

    def discard(self, name: str) -> None:
        """Forget the local copy of a version that could not be loaded, if it is only a copy."""
        ...


def check_name(name: str) -> None:
    """Raise VersionNotFoundError for a name that no version can have."""
    if not re.fullmatch(VERSION_PATTERN, name):
        raise VersionNotFoundError("No version can have this name.")


def not_found(name: str) -> VersionNotFoundError:
    """Return the error for a version that is not there."""
    return VersionNotFoundError(f"There is no version {name!r}.")


class LocalVersions:
    """An artifact, or a directory of artifacts, on this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def known(self) -> list[Version]:
        """See `Versions.known`."""
        paths = [p.parent for p in self._manifests()]
        return sorted(readable(paths, Manifest.read), key=lambda version: version.age_key, reverse=True)

    def newest(self) -> str:
        """See `Versions.newest`."""
        return Manifest.read(find_artifact(self._path)).model.version

    def fetch(self, name: str) -> Path:
        """See `Versions.fetch`."""
        check_name(name)
        if not self._path.is_dir():
            raise ArtifactNotFoundError(
                f"{self._path}: no such directory; train a model and export it there first"
            )
        own = self._path / name
        if not (self._path / MANIFEST).exists() and own.is_dir():
            Manifest.read(own)  # refuses what is unfinished, by its own error
        for manifest in self._manifests():
            if [version.name for version in readable([manifest.parent], Manifest.read)] == [name]:
                return manifest.parent
        raise not_found(name)

    def discard(self, name: str) -> None:
        """Do nothing: these are the originals."""

    def _manifests(self) -> list[Path]:
        own = self._path / MANIFEST
        if own.exists():
            return [own]
        return [p for p in sorted(self._path.glob(f"*/{MANIFEST}")) if not p.parent.name.startswith(".")]


def readable(paths: list[Path], read: Callable[[Path], Manifest]) -> list[Version]:
    """Return what the manifests say; those that cannot be read are left out and logged."""
    versions = {}
    for path in paths:
        try:
            model = read(path).model
        except ArtifactError as error:
            _log.warning("left out of the versions: %s", error)
            continue
        versions[model.version] = Version(model.version, model.created_at)
    return list(versions.values())
