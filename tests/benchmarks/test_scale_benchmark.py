"""The made-up log: its sizes, its seed, and the report of what the stages take."""

import json
from pathlib import Path

import polars as pl
import pytest

from benchmarks import scale, synthetic_log
from benchmarks.synthetic_log import LogSizes, write_log

SIZES = LogSizes(users=200, items=300, interactions=3000, topics=10)


def test_the_log_has_its_sizes_and_is_a_function_of_the_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic_log, "ROWS_PER_GROUP", 500)
    paths = [tmp_path / f"{n}.parquet" for n in range(3)]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        write_log(path, LogSizes(**{name: getattr(SIZES, name) for name in SIZES.__slots__} | {"seed": seed}))
    logs = [pl.read_parquet(path) for path in paths]
    assert logs[0].equals(logs[1])
    assert not logs[0].equals(logs[2])
    assert len(logs[0]) == 3000
    assert logs[0]["user_id"].n_unique() == 200
    assert 200 < logs[0]["item_id"].n_unique() <= 300
    assert logs[0]["item_id"].max() < 300
    counts = logs[0].group_by("item_id").len().sort("len", descending=True)["len"]
    assert counts.head(30).sum() > 3 * counts.tail(30).sum()


def test_scale_measures_every_stage_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "scale.json"
    sizes = ["--users", "50", "--items", "80", "--interactions", "600", "--topics", "10", "--dim", "16"]
    monkeypatch.setattr(
        "sys.argv",
        [
            "scale",
            *sizes,
            "--methods",
            "svd",
            "--directory",
            str(tmp_path / "scale"),
            "--output",
            str(output),
        ],
    )
    assert scale.main() == 0
    results = json.loads(output.read_text())["results"]
    assert [result["stage"] for result in results] == ["generate", "prepare", "codes svd"]
    assert all(result["peak_rss_gib"] > 0 for result in results)
    assert [path.name for path in (tmp_path / "scale").iterdir()] == ["scale.toml"]
