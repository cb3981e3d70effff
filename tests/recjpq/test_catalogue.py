"""The catalogue: external ids to item indices and back, counts, metadata and refusals."""

import datetime
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjpq.catalogue import Catalogue
from recjpq.errors import CatalogueError, RecJPQError
from recjpq.growing_catalogue import Addition, GrowingCatalogue


def codes_for(num_items: int) -> np.ndarray:
    return np.zeros((num_items, 1), dtype=np.uint8)


def catalogue_of(item_ids: Any, count: Any = None, **metadata: Any) -> Catalogue:
    num_items = len(item_ids)
    items = {"item_id": item_ids, "count": [1] * num_items if count is None else count, **metadata}
    return Catalogue(pa.table(items), codes_for(num_items))


def refusal(items: pa.Table, num_items: int) -> str:
    with pytest.raises(CatalogueError) as raised:
        Catalogue(items, codes_for(num_items))
    return str(raised.value)


# ---------------------------------------------------------------- lookup

STRANGE_IDS = [
    "a",
    "",
    " ",
    "a ",
    "A",
    "0",
    "00",
    "-1",
    "None",
    "a\x00b",
    "a\x00",
    "é",
    unicodedata.normalize("NFD", "é"),
    "日本語",
    "👩‍👩‍👧",
    "\u200b",
    "\ufffd",
    "x" * 100_000,
    "x" * 100_001,
]


def test_every_id_comes_back() -> None:
    catalogue = catalogue_of(STRANGE_IDS)
    indices = catalogue.indices_of(STRANGE_IDS)
    assert indices.dtype == np.int32
    assert indices.tolist() == list(range(len(STRANGE_IDS)))
    assert catalogue.ids_of(indices) == STRANGE_IDS
    assert catalogue.num_items == len(STRANGE_IDS)


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(ids=st.lists(st.text(), unique=True, min_size=1), others=st.lists(st.text()))
def test_lookup_is_that_of_a_dict(ids: list[str], others: list[str]) -> None:
    known = {item_id: index for index, item_id in enumerate(ids)}
    wanted = others + ids[::-1]
    assert catalogue_of(ids).indices_of(wanted).tolist() == [known.get(item_id, -1) for item_id in wanted]


def test_many_ids_that_differ_little() -> None:
    ids = [str(number) for number in range(100_000)]
    catalogue = catalogue_of(ids)
    assert np.array_equal(catalogue.indices_of(ids), np.arange(100_000))
    assert set(catalogue.indices_of([f"{item_id}-" for item_id in ids]).tolist()) == {-1}


@pytest.mark.parametrize("unknown", ["b", "", "A", "a ", " a", "a\x00", "aa", "\ud800", "a\udfff"], ids=ascii)
def test_an_unknown_id_is_minus_one(unknown: str) -> None:
    assert catalogue_of(["a", "ab"]).indices_of([unknown, "ab"]).tolist() == [-1, 1]


def test_a_lookup_may_repeat_ids_or_have_none() -> None:
    catalogue = catalogue_of(["a", "b"])
    assert catalogue.indices_of(("b", "b", "x", "b")).tolist() == [1, 1, -1, 1]
    assert catalogue.indices_of([]).tolist() == []
    assert catalogue.ids_of(np.array([1, 1, 0], dtype=np.int32)) == ["b", "b", "a"]
    assert catalogue.ids_of(np.array([], dtype=np.int32)) == []


@pytest.mark.parametrize("wrong", [None, 1, 1.0, b"a", ["a"], np.int32(0)], ids=repr)
def test_an_id_that_is_no_string_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match="item ids must be strings"):
        catalogue_of(["a"]).indices_of(["a", wrong])


def test_one_string_is_not_a_sequence_of_ids() -> None:
    with pytest.raises(TypeError, match="found the string 'ab', expected a sequence of strings"):
        catalogue_of(["a", "b"]).indices_of("ab")


# ---------------------------------------------------------------- Arrow layouts


def test_chunked_columns() -> None:
    ids = pa.chunked_array([["a", "b"], [], ["c"], ["d"]])
    count = pa.chunked_array([[1], [4, 2, 3]])
    title = pa.chunked_array([["A", "B", "C"], ["D"]])
    catalogue = Catalogue(pa.table({"item_id": ids, "count": count, "title": title}), codes_for(4))
    assert catalogue.indices_of(["d", "a", "c"]).tolist() == [3, 0, 2]
    assert catalogue.counts.tolist() == [1, 4, 2, 3]
    assert catalogue.metadata_of(np.array([3], dtype=np.int32)) == [{"title": "D"}]


@pytest.mark.parametrize("dtype", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_sliced_columns(dtype: pa.DataType) -> None:
    ids = pa.array(list("abcde"), dtype)
    items = pa.table({"item_id": ids, "count": [1, 2, 3, 4, 5], "title": list("ABCDE")}).slice(1, 3)
    catalogue = Catalogue(items, codes_for(3))
    assert catalogue.indices_of(list("abcde")).tolist() == [-1, 0, 1, 2, -1]
    assert catalogue.ids_of(np.array([2, 0], dtype=np.int32)) == ["d", "b"]
    assert catalogue.counts.tolist() == [2, 3, 4]
    assert catalogue.metadata_of(np.array([1], dtype=np.int32)) == [{"title": "C"}]


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["a", "b"], pa.string()),
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"], pa.string_view()),
        pa.array(["a", "b"]).dictionary_encode(),
    ],
    ids=lambda ids: str(ids.type),
)
def test_every_arrow_form_of_a_string(ids: pa.Array) -> None:
    catalogue = catalogue_of(ids)
    assert catalogue.indices_of(["b", "a"]).tolist() == [1, 0]
    assert catalogue.ids_of(np.array([0, 1], dtype=np.int32)) == ["a", "b"]


@pytest.mark.parametrize("dtype", [pa.int64(), pa.uint8(), pa.int32()], ids=str)
def test_integer_ids_are_their_decimal_form(dtype: pa.DataType) -> None:
    catalogue = catalogue_of(pa.array([10, 7], dtype))
    assert catalogue.indices_of(["7", "10", "07", "7.0"]).tolist() == [1, 0, -1, -1]
    assert catalogue.ids_of(np.array([0, 1], dtype=np.int32)) == ["10", "7"]


def test_a_parquet_file_round_trips(tmp_path: Path) -> None:
    items = pa.table({"item_id": ["a", "b", "c"], "count": pa.array([3, 2, 1], pa.uint32())})
    pq.write_table(items, tmp_path / "items.parquet", row_group_size=2)
    catalogue = Catalogue.load(tmp_path / "items.parquet", codes_for(3))
    assert catalogue.indices_of(["c", "a"]).tolist() == [2, 0]
    assert catalogue.counts.tolist() == [3, 2, 1]


@pytest.mark.parametrize("max_narrow", [0, 20, 2**31 - 1])
@pytest.mark.parametrize("batch_rows", [1, 3, 1000])
@pytest.mark.parametrize("dtype", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_ids_are_read_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: pa.DataType, batch_rows: int, max_narrow: int
) -> None:
    monkeypatch.setattr("recjpq.catalogue.BATCH_ROWS", batch_rows)
    monkeypatch.setattr("recjpq.catalogue.MAX_NARROW", max_narrow)
    items = pa.table({"title": STRANGE_IDS, "item_id": pa.array(STRANGE_IDS, dtype), "count": [1] * 19})
    pq.write_table(items, tmp_path / "items.parquet", row_group_size=7)
    catalogue = Catalogue.load(tmp_path / "items.parquet", codes_for(19))
    assert catalogue.indices_of([*STRANGE_IDS, "other"]).tolist() == [*range(19), -1]
    assert catalogue.ids_of(np.arange(19, dtype=np.int32)) == STRANGE_IDS
    assert catalogue.metadata_of(np.array([4], dtype=np.int32)) == [{"title": "A"}]


def test_a_file_may_have_no_ids_but_empty_ones(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": [""], "count": [1]}), tmp_path / "items.parquet")
    assert Catalogue.load(tmp_path / "items.parquet", codes_for(1)).indices_of(["", "a"]).tolist() == [0, -1]


@pytest.mark.parametrize("ids", [["a", None], ["a", "a"]], ids=["null", "repeated"])
def test_ids_of_a_file_are_refused_as_those_of_a_table(tmp_path: Path, ids: list[str | None]) -> None:
    items = pa.table({"item_id": pa.array(ids, pa.string()), "count": [1, 1]})
    pq.write_table(items, tmp_path / "items.parquet")
    with pytest.raises(CatalogueError) as raised:
        Catalogue.load(tmp_path / "items.parquet", codes_for(2))
    assert str(raised.value) == refusal(items, 2)


# ---------------------------------------------------------------- counts and metadata


def test_popularity_order_has_ties_to_the_lower_index() -> None:
    catalogue = catalogue_of([str(item) for item in range(300)], count=[2, 0, 9] * 100)
    expected = [*range(2, 300, 3), *range(0, 300, 3), *range(1, 300, 3)]
    for count in (0, 1, 99, 100, 101, 250, 300, 1000):
        assert catalogue.most_popular(count).dtype == np.int32
        assert catalogue.most_popular(count).tolist() == expected[:count]


def test_more_popular_items_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recjpq.catalogue.POPULAR", 2)
    catalogue = catalogue_of(list("abcdef"), count=[1, 5, 5, 3, 5, 3])
    assert [catalogue.most_popular(count).tolist() for count in (1, 2, 3, 5)] == [
        [1], [1, 2], [1, 2, 4], [1, 2, 4, 3, 5],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "dtype"), [([0, 2**31 - 1], np.int32), ([2**31, 1], np.int64), ([-(2**31), 1], np.int64)]
)
def test_counts_take_the_room_that_they_need(count: list[int], dtype: type[np.integer]) -> None:
    catalogue = catalogue_of(["a", "b"], count=count)
    assert catalogue.counts.dtype == dtype
    assert catalogue.counts.tolist() == count
    assert catalogue.most_popular(2).tolist() == np.argsort(-np.array(count)).tolist()


def test_metadata_keeps_its_types() -> None:
    released = datetime.date(2026, 1, 31)
    catalogue = catalogue_of(
        ["a", "b"], title=["Ä", None], price=[1.5, 2.0], tags=[["x", "y"], []], released=[released, released]
    )
    assert catalogue.metadata_columns == ("title", "price", "tags", "released")
    assert catalogue.metadata_of(np.array([1, 0], dtype=np.int32)) == [
        {"title": None, "price": 2.0, "tags": [], "released": released},
        {"title": "Ä", "price": 1.5, "tags": ["x", "y"], "released": released},
    ]


def test_a_catalogue_without_metadata_has_empty_rows() -> None:
    assert catalogue_of(["a"]).metadata_columns == ()
    assert catalogue_of(["a"]).metadata_of(np.array([0], dtype=np.int32)) == [{}]


# ---------------------------------------------------------------- refusals


def test_a_catalogue_error_is_one_of_ours() -> None:
    assert issubclass(CatalogueError, RecJPQError)


def test_a_repeated_id_names_its_rows() -> None:
    items = pa.table({"item_id": ["a", "b", "c", "b", "a"], "count": [1] * 5})
    assert refusal(items, 5) == "items: item_id 'b' stands in rows 1 and 3, expected once"


def test_the_empty_id_may_stand_once_only() -> None:
    items = pa.table({"item_id": ["a", "", ""], "count": [1] * 3})
    assert refusal(items, 3) == "items: item_id '' stands in rows 1 and 2, expected once"


def test_a_million_equal_ids_are_refused_at_once() -> None:
    # Quadratic probing of equal ids would take minutes here.
    items = pa.table({"item_id": pa.repeat("a", 1_000_000), "count": pa.repeat(1, 1_000_000)})
    assert refusal(items, 1_000_000) == "items: item_id 'a' stands in rows 0 and 1, expected once"


@pytest.mark.parametrize("num_items", [0, 1, 3])
def test_the_row_counts_must_agree(num_items: int) -> None:
    items = pa.table({"item_id": ["a", "b"], "count": [1, 1]})
    assert refusal(items, num_items) == f"items: found 2 rows, expected N={num_items}"


@pytest.mark.parametrize("missing", ["item_id", "count"])
def test_a_missing_column_is_named(missing: str) -> None:
    items = pa.table({"item_id": ["a"], "count": [1], "title": ["A"]}).drop_columns(missing)
    found = ", ".join(items.column_names)
    assert refusal(items, 1) == f"items: no column {missing!r}, found {found}"


@pytest.mark.parametrize("repeated", ["item_id", "count", "title"])
def test_a_repeated_column_is_named(repeated: str) -> None:
    items = pa.table({"item_id": ["a"], "count": [1], "title": ["A"]})
    items = items.append_column(repeated, items.column(repeated))
    assert refusal(items, 1) == f"items: found several columns {repeated}, expected one of each"


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("item_id", pa.array(["a", None])),
        ("item_id", pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None]))),
        ("count", pa.array([1, None])),
    ],
    ids=["item_id", "item_id in a dictionary", "count"],
)
def test_nulls_are_counted(column: str, values: pa.Array) -> None:
    items = pa.table({"item_id": ["a", "b"], "count": [1, 1]} | {column: values})
    assert refusal(items, 2) == f"items: column {column!r} holds 1 nulls, expected none"


@pytest.mark.parametrize(
    ("column", "values", "found"),
    [
        ("item_id", pa.array([1.0, 2.0]), "is double, expected large_string"),
        ("item_id", pa.array([True, False]), "is bool, expected large_string"),
        ("item_id", pa.array([b"a", b"b"]), "is binary, expected large_string"),
        ("item_id", pa.array([["a"], ["b"]]), "is list<item: string>, expected large_string"),
        ("count", pa.array([1.0, 2.0]), "is double, expected int64"),
        ("count", pa.array(["1", "2"]), "is string, expected int64"),
        ("count", pa.array([True, False]), "is bool, expected int64"),
        ("count", pa.array([1, 2**63], pa.uint64()), "is uint64, expected int64 (Integer value"),
    ],
    ids=str,
)
def test_a_column_of_the_wrong_type(column: str, values: pa.Array, found: str) -> None:
    items = pa.table({"item_id": ["a", "b"], "count": [1, 1]} | {column: values})
    assert refusal(items, 2).startswith(f"items: column {column!r} {found}")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet", b"PAR1" + bytes(64) + b"PAR1"], ids=repr)
def test_a_file_that_is_not_parquet(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "items.parquet"
    path.write_bytes(content)
    with pytest.raises(CatalogueError, match=r"items\.parquet: not a readable Parquet file"):
        Catalogue.load(path, codes_for(1))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"items\.parquet: not a readable Parquet file"):
        Catalogue.load(tmp_path / "items.parquet", codes_for(1))


# ---------------------------------------------------------------- a catalogue that has grown


def test_added_items_are_the_least_popular_and_retired_ones_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recjpq.catalogue.POPULAR", 2)
    catalogue = GrowingCatalogue(catalogue_of(list("abcd"), count=[0, 5, 7, 5]))
    assert [catalogue.most_popular(count).tolist() for count in (1, 3, 9)] == [[2], [2, 1, 3], [2, 1, 3, 0]]
    catalogue.append(Addition(["e", "f"], codes_for(2), [{}, {}]))
    catalogue.retire(np.array([1, 4], dtype=np.int32))
    assert [catalogue.most_popular(count).tolist() for count in (1, 2, 3, 4, 9)] == [
        [2], [2, 3], [2, 3, 0], [2, 3, 0, 5], [2, 3, 0, 5],
    ]  # fmt: skip
    assert catalogue.counts[np.array([2, 4])].tolist() == [7, 0]


@pytest.mark.parametrize(
    "dtype", [pa.timestamp("ns"), pa.timestamp("ns", "UTC"), pa.duration("ns"), pa.time64("ns")]
)
def test_nanoseconds_are_cut_to_what_python_can_say(dtype: pa.DataType) -> None:
    column = pa.array([1_234_567, None], pa.int64()).cast(dtype)
    catalogue = catalogue_of(["a", "b"], when=column)
    first, second = (found["when"] for found in catalogue.metadata_of(np.array([0, 1], dtype=np.int32)))
    assert getattr(first, "microsecond", getattr(first, "microseconds", None)) == 1234
    assert second is None
