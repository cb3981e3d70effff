"""The artifact, schema 1: a directory of checked files that training writes and serving loads."""

from recjpq.artifact.golden import Encode, Golden, replay
from recjpq.artifact.load import Artifact, find_artifact, load_artifact, sha256_of
from recjpq.artifact.manifest import SCHEMA_VERSION, Manifest, ModelDescription
from recjpq.artifact.write import write_artifact

__all__ = [
    "SCHEMA_VERSION",
    "Artifact",
    "Encode",
    "Golden",
    "Manifest",
    "ModelDescription",
    "find_artifact",
    "load_artifact",
    "replay",
    "sha256_of",
    "write_artifact",
]
