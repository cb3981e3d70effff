"""The stage `prepare`: an interaction log to memory-mapped sequences and an item vocabulary."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from recjpq.artifact import sha256_of
from training.config import DataConfig
from training.dataset import (
    DATASET,
    FILES,
    ITEM_TABLE,
    ITEMS,
    MICROSECONDS,
    OFFSETS,
    TIMES,
    USER_TABLE,
    Dataset,
)
from training.errors import DataError
from training.files import fingerprint, is_made_from, replacing_directory, write_json
from training.tables import as_text, collect, read_table, refuse_malformed, refuse_nulls, scan

OWN_INTEGERS = "the log's own integers"
RESERVED_COLUMNS = ("item_id", "count")
ISO_DATE = r"^\d{4}-\d{1,2}-\d{1,2}(?:[T ]|$)"  # polars guesses at any other, 01/02/2026 as in February
READABLE_TIMES = (
    "integers, or ISO 8601 text such as 2026-11-24 or 2026-11-24T18:30:00Z; for dates in another form set "
    'data.time_format, such as "%d/%m/%Y" where 24/11/2026 is in November'
)
SECONDS = -62_135_596_800.0, 253_402_300_799.0  # the years 1 to 9999
FRACTIONAL_SECONDS = (
    "seconds since 1970 where numbers have a fraction; of any other unit integers, such as 1600000000000 and "
    "not 1600000000000.0"
)
MAX_ID_LENGTH = 256
UNSERVABLE = r"[\x00-\x1f\x7f-\x{9f}\x{fffd}]"
CHUNK = 2**24  # rows whose ids are looked up at once


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
    log = _read_log(config)
    _refuse_unservable(config, log.item_ids)
    item_table, warnings = _item_table(log, config)
    order = _order(log.users, log.times)
    lengths = np.bincount(log.users, minlength=len(log.user_ids))
    single = int((lengths == 1).sum())
    if single:
        warnings.append(
            f"{config.interactions}: {single} of {len(lengths)} users have one event; "
            "they count for popularity, and are neither trained on nor evaluated"
        )
    summary = {
        "fingerprint": made_from,
        "interactions_fingerprint": _interactions_from(config, log_sha256),
        "source": config.interactions.name,
        "source_sha256": log_sha256,
        "users": len(lengths),
        "items": len(item_table),
        "interactions": len(order),
        "mean_length": round(float(lengths.mean()), 2),
        "median_length": float(np.median(lengths)),
        "users_with_one_event": single,
        "has_times": config.time_column is not None,
        "time_unit": log.time_unit,
        "warnings": warnings,
    }
    with replacing_directory(directory, FILES) as partial:
        np.save(partial / ITEMS, log.items[order])
        np.save(partial / OFFSETS, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        if log.times is not None:
            np.save(partial / TIMES, log.times[order])
        item_table.write_parquet(partial / ITEM_TABLE)
        log.user_ids.to_frame("user_id").write_parquet(partial / USER_TABLE)
        write_json(partial / DATASET, summary)
    return Dataset.load(directory)


def _interactions_from(config: DataConfig, log_sha256: str) -> str:
    read = {"user_column", "item_column", "time_column", "time_format"}
    return fingerprint("interactions 1", config.model_dump(mode="json", include=read), log_sha256)


def _made_from(config: DataConfig, log_sha256: str) -> str:
    absent = set() if config.list_columns else {"list_columns", "list_separator"}
    absent |= set() if config.time_format else {"time_format"}
    columns = config.model_dump(mode="json", exclude={"interactions", "metadata", *absent})
    metadata_sha256 = _sha256(config.metadata) if config.metadata else None
    return fingerprint("prepare 1", columns, log_sha256, metadata_sha256)


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return sha256_of(path)


@dataclass(frozen=True, slots=True)
class _Log:
    """The log in the file's order: 16 bytes a row, whatever its ids are.

    Attributes:
        user_ids, item_ids: text, ascending.
        users, items: the positions in them, int32 (rows,).
        times: int64 (rows,), or None. time_unit: theirs, or None.
    """

    user_ids: pl.Series
    item_ids: pl.Series
    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    times: npt.NDArray[np.int64] | None
    time_unit: str | None


def _read_log(config: DataConfig) -> _Log:
    """Read one column after another, so that no more than one is there in the file's own form."""
    path = config.interactions
    ids = [config.user_column, config.item_column]
    names = [*ids, config.time_column] if config.time_column else ids
    columns = _columns(path, names, ids, texts=names[2:] if config.time_format else ())
    user_ids, users = _index(path, config.user_column, next(columns))
    item_ids, items = _index(path, config.item_column, next(columns))
    if config.time_column is None:
        return _Log(user_ids, item_ids, users, items, None, None)
    times, unit = _as_time(path, next(columns), config.time_format)
    return _Log(user_ids, item_ids, users, items, times.to_numpy(), unit)


def _columns(
    path: Path, names: Sequence[str], ids: Collection[str], texts: Collection[str]
) -> Iterator[pl.Series]:
    """Read columns one by one, some of which are ids, or text; raises DataError if one lacks, or is null."""
    try:
        found = scan(path).collect_schema().names()
        for name in names:
            if name not in found:
                raise DataError(f"{path}: no column {name!r}, found {', '.join(found)}")
        refuse_malformed(path)
        for name in names:
            column = collect(path, name, ids=ids, texts=texts)[name]
            if column.is_empty():
                raise DataError(f"{path}: found 0 rows, expected at least one interaction")
            refuse_nulls(path, name, column)
            yield column
            del column  # before the next one is read
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _index(path: Path, name: str, column: pl.Series) -> tuple[pl.Series, npt.NDArray[np.int32]]:
    """Return the distinct ids as text, ascending, and each row's position among them."""
    if not column.dtype.is_integer():
        column = as_text(path, name, column)
    distinct = column.unique()
    table = pl.DataFrame({"key": distinct, "id": as_text(path, name, distinct)}).sort("id")
    table = table.with_columns(position=pl.int_range(len(table), dtype=pl.Int32))
    positions = np.empty(len(column), dtype=np.int32)
    for begin in range(0, len(column), CHUNK):
        keys = column.slice(begin, CHUNK).to_frame("key")
        joined = keys.join(table.select("key", "position"), on="key", how="left", maintain_order="left")
        positions[begin : begin + CHUNK] = joined["position"].to_numpy()
    return table["id"], positions


def _refuse_unservable(config: DataConfig, item_ids: pl.Series) -> None:
    """Refuse ids that the service would not understand in a request."""
    wrong = (item_ids.str.len_chars() > MAX_ID_LENGTH) | item_ids.str.contains(UNSERVABLE)
    if wrong.any():
        first = item_ids[int(wrong.arg_max() or 0)]
        raise DataError(
            f"{config.interactions}: column {config.item_column!r} has {int(wrong.sum())} ids that cannot be "
            f"served (first: {first[:80]!r}); expected at most {MAX_ID_LENGTH} characters, none of them a "
            "tab, a line break or another control character"
        )


def _as_time(path: Path, column: pl.Series, time_format: str | None) -> tuple[pl.Series, str]:
    """Return int64 that orders as the column does, with its unit: microseconds, or the log's own integers."""
    if time_format is not None:
        return _by_format(path, column, time_format), MICROSECONDS
    if column.dtype.is_integer():
        numbers = column.cast(pl.Int64, strict=False)
        _refuse_unread(path, column, numbers.is_not_null(), "integers of 64 bits, signed")
        return numbers, OWN_INTEGERS
    if column.dtype.is_float():  # fractional epoch seconds: microseconds keep their order
        _refuse_unread(path, column, column.is_between(*SECONDS), FRACTIONAL_SECONDS)
        return (column * 1e6).round().cast(pl.Int64), MICROSECONDS
    if column.dtype.is_temporal() and column.dtype not in {pl.Duration, pl.Time}:
        return column.cast(pl.Datetime("us")).cast(pl.Int64), MICROSECONDS
    if column.dtype != pl.String:
        raise DataError(
            f"{path}: column {column.name!r} is {column.dtype}, expected numbers, dates or ISO 8601 text"
        )
    numbers = column.cast(pl.Int64, strict=False)
    if numbers.null_count() == 0:
        return numbers, OWN_INTEGERS
    _refuse_unread(path, column, column.str.contains(ISO_DATE) | numbers.is_not_null(), READABLE_TIMES)
    times = column.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    alike = f"{READABLE_TIMES}; all of one kind, with an offset from UTC in all rows or in none"
    _refuse_unread(path, column, times.is_not_null(), alike)
    return times.cast(pl.Int64), MICROSECONDS


def _by_format(path: Path, column: pl.Series, time_format: str) -> pl.Series:
    if not (column.dtype.is_integer() or column.dtype == pl.String):
        raise DataError(
            f"{path}: column {column.name!r} is {column.dtype}, expected text to read by data.time_format, "
            f"which is {time_format!r}; leave it out"
        )
    text = column.cast(pl.String)
    known = time_format.replace(".%f", "%.f")  # Python's form; polars would take 5 tenths for 5 ns
    if "%f" in known:
        raise DataError(f"data.time_format is {time_format!r}: %f can only follow a point, as in %S.%f")
    try:
        times = text.str.to_datetime(known, time_unit="us", time_zone="UTC", strict=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"data.time_format is {time_format!r}, which no time can have ({error})") from error
    _refuse_unread(path, text, times.is_not_null(), f"text of the form {time_format!r} (data.time_format)")
    return times.cast(pl.Int64)


def _refuse_unread(path: Path, column: pl.Series, read: pl.Series, expected: str) -> None:
    if read.all():
        return
    row = int(read.arg_min() or 0)
    raise DataError(
        f"{path}: column {column.name!r} holds no readable time in {int((~read).sum())} of {len(column)} "
        f"rows (first: row {row + 1}, {column[row]!r}); expected {expected}"
    )


def _item_table(log: _Log, config: DataConfig) -> tuple[pl.DataFrame, list[str]]:
    """Return item_id, count and the metadata columns, in the order of item indices, with warnings."""
    items = pl.DataFrame({"item_id": log.item_ids, "count": np.bincount(log.items).astype(np.int64)})
    if config.metadata is None:
        return items, []
    path, key = config.metadata, config.metadata_item_column
    metadata = _with_lists(path, _read_metadata(path, key), config)
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
    metadata = _with_leading_zeros(path, read_table(path, ids=[key]))
    if key not in metadata.columns:
        raise DataError(f"{path}: no column {key!r}, found {', '.join(metadata.columns)}")
    if taken := [name for name in metadata.columns if name in RESERVED_COLUMNS and name != key]:
        raise DataError(f"{path}: column {taken[0]!r} is a reserved name; rename it")
    refuse_nulls(path, key, metadata[key])
    metadata = metadata.with_columns(as_text(path, key, metadata[key]))
    if repeated := len(metadata) - metadata[key].n_unique():
        raise DataError(
            f"{path}: column {key!r} repeats an item in {repeated} rows, expected one row per item"
        )
    return metadata


def _with_leading_zeros(path: Path, metadata: pl.DataFrame) -> pl.DataFrame:
    """Keep columns of a CSV as text in which 0012 is written: an article number, and not 12."""
    numbers = [name for name, dtype in metadata.schema.items() if dtype.is_integer()]
    if path.suffix.lower() != ".csv" or not numbers:
        return metadata
    written = pl.scan_csv(path, infer_schema=False).select(numbers).collect()
    return metadata.with_columns(
        written[name] for name in numbers if written[name].str.contains(r"^[+-]?0\d").any()
    )


def _with_lists(path: Path, metadata: pl.DataFrame, config: DataConfig) -> pl.DataFrame:
    """Split the list columns' text: list<string>, without blanks and empty values; what is a list stays."""
    for name in config.list_columns:
        if name not in metadata.columns:
            raise DataError(
                f"{path}: no column {name!r} (data.list_columns), found {', '.join(metadata.columns)}"
            )
        dtype = metadata[name].dtype
        if dtype not in (pl.String, pl.List, pl.Null):
            raise DataError(f"{path}: column {name!r} (data.list_columns) is {dtype}, expected text")
    values = pl.element().str.strip_chars()
    return metadata.with_columns(
        pl.col(name).cast(pl.String).str.split(config.list_separator).list.eval(values.filter(values != ""))
        for name in config.list_columns
        if metadata[name].dtype != pl.List
    )


def _order(users: npt.NDArray[np.int32], times: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
    """Return the rows by user, then time, then the file's order, int64 (rows,), for less than 2^32 rows."""
    by_time = None
    if times is not None and (times[1:] < times[:-1]).any():
        by_time = np.argsort(times, kind="stable")
        users = users[by_time]
    keys = users.astype(np.int64) << 32  # a sort of one integer is the fastest there is, and in place
    keys |= np.arange(len(keys))
    keys.sort()
    keys &= 2**32 - 1
    return keys if by_time is None else by_time[keys]
