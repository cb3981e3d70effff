"""The stage `prepare`: an interaction log to memory-mapped sequences and an item vocabulary."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from recjpq.artifact import sha256_of
from training.config import DataConfig
from training.dataset import DATASET, ITEM_TABLE, ITEMS, MICROSECONDS, OFFSETS, TIMES, USER_TABLE, Dataset
from training.errors import DataError
from training.files import fingerprint, is_made_from, replacing_directory, write_json

OWN_INTEGERS = "the log's own integers"
RESERVED_COLUMNS = ("item_id", "count")


def prepare(config: DataConfig, directory: Path) -> Dataset:
    """Write `directory` from the log, or keep it when it was made from the same bytes in the same way.

    Items are numbered in the order of their ids as text, users likewise; a user's rows are ordered by
    time, ties by their order in the file (the whole order is the file's where there is no time column).

    Raises:
        DataError: a file or column is missing, empty, holds nulls or empty ids, or a time cannot be read;
            the message names file, column and number of rows.
    """
    log_sha256 = _sha256(config.interactions)
    made_from = _made_from(config, log_sha256)
    if is_made_from(directory / DATASET, made_from):
        return Dataset.load(directory)
    log, time_unit = _read_log(config)
    item_table, warnings = _item_table(log, config)
    users = log.select("user").unique().sort("user")
    rows = _order(log, users, item_table)
    lengths = np.bincount(rows["user_index"].to_numpy(), minlength=len(users))
    single = int((lengths == 1).sum())
    if single:
        warnings.append(
            f"{config.interactions}: {single} of {len(users)} users have one event; "
            "they count for popularity, and are neither trained on nor evaluated"
        )
    summary = {
        "fingerprint": made_from,
        "source": config.interactions.name,
        "source_sha256": log_sha256,
        "users": len(users),
        "items": len(item_table),
        "interactions": len(rows),
        "mean_length": round(float(lengths.mean()), 2),
        "median_length": float(np.median(lengths)),
        "users_with_one_event": single,
        "has_times": config.time_column is not None,
        "time_unit": time_unit,
        "warnings": warnings,
    }
    with replacing_directory(directory) as partial:
        np.save(partial / ITEMS, rows["item_index"].to_numpy().astype(np.int32))
        np.save(partial / OFFSETS, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        if config.time_column is not None:
            np.save(partial / TIMES, rows["time"].to_numpy().astype(np.int64))
        item_table.write_parquet(partial / ITEM_TABLE)
        users.rename({"user": "user_id"}).write_parquet(partial / USER_TABLE)
        write_json(partial / DATASET, summary)
    return Dataset.load(directory)


def _made_from(config: DataConfig, log_sha256: str) -> str:
    columns = config.model_dump(mode="json", exclude={"interactions", "metadata"})
    metadata_sha256 = _sha256(config.metadata) if config.metadata else None
    return fingerprint("prepare 1", columns, log_sha256, metadata_sha256)


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return sha256_of(path)


def _scan(path: Path) -> pl.LazyFrame:
    readers: dict[str, Callable[[Path], pl.LazyFrame]] = {
        ".csv": pl.scan_csv,
        ".parquet": pl.scan_parquet,
        ".pq": pl.scan_parquet,
    }
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: found {path.suffix or 'no'} suffix, expected one of {', '.join(readers)}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    return readers[path.suffix.lower()](path)


def _read_log(config: DataConfig) -> tuple[pl.DataFrame, str | None]:
    """Return columns user, item (text) and time (int64), one row per interaction in the file's order.

    The second value is the unit of the times, None where there are none.
    """
    path = config.interactions
    names = {"user": config.user_column, "item": config.item_column}
    if config.time_column is not None:
        names["time"] = config.time_column
    frame = _select(path, names)
    if frame.is_empty():
        raise DataError(f"{path}: found 0 rows, expected at least one interaction")
    for column, name in names.items():
        _refuse_nulls(path, name, frame[column])
    columns = [_as_text(path, names[column], frame[column]) for column in ("user", "item")]
    if config.time_column is None:
        return pl.DataFrame([*columns, pl.Series("time", np.zeros(len(frame), dtype=np.int64))]), None
    times, unit = _as_time(path, config.time_column, frame["time"])
    return pl.DataFrame([*columns, times]), unit


def _select(path: Path, names: dict[str, str]) -> pl.DataFrame:
    try:
        frame = _scan(path)
        found = frame.collect_schema().names()
        for name in names.values():
            if name not in found:
                raise DataError(f"{path}: no column {name!r}, found {', '.join(found)}")
        return frame.select(pl.col(name).alias(column) for column, name in names.items()).collect()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _refuse_nulls(path: Path, name: str, column: pl.Series) -> None:
    nulls = column.is_null()
    if column.dtype.is_float():
        nulls |= column.is_nan()
    if count := int(nulls.sum()):
        first = int(nulls.arg_max() or 0) + 1
        raise DataError(
            f"{path}: column {name!r} is null in {count} of {len(column)} rows (first: row {first}); "
            "expected a value in each, remove or repair these rows"
        )


def _as_text(path: Path, name: str, column: pl.Series) -> pl.Series:
    if not (column.dtype.is_integer() or column.dtype in {pl.String, pl.Categorical, pl.Enum}):
        raise DataError(f"{path}: column {name!r} is {column.dtype}, expected text or integers as ids")
    text = column.cast(pl.String)
    if empty := int((text.str.len_bytes() == 0).sum()):
        raise DataError(
            f"{path}: column {name!r} is the empty text in {empty} of {len(text)} rows, expected an id"
        )
    return text


def _as_time(path: Path, name: str, column: pl.Series) -> tuple[pl.Series, str]:
    """Return int64 that orders as the column does, with its unit: microseconds, or the log's own integers."""
    if column.dtype.is_integer():
        return column.cast(pl.Int64), OWN_INTEGERS
    if column.dtype.is_float():  # fractional epoch seconds: microseconds keep their order
        return (column * 1e6).round().cast(pl.Int64), MICROSECONDS
    if column.dtype.is_temporal() and column.dtype not in {pl.Duration, pl.Time}:
        return column.cast(pl.Datetime("us")).cast(pl.Int64), MICROSECONDS
    if column.dtype != pl.String:
        raise DataError(
            f"{path}: column {name!r} is {column.dtype}, expected numbers, dates or ISO 8601 text"
        )
    frame = column.to_frame("text").with_columns(
        number=pl.col("text").cast(pl.Int64, strict=False),
        date=pl.col("text").str.to_datetime(time_unit="us", time_zone="UTC", strict=False).cast(pl.Int64),
    )
    whole = frame["number"].null_count() == 0
    parsed = frame["number"] if whole else frame["date"]
    if count := parsed.null_count():
        row = int(parsed.is_null().arg_max() or 0)
        raise DataError(
            f"{path}: column {name!r} holds no readable time in {count} of {len(column)} rows "
            f"(first: row {row + 1}, {column[row]!r}); expected integers or ISO 8601 text"
        )
    return parsed.alias("time"), OWN_INTEGERS if whole else MICROSECONDS


def _item_table(log: pl.DataFrame, config: DataConfig) -> tuple[pl.DataFrame, list[str]]:
    """Return item_id, count and the metadata columns, in the order of item indices, with warnings."""
    items = (
        log.group_by("item")
        .len("count")
        .sort("item")
        .select(item_id="item", count=pl.col("count").cast(pl.Int64))
    )
    if config.metadata is None:
        return items, []
    path, key = config.metadata, config.metadata_item_column
    metadata = _read_metadata(path, key)
    unused = metadata.join(items, left_on=key, right_on="item_id", how="anti").height
    missing = items.join(metadata, left_on="item_id", right_on=key, how="anti").height
    warnings = []
    if missing:
        warnings.append(
            f"{path}: {missing} of {len(items)} items of the log have no row; their metadata is null"
        )
    if unused:
        warnings.append(
            f"{path}: {unused} of {len(metadata)} rows name items that the log does not have; not used"
        )
    return items.join(metadata, left_on="item_id", right_on=key, how="left", maintain_order="left"), warnings


def _read_metadata(path: Path, key: str) -> pl.DataFrame:
    try:
        metadata = _scan(path).collect()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if key not in metadata.columns:
        raise DataError(f"{path}: no column {key!r}, found {', '.join(metadata.columns)}")
    if taken := [name for name in metadata.columns if name in RESERVED_COLUMNS and name != key]:
        raise DataError(f"{path}: column {taken[0]!r} is a reserved name; rename it")
    _refuse_nulls(path, key, metadata[key])
    metadata = metadata.with_columns(_as_text(path, key, metadata[key]))
    if repeated := len(metadata) - metadata[key].n_unique():
        raise DataError(
            f"{path}: column {key!r} repeats an item in {repeated} rows, expected one row per item"
        )
    return metadata


def _order(log: pl.DataFrame, users: pl.DataFrame, item_table: pl.DataFrame) -> pl.DataFrame:
    """Return user_index, item_index and time, by user, then time, then the file's order."""
    return (
        log.with_row_index("row")
        .join(users.with_row_index("user_index"), on="user", how="left")
        .join(
            item_table.select("item_id").with_row_index("item_index"),
            left_on="item",
            right_on="item_id",
            how="left",
        )
        .select("user_index", "item_index", "time", "row")
        .sort("user_index", "time", "row")
    )
