"""`prepare`: what a log becomes, and what it says of a log that it cannot use."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from training.config import DataConfig
from training.dataset import Dataset
from training.errors import DataError
from training.prepare import prepare


def _prepare(
    tmp_path: Path,
    text: str,
    *,
    time_column: str | None = None,
    metadata: str | None = None,
    list_columns: dict[str, str] | None = None,
) -> Dataset:
    log = tmp_path / "log.csv"
    log.write_text(text)
    if metadata is not None:
        (tmp_path / "items.csv").write_text(metadata)
    config = DataConfig(
        interactions=log,
        time_column=time_column,
        metadata=tmp_path / "items.csv" if metadata else None,
        list_columns=list_columns or {},
    )
    return prepare(config, tmp_path / "dataset")


def _sequences(dataset: Dataset) -> list[list[str]]:
    ids = pl.read_parquet(dataset.path / "items.parquet")["item_id"].to_list()
    bounds = zip(dataset.offsets[:-1], dataset.offsets[1:], strict=True)
    return [[ids[i] for i in dataset.items[start:end]] for start, end in bounds]


def test_sequences_are_contiguous_in_time_order_and_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    text = "user_id,item_id,t\nb,x,5\na,z,2\nb,y,1\na,w,2\na,x,1\n"
    dataset = _prepare(tmp_path, text, time_column="t")
    assert _sequences(dataset) == [["x", "z", "w"], ["y", "x"]]
    assert dataset.items.dtype == np.int32
    assert isinstance(dataset.items, np.memmap)


def test_without_a_time_column_the_order_of_the_file_stands_in(tmp_path: Path) -> None:
    dataset = _prepare(tmp_path, "user_id,item_id\nb,x\na,z\nb,y\na,w\nb,x\n")
    assert _sequences(dataset) == [["z", "w"], ["x", "y", "x"]]


def test_items_are_numbered_by_id_and_counted(tmp_path: Path) -> None:
    dataset = _prepare(tmp_path, "user_id,item_id\na,10\na,9\nb,10\nb,10\n")
    items = pl.read_parquet(dataset.path / "items.parquet")
    assert items.to_dicts() == [{"item_id": "10", "count": 3}, {"item_id": "9", "count": 1}]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["2026-01-02", "2026-01-01", "2025-12-31"], ["z", "y", "x"]),
        (["2026-01-01T10:00:00", "2026-01-01T09:00:00", "2026-01-01T11:00:00"], ["y", "x", "z"]),
        (["2026-01-01T10:00:00+02:00", "2026-01-01T09:00:00+00:00", "2026-01-01T07:00:00Z"], ["z", "x", "y"]),
        (["1.5", "0.5", "1.0"], ["y", "z", "x"]),
        (["10", "9", "11"], ["y", "x", "z"]),
    ],
)
def test_times_may_be_numbers_dates_or_iso_text(
    tmp_path: Path, times: list[str], expected: list[str]
) -> None:
    rows = "".join(f"a,{item},{time}\n" for item, time in zip("xyz", times, strict=True))
    assert _sequences(_prepare(tmp_path, "user_id,item_id,t\n" + rows, time_column="t")) == [expected]


def test_parquet_with_dates_is_read_as_csv_is(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    frame = pl.DataFrame({"u": [1, 1], "i": [7, 8], "t": ["2026-01-02T00:00:00", "2026-01-01T00:00:00"]})
    frame.with_columns(pl.col("t").str.to_datetime()).write_parquet(path)
    config = DataConfig(interactions=path, user_column="u", item_column="i", time_column="t")
    dataset = prepare(config, tmp_path / "dataset")
    assert _sequences(dataset) == [["8", "7"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,item_id\na,x\n", "no column 'user_id', found user, item_id"),
        ("user_id,item_id,t\n", "found 0 rows, expected at least one interaction"),
        ("", "the file is empty"),
        ("user_id,item_id,t\na,x,1\n,y,2\n,z,3\n", "column 'user_id' is null in 2 of 3 rows (first: row 2)"),
        ("user_id,item_id,t\na,x,1\nb,,2\n", "column 'item_id' is null in 1 of 2 rows (first: row 2)"),
        ('user_id,item_id,t\na,x,1\n"",y,2\n', "column 'user_id' is the empty text in 1 of 2 rows"),
        ("user_id,item_id,t\na,x,1\na,y,\n", "column 't' is null in 1 of 2 rows (first: row 2)"),
        (
            "user_id,item_id,t\na,x,2026-01-01\na,y,soon\na,z,later\n",
            "column 't' holds no readable time in 2 of 3 rows (first: row 2, 'soon')",
        ),
        ("user_id,item_id,t\n1.5,x,1\n", "column 'user_id' is Float64, expected text or integers as ids"),
    ],
)
def test_a_bad_log_is_refused_naming_file_column_and_rows(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        _prepare(tmp_path, text, time_column="t")
    assert message in str(error.value)
    assert "log.csv" in str(error.value)
    assert not (tmp_path / "dataset").exists()


def test_a_missing_file_and_an_unknown_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.csv: no such file"):
        prepare(DataConfig(interactions=tmp_path / "absent.csv"), tmp_path / "dataset")
    (tmp_path / "log.xlsx").write_text("x")
    with pytest.raises(DataError, match=r"found \.xlsx suffix, expected one of \.csv, \.parquet"):
        prepare(DataConfig(interactions=tmp_path / "log.xlsx"), tmp_path / "dataset")


def test_bytes_that_are_not_parquet_are_refused(tmp_path: Path) -> None:
    (tmp_path / "log.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(DataError, match=r"log\.parquet: cannot be read"):
        prepare(DataConfig(interactions=tmp_path / "log.parquet"), tmp_path / "dataset")


def test_users_with_one_event_are_counted_not_dropped(tmp_path: Path) -> None:
    dataset = _prepare(tmp_path, "user_id,item_id\na,x\nb,x\nb,y\n")
    assert _sequences(dataset) == [["x"], ["x", "y"]]
    (warning,) = dataset.summary["warnings"]
    assert "1 of 2 users have one event" in warning


def test_metadata_is_joined_and_what_does_not_match_is_counted(tmp_path: Path) -> None:
    metadata = "item_id,title,year\nx,Ex,1990\nq,Queue,1991\n"
    dataset = _prepare(tmp_path, "user_id,item_id\na,y\na,x\n", metadata=metadata)
    assert pl.read_parquet(dataset.path / "items.parquet").to_dicts() == [
        {"item_id": "x", "count": 1, "title": "Ex", "year": 1990},
        {"item_id": "y", "count": 1, "title": None, "year": None},
    ]
    missing, unused = dataset.summary["warnings"]
    assert "1 of 2 items of the log have no row" in missing
    assert "1 of 2 rows name items that the log does not have" in unused


def test_columns_of_lists_are_split(tmp_path: Path) -> None:
    metadata = "item_id,genres\nx,Drama| Sci-Fi ||\ny,\nz,War\n"
    dataset = _prepare(
        tmp_path, "user_id,item_id\na,z\na,y\na,x\n", metadata=metadata, list_columns={"genres": "|"}
    )
    items = pl.read_parquet(dataset.path / "items.parquet")
    assert dict(items.select("item_id", "genres").iter_rows()) == {
        "x": ["Drama", "Sci-Fi"],
        "y": None,
        "z": ["War"],
    }


@pytest.mark.parametrize(
    ("column", "message"), [("genre", "no column 'genre' as data.list_columns says"), ("year", "is not text")]
)
def test_columns_that_cannot_be_lists_are_refused(tmp_path: Path, column: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _prepare(
            tmp_path,
            "user_id,item_id\na,x\n",
            metadata="item_id,year\nx,1990\n",
            list_columns={column: "|"},
        )


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("id,title\nx,Ex\n", "no column 'item_id', found id, title"),
        ("item_id,title\nx,Ex\nx,Why\n", "repeats an item in 1 rows"),
        ("item_id,count\nx,3\n", "column 'count' is a reserved name"),
        ("item_id,title\n,Ex\n", "is null in 1 of 1 rows"),
    ],
)
def test_bad_metadata_is_refused(tmp_path: Path, metadata: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        _prepare(tmp_path, "user_id,item_id\na,x\n", metadata=metadata)
    assert message in str(error.value)
    assert "items.csv" in str(error.value)


def test_a_second_run_keeps_what_is_up_to_date_and_a_changed_log_replaces_it(tmp_path: Path) -> None:
    first = _prepare(tmp_path, "user_id,item_id\na,x\na,y\n")
    written = (first.path / "items.npy").stat().st_ino
    assert (_prepare(tmp_path, "user_id,item_id\na,x\na,y\n").path / "items.npy").stat().st_ino == written
    assert _sequences(_prepare(tmp_path, "user_id,item_id\na,y\na,x\n")) == [["y", "x"]]
