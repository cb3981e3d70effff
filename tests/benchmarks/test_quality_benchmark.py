"""The table of quality: rows are trained once, read back, and a failed one is told and tried again."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import quality
from benchmarks.quality import BEGIN, END

SMALL = [
    "model.dim=16",
    "model.max_length=8",
    "codes.num_splits=2",
    "codes.num_sub_ids=8",
    "train.max_epochs=4",
    "train.batch_size=8",
    "train.learning_rate=0.02",
    "train.warmup_steps=0",
]


def _log(directory: Path) -> Path:
    """Write a log in which each item is followed by the next, so that a model beats popularity."""
    starts = np.random.default_rng(0).integers(0, 20, size=120)
    rows = [(user, (start + i) % 20, i) for user, start in enumerate(starts) for i in range(10)]
    path = directory / "log.parquet"
    pl.DataFrame(rows, schema=["user_id", "item_id", "position"], orient="row").write_parquet(path)
    return path


def test_rows_are_trained_once_and_a_failed_one_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs, docs = tmp_path / "runs", tmp_path / "docs.md"
    kept, renewed = "| SASRec | SVD | of another day |", "| GRU4Rec | SVD | of another day |"
    docs.write_text(f"before\n{BEGIN}\n{renewed}\n{kept}\n{END}\nafter\n")
    sets = [word for setting in SMALL for word in ("--set", setting)]
    common = [str(_log(tmp_path)), "--runs", str(runs), *sets]

    assert quality.main([*common, "--rows", "gru4rec-svd", "--seeds", "1", "2"]) == 0
    printed = capfd.readouterr().out
    assert printed.count("$ recjpq-train all --config training/configs/ml-1m-gru4rec-svd.toml") == 2
    (line,) = (line for line in printed.splitlines() if line.startswith("| GRU4Rec | SVD |"))
    assert "| 1: " in line
    assert ", 2: " in line

    # A row that fails is told; what is finished is not trained again.
    (runs / "gru4rec-random-1").write_text("no directory")
    arguments = ["--rows", "gru4rec-svd", "gru4rec-random", "--seeds", "1", "--docs", str(docs)]
    assert quality.main([*common, *arguments]) == 1
    printed, errors = capfd.readouterr()
    assert printed.count("$ recjpq-train all") == 1
    assert "gru4rec-random, seed 1: failed" in errors
    before, table, after = docs.read_text().partition(line)
    assert table
    assert before.startswith(f"before\n{BEGIN}\n")
    assert before.endswith(f"|\n{kept}\n")  # not measured here: it stays, and rows are in their order
    assert renewed not in docs.read_text()
    assert after.endswith(f"\n{END}\nafter\n")

    # What was made with other settings is no row of these, and stays.
    assert (
        quality.main([*common, "--set", "train.max_epochs=5", "--rows", "gru4rec-svd", "--seeds", "1"]) == 1
    )
    printed, errors = capfd.readouterr()
    assert "| GRU4Rec |" not in printed
    assert errors.count(f"{runs / 'gru4rec-svd-1'}: made with other settings; delete it") >= 1
    assert (runs / "gru4rec-svd-1" / "report.json").exists()


def test_every_row_names_a_configuration_that_is_there() -> None:
    for row in quality.ROWS:
        assert quality.Case(row, 42, Path("runs"), Path("log.parquet")).config.is_file()
