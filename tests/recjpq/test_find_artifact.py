"""Finding the newest artifact in a directory of versions."""

from pathlib import Path
from typing import Any

import pytest

from recjpq.artifact import find_artifact
from recjpq.errors import ArtifactNotFoundError


def test_a_path_to_an_artifact_is_that_artifact(tiny: Any, tmp_path: Path) -> None:
    path = tiny.write(tmp_path)
    assert find_artifact(path) == path


def test_the_newest_version_is_found_by_its_time_not_its_name(tiny: Any, tmp_path: Path) -> None:
    tiny.write(tmp_path, "z", "2026-01-30T00:00:00+00:00")
    newest = tiny.write(tmp_path, "m", "2026-01-31T00:00:00+00:00")
    tiny.write(tmp_path, "a", "2025-12-31T00:00:00+00:00")
    assert find_artifact(tmp_path) == newest


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5+00:00"),
        ("2026-01-31T12:00:00.5+00:00", "2026-01-31T12:00:01Z"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T11:00:00+00:00"),
    ],
)
def test_times_are_compared_as_times(tiny: Any, tmp_path: Path, older: str, newer: str) -> None:
    tiny.write(tmp_path, "b", older)
    assert find_artifact(tmp_path) == tmp_path / "b"
    tiny.write(tmp_path, "a", newer)
    assert find_artifact(tmp_path) == tmp_path / "a"


def test_of_two_versions_of_one_time_the_greater_name_is_found(tiny: Any, tmp_path: Path) -> None:
    tiny.write(tmp_path, "v2")
    tiny.write(tmp_path, "v1")
    assert find_artifact(tmp_path) == tmp_path / "v2"


def test_hidden_unfinished_and_other_directories_are_passed_over(tiny: Any, tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "v1")
    tiny.write(tmp_path, "v2", "2027-01-31T12:00:00+00:00").rename(tmp_path / ".v2.partial")
    (tmp_path / "v3").mkdir()
    (tmp_path / "manifest.txt").touch()
    assert find_artifact(tmp_path) == path


@pytest.mark.parametrize("path", ["nowhere", "empty", "file"])
def test_nothing_to_find(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactNotFoundError, match="train a model and export it there first"):
        find_artifact(tmp_path / path)
