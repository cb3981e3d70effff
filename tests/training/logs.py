"""Logs that tests write as text, and what `prepare` makes of them."""

from pathlib import Path

import polars as pl

from training.config import DataConfig
from training.dataset import Dataset
from training.prepare import prepare


def prepare_text(
    tmp_path: Path,
    text: str,
    *,
    time_column: str | None = None,
    metadata: str | None = None,
    **options: object,
) -> Dataset:
    log = tmp_path / "log.csv"
    log.write_text(text)
    if metadata is not None:
        (tmp_path / "items.csv").write_text(metadata)
    config = DataConfig(
        interactions=log,
        time_column=time_column,
        metadata=tmp_path / "items.csv" if metadata else None,
        **options,
    )
    return prepare(config, tmp_path / "dataset")


def sequences(dataset: Dataset) -> list[list[str]]:
    ids = pl.read_parquet(dataset.path / "items.parquet")["item_id"].to_list()
    bounds = zip(dataset.offsets[:-1], dataset.offsets[1:], strict=True)
    return [[ids[i] for i in dataset.items[start:end]] for start, end in bounds]
