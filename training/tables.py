"""CSV and Parquet files as they are written: whole rows, ids that are text, clear errors."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import polars as pl

from training.errors import DataError


def scan(path: Path) -> pl.LazyFrame:
    """Open a file by its suffix; raises DataError when it is not there, empty or of another kind."""
    readers: dict[str, Callable[[Path], pl.LazyFrame]] = {
        ".csv": pl.scan_csv,
        ".parquet": pl.scan_parquet,
        ".pq": pl.scan_parquet,
    }
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: found {path.suffix or 'no'} suffix, expected one of {', '.join(readers)}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    return readers[path.suffix.lower()](path)


def collect(path: Path, *names: str, ids: Collection[str] = (), texts: Collection[str] = ()) -> pl.DataFrame:
    """Read columns, by default all; of a CSV ids that are integers, and texts, as they are written.

    007 is not 7, and 01112026 is a day. A fraction stays one: it is no id.
    """
    frame = _as_inferred(path, names or pl.all())
    types = frame.schema
    written = [name for name in ids if name in types and types[name].is_integer()]
    written += [name for name in texts if name in types and types[name].is_numeric()]
    if not written or path.suffix.lower() != ".csv":
        return frame
    overrides = dict.fromkeys(written, pl.String)
    return frame.with_columns(pl.scan_csv(path, schema_overrides=overrides).select(written).collect())


def _as_inferred(path: Path, columns: Sequence[str] | pl.Expr) -> pl.DataFrame:
    try:
        return scan(path).select(columns).collect()
    except pl.exceptions.ComputeError:
        if path.suffix.lower() != ".csv":
            raise
    # The first rows say what a column is, and a later one did not agree: look at all of them.
    return pl.scan_csv(path, infer_schema_length=None).select(columns).collect()


def refuse_malformed(path: Path) -> None:
    """Refuse a CSV with a row that is not of the header's columns: reading a few of them would hide it."""
    if path.suffix.lower() != ".csv":
        return
    rows = pl.scan_csv(path, infer_schema=False, encoding="utf8-lossy")
    try:
        rows.select(pl.all().null_count()).collect(engine="streaming")
    except pl.exceptions.ComputeError as error:
        raise DataError(
            f"{path}: a row has more fields than the header, or a quote that does not end; put fields that "
            'hold commas or quotes between quotes, and write a quote inside twice ("12"" vinyl")'
        ) from error


def refuse_nulls(path: Path, name: str, column: pl.Series) -> None:
    """Raise DataError, with the number of rows and the first, if a value is missing."""
    nulls = column.is_null()
    if column.dtype.is_float():
        nulls |= column.is_nan()
    if count := int(nulls.sum()):
        first = int(nulls.arg_max() or 0) + 1
        raise DataError(
            f"{path}: column {name!r} is null in {count} of {len(column)} rows (first: row {first}); "
            "expected a value in each, remove or repair these rows"
        )


def as_text(path: Path, name: str, column: pl.Series) -> pl.Series:
    """Return ids, text or integers, as text; raises DataError for another type, or if one is empty."""
    if not (column.dtype.is_integer() or column.dtype in {pl.String, pl.Categorical, pl.Enum}):
        raise DataError(f"{path}: column {name!r} is {column.dtype}, expected text or integers as ids")
    text = column.cast(pl.String)
    empty = text.str.len_bytes() == 0
    if empty.any():
        raise DataError(
            f"{path}: column {name!r} is the empty text in {int(empty.sum())} of {len(text)} rows (first: "
            f"row {int(empty.arg_max() or 0) + 1}), expected an id"
        )
    return text


def read_table(path: Path, *, ids: Collection[str] = ()) -> pl.DataFrame:
    """Read a whole CSV or Parquet file, some columns of which are ids; raises DataError when it cannot be."""
    try:
        column_names(path)  # refuses what is no such file
        refuse_malformed(path)
        return collect(path, ids=ids)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def as_ids(path: Path, column: pl.Series) -> pl.Series:
    """Return a table's column of ids as text; raises DataError if one is missing or empty."""
    refuse_nulls(path, column.name, column)
    return as_text(path, column.name, column)


def column_names(path: Path) -> list[str]:
    """Return the columns of a CSV or Parquet file; raises DataError when it cannot be read."""
    try:
        return scan(path).collect_schema().names()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
