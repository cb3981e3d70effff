"""`prepare`: what a log becomes, and what it says of a log that it cannot use."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from recjpq.catalogue import Catalogue
from tests.training.logs import prepare_text, sequences
from training.config import DataConfig
from training.dataset import Dataset
from training.errors import DataError
from training.prepare import prepare


def test_sequences_are_contiguous_in_time_order_and_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    text = "user_id,item_id,t\nb,x,5\na,z,2\nb,y,1\na,w,2\na,x,1\n"
    dataset = prepare_text(tmp_path, text, time_column="t")
    assert sequences(dataset) == [["x", "z", "w"], ["y", "x"]]
    assert dataset.items.dtype == np.int32
    assert isinstance(dataset.items, np.memmap)


def test_without_a_time_column_the_order_of_the_file_stands_in(tmp_path: Path) -> None:
    dataset = prepare_text(tmp_path, "user_id,item_id\nb,x\na,z\nb,y\na,w\nb,x\n")
    assert sequences(dataset) == [["z", "w"], ["x", "y", "x"]]


def test_items_are_numbered_by_id_and_counted(tmp_path: Path) -> None:
    dataset = prepare_text(tmp_path, "user_id,item_id\na,10\na,9\nb,10\nb,10\n")
    items = pl.read_parquet(dataset.path / "items.parquet")
    assert items.to_dicts() == [{"item_id": "10", "count": 3}, {"item_id": "9", "count": 1}]


def test_ids_may_begin_as_numbers_and_go_on_as_text(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n}\n" for n in range(1000, 1200))
    log, metadata = (
        "user_id,item_id\n" + rows + "anna,x9\nanna,1001\n",
        "item_id,size\n" + rows + "x9,large\n",
    )
    dataset = prepare_text(tmp_path, log, metadata=metadata)
    assert sequences(dataset)[-1] == ["x9", "1001"]
    items = {row["item_id"]: row for row in pl.read_parquet(dataset.path / "items.parquet").to_dicts()}
    assert (items["x9"]["size"], items["1001"]["size"]) == ("large", "1001")


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
    assert sequences(prepare_text(tmp_path, "user_id,item_id,t\n" + rows, time_column="t")) == [expected]


@pytest.mark.parametrize(
    ("time_format", "times", "expected"),
    [
        ("%d/%m/%Y", ["03/02/2026", "01/03/2026", "02/01/2026"], ["z", "x", "y"]),
        ("%m/%d/%Y", ["03/02/2026", "01/03/2026", "02/01/2026"], ["y", "z", "x"]),
        ("%m/%d/%Y %H:%M", ["12/1/2010 8:26", "12/1/2010 8:02", "1/12/2010 23:00"], ["z", "y", "x"]),
        ("%d.%m.%y %I:%M %p", ["1.2.26 1:00 PM", "1.2.26 12:30 AM", "1.2.26 11:00 AM"], ["y", "z", "x"]),
        ("%d.%m.%Y %H:%M:%S.%f", ["1.2.2026 1:00:00.5", "1.2.2026 1:00:00.25", "1.2.2026 1:00:00.125"],
         ["z", "y", "x"]),
        ("%d/%m/%Y %H:%M %z", ["1/2/2026 10:00 +0200", "1/2/2026 9:00 +0000", "1/2/2026 8:30 +0000"],
         ["x", "z", "y"]),
        ("%d%m%Y", ["10022026", "11012026", "12122025"], ["z", "y", "x"]),
    ],
)  # fmt: skip
def test_times_of_other_forms_are_read_by_a_format(
    tmp_path: Path, time_format: str, times: list[str], expected: list[str]
) -> None:
    rows = "".join(f"a,{item},{time}\n" for item, time in zip("xyz", times, strict=True))
    text = "user_id,item_id,t\n" + rows
    assert sequences(prepare_text(tmp_path, text, time_column="t", time_format=time_format)) == [expected]


def test_the_times_that_the_documentation_shows_are_read(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "training.md"
    section = page.read_text(encoding="utf-8").partition("### Times")[2].partition("\n## ")[0]
    iso = re.findall(r"`(2026-11-24.*?)`", section)
    others = re.findall(r"^\| `(.*)` \| `(.*%.*)` \|$", section, flags=re.MULTILINE)
    assert (len(iso), len(others)) == (5, 6)
    for time, time_format in [*((time, None) for time in iso), *others]:
        text = f"user_id,item_id,t\na,x,{time}\n"
        dataset = prepare_text(tmp_path, text, time_column="t", time_format=time_format)
        assert dataset.format_time(int(dataset.times[0])).startswith("2026-11-24T")


@pytest.mark.parametrize("time", ["01/02/2026", "2026/02/01", "01-02-2026 10:00", "1.2.2026", "Feb 1, 2026"])
def test_times_that_would_have_to_be_guessed_are_refused_and_the_way_out_is_told(
    tmp_path: Path, time: str
) -> None:
    text = f'user_id,item_id,t\na,x,2026-01-01\na,y,"{time}"\n'
    with pytest.raises(DataError) as error:
        prepare_text(tmp_path, text, time_column="t")
    told = f"column 't' holds no readable time in 1 of 2 rows (first: row 2, {time!r}); expected integers, or"
    assert told in str(error.value)
    assert 'set data.time_format, such as "%d/%m/%Y"' in str(error.value)


@pytest.mark.parametrize(
    ("time_format", "message"),
    [
        ("%m/%d/%Y", "in 1 of 2 rows (first: row 2, '13/02/2026'); expected text of the form '%m/%d/%Y'"),
        ("%d/%m/%Y %H:%M", "in 2 of 2 rows (first: row 1, '01/02/2026'); expected text of the form"),
        ("no format", "in 2 of 2 rows (first: row 1, '01/02/2026'); expected text of the form 'no format'"),
    ],
)
def test_a_format_that_does_not_fit_is_refused(tmp_path: Path, time_format: str, message: str) -> None:
    text = "user_id,item_id,t\na,x,01/02/2026\na,y,13/02/2026\n"
    with pytest.raises(DataError) as error:
        prepare_text(tmp_path, text, time_column="t", time_format=time_format)
    assert f"column 't' holds no readable time {message}" in str(error.value)


def test_a_format_for_times_that_are_no_text_is_refused(tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": ["a"], "item_id": ["x"], "t": [1.5]})
    log.write_parquet(tmp_path / "log.parquet")
    config = DataConfig(interactions=tmp_path / "log.parquet", time_column="t", time_format="%Y")
    with pytest.raises(DataError, match=r"column 't' is Float64, expected text .*'%Y'; leave it out"):
        prepare(config, tmp_path / "dataset")
    with pytest.raises(DataError, match=r"no readable time .*'1\.5'.*of the form '%Y'"):
        prepare_text(tmp_path, log.write_csv(), time_column="t", time_format="%Y")


def test_times_with_an_offset_and_without_are_not_mixed(tmp_path: Path) -> None:
    text = "user_id,item_id,t\na,x,2026-01-01T10:00:00Z\na,y,2026-01-01T10:00:00\n"
    with pytest.raises(
        DataError, match=r"row 2, '2026-01-01T10:00:00'.*with an offset from UTC in all rows or in none"
    ):
        prepare_text(tmp_path, text, time_column="t")


def test_parquet_with_dates_is_read_as_csv_is(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    frame = pl.DataFrame({"u": [1, 1], "i": [7, 8], "t": ["2026-01-02T00:00:00", "2026-01-01T00:00:00"]})
    frame.with_columns(pl.col("t").str.to_datetime()).write_parquet(path)
    config = DataConfig(interactions=path, user_column="u", item_column="i", time_column="t")
    dataset = prepare(config, tmp_path / "dataset")
    assert sequences(dataset) == [["8", "7"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,item_id\na,x\n", "no column 'user_id', found user, item_id"),
        ("user_id,item_id,t\n", "found 0 rows, expected at least one interaction"),
        ("", "the file is empty"),
        ("user_id,item_id,t\na,x,1\n,y,2\n,z,3\n", "column 'user_id' is null in 2 of 3 rows (first: row 2)"),
        ("user_id,item_id,t\na,x,1\nb,,2\n", "column 'item_id' is null in 1 of 2 rows (first: row 2)"),
        (
            'user_id,item_id,t\na,x,1\n"",y,2\n',
            "column 'user_id' is the empty text in 1 of 2 rows (first: row 2)",
        ),
        ("user_id,item_id,t\na,x,1\na,y,\n", "column 't' is null in 1 of 2 rows (first: row 2)"),
        (
            "user_id,item_id,t\na,x,2026-01-01\na,y,soon\na,z,later\n",
            "column 't' holds no readable time in 2 of 3 rows (first: row 2, 'soon')",
        ),
        (
            "user_id,item_id,t\n" + "a,x,1\n" * 200 + "a,y,01/02/2026\n",
            "column 't' holds no readable time in 1 of 201 rows (first: row 201, '01/02/2026')",
        ),
        (
            "user_id,item_id,t\na,x,1.5\na,y,1600000000000.0\na,z,1.7e18\n",
            "in 2 of 3 rows (first: row 2, 1600000000000.0); expected seconds since 1970 where",
        ),
        ("user_id,item_id,t\na,x,inf\n", "no readable time in 1 of 1 rows (first: row 1, inf)"),
        (
            f"user_id,item_id,t\na,x,1\na,y,{2**63}\n",
            f"no readable time in 1 of 2 rows (first: row 2, {2**63}); expected integers of 64 bits, signed",
        ),
        ("user_id,item_id,t\n1.5,x,1\n", "column 'user_id' is Float64, expected text or integers as ids"),
    ],
)
def test_a_bad_log_is_refused_naming_file_column_and_rows(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        prepare_text(tmp_path, text, time_column="t")
    assert message in str(error.value)
    assert "log.csv" in str(error.value)
    assert not (tmp_path / "dataset").exists()


def test_a_form_of_digits_alone_keeps_its_leading_zeros(tmp_path: Path) -> None:
    log = "user_id,item_id,t\na,x,02112026\na,y,01112026\na,z,10112026\n"
    dataset = prepare_text(tmp_path, log, time_column="t", time_format="%d%m%Y")
    assert sequences(dataset) == [["y", "x", "z"]]


@pytest.mark.parametrize("time_format", ["%Y%m%d %H", "%S:%f"])
def test_a_form_that_no_time_can_have_is_refused(tmp_path: Path, time_format: str) -> None:
    with pytest.raises(DataError, match=r"data\.time_format is '%"):
        prepare_text(tmp_path, "user_id,item_id,t\na,x,1\n", time_column="t", time_format=time_format)


def test_ids_of_a_csv_stay_as_they_are_written(tmp_path: Path) -> None:
    log, metadata = "user_id,item_id\n01,007\n01,7\n1,7\n", "item_id,title\n007,Seven\n7,7\n"
    dataset = prepare_text(tmp_path, log, metadata=metadata)
    items = pl.read_parquet(dataset.path / "items.parquet")
    assert items["item_id"].to_list() == ["007", "7"]
    assert items["title"].to_list() == ["Seven", "7"]
    assert items["count"].to_list() == [1, 2]
    assert pl.read_parquet(dataset.path / "users.parquet")["user_id"].to_list() == ["01", "1"]


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
    dataset = prepare_text(tmp_path, "user_id,item_id\na,x\nb,x\nb,y\n")
    assert sequences(dataset) == [["x"], ["x", "y"]]
    (warning,) = dataset.summary["warnings"]
    assert "1 of 2 users have one event" in warning


def test_metadata_is_joined_and_what_does_not_match_is_counted(tmp_path: Path) -> None:
    metadata = "item_id,title,year\nx,Ex,1990\nq,Queue,1991\n"
    dataset = prepare_text(tmp_path, "user_id,item_id\na,y\na,x\n", metadata=metadata)
    assert pl.read_parquet(dataset.path / "items.parquet").to_dicts() == [
        {"item_id": "x", "count": 1, "title": "Ex", "year": 1990},
        {"item_id": "y", "count": 1, "title": None, "year": None},
    ]
    missing, unused = dataset.summary["warnings"]
    assert "1 of 2 items of the log have no row" in missing
    assert "1 of 2 rows name items that the log does not have" in unused


@pytest.mark.parametrize("separator", ["|", ";", "."])
def test_list_columns_become_lists(tmp_path: Path, separator: str) -> None:
    genres = [separator.join(["Crime", " Sci-Fi ", "", "Drama"]), "Crime", " ", ""]
    rows = [f'{item},"A|B",{text}' for item, text in zip("wxyz", genres, strict=True)]
    dataset = prepare_text(
        tmp_path,
        "user_id,item_id\na,w\na,x\na,y\na,z\na,unknown\n",
        metadata="\n".join(["item_id,title,genres", *rows, ""]),
        list_columns=["genres"],
        list_separator=separator,
    )
    items = {row["item_id"]: row for row in pl.read_parquet(dataset.path / "items.parquet").to_dicts()}
    assert [items[i]["genres"] for i in ("w", "x", "y", "z", "unknown")] == [
        ["Crime", "Sci-Fi", "Drama"], ["Crime"], [], None, None,
    ]  # fmt: skip
    catalogue = Catalogue(pq.read_table(dataset.path / "items.parquet"), np.zeros((5, 1), np.uint8))
    (answer,) = catalogue.metadata_of(catalogue.indices_of(["w"]))
    assert answer == {"title": "A|B", "genres": ["Crime", "Sci-Fi", "Drama"]}


def test_a_column_of_lists_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id\na,x\n")
    pl.DataFrame({"item_id": ["x"], "tags": [["a|b", "c"]]}).write_parquet(tmp_path / "items.parquet")
    config = DataConfig(
        interactions=tmp_path / "log.csv", metadata=tmp_path / "items.parquet", list_columns=("tags",)
    )
    dataset = prepare(config, tmp_path / "dataset")
    assert pl.read_parquet(dataset.path / "items.parquet")["tags"].to_list() == [["a|b", "c"]]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("tags", "no column 'tags' (data.list_columns), found item_id, year"),
        ("year", "column 'year' (data.list_columns) is Int64, expected text"),
    ],
)
def test_a_list_column_that_is_none_is_refused(tmp_path: Path, column: str, message: str) -> None:
    metadata = "item_id,year\nx,1990\n"
    with pytest.raises(DataError) as error:
        prepare_text(tmp_path, "user_id,item_id\na,x\n", metadata=metadata, list_columns=[column])
    assert message in str(error.value)


def test_datasets_without_lists_are_those_of_earlier_releases(tmp_path: Path) -> None:
    log, metadata = "user_id,item_id\na,x\n", "item_id,tags\nx,a|b\n"
    plain = prepare_text(tmp_path, log, metadata=metadata)
    other_separator = prepare_text(tmp_path, log, metadata=metadata, list_separator=";")
    assert other_separator.summary["fingerprint"] == plain.summary["fingerprint"]
    lists = prepare_text(tmp_path, log, metadata=metadata, list_columns=["tags"])
    assert lists.summary["fingerprint"] != plain.summary["fingerprint"]
    assert lists.fingerprint == plain.fingerprint  # the interactions, which codes and weights are made from


def test_a_dataset_of_an_earlier_release_keeps_its_fingerprint(tmp_path: Path) -> None:
    dataset = prepare_text(tmp_path, "user_id,item_id\na,x\n")
    summary = {name: each for name, each in dataset.summary.items() if name != "interactions_fingerprint"}
    (dataset.path / "dataset.json").write_text(json.dumps(summary))
    assert Dataset.load(dataset.path).fingerprint == summary["fingerprint"]


def test_a_format_makes_another_dataset(tmp_path: Path) -> None:
    log = "user_id,item_id,t\na,x,2026-01-02\na,y,2026-03-01\n"
    plain = prepare_text(tmp_path, log, time_column="t")
    assert sequences(plain) == [["x", "y"]]
    assert sequences(prepare_text(tmp_path, log, time_column="t", time_format="%Y-%d-%m")) == [["y", "x"]]


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
        prepare_text(tmp_path, "user_id,item_id\na,x\n", metadata=metadata)
    assert message in str(error.value)
    assert "items.csv" in str(error.value)


def test_a_second_run_keeps_what_is_up_to_date_and_a_changed_log_replaces_it(tmp_path: Path) -> None:
    first = prepare_text(tmp_path, "user_id,item_id\na,x\na,y\n")
    written = (first.path / "items.npy").stat().st_ino
    assert (prepare_text(tmp_path, "user_id,item_id\na,x\na,y\n").path / "items.npy").stat().st_ino == written
    assert sequences(prepare_text(tmp_path, "user_id,item_id\na,y\na,x\n")) == [["y", "x"]]
