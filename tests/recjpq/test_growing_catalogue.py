"""A catalogue that grows: the same answers as one that was built with all of its items."""

import datetime as dt
import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recjpq.attributes import Condition
from recjpq.catalogue import Catalogue
from recjpq.errors import FilterError
from recjpq.growing_catalogue import MOST_KEPT, Addition, GrowingCatalogue, GrowingRows

M = 3


def table(first, count, interactions):
    return pa.table(
        {
            "item_id": [f"i{index}" for index in range(first, first + count)],
            "count": pa.array(interactions, pa.int64()),
            "title": [f"Title {index}" for index in range(first, first + count)],
        }
    )


def codes_of(indices):
    return np.array(
        [[(index * 7 + split) % 256 for split in range(M)] for index in indices], dtype=np.uint8
    ).reshape(-1, M)


def grown(trained, added_by_step):
    """A catalogue of so many trained items, to which more are added step by step."""
    catalogue = GrowingCatalogue(
        Catalogue(table(0, trained, [(i * 5) % 7 for i in range(trained)]), codes_of(range(trained)))
    )
    first = trained
    for count in added_by_step:
        indices = np.arange(first, first + count, dtype=np.int32)
        ids = [f"i{index}" for index in indices]
        catalogue.append(Addition(ids, codes_of(indices), [{"title": f"Title {index}"} for index in indices]))
        catalogue.publish(indices)
        first += count
    return catalogue


@given(st.integers(1, 9), st.lists(st.integers(0, 5), max_size=4))
def test_it_is_the_catalogue_with_all_items(trained, added_by_step):
    catalogue = grown(trained, added_by_step)
    total = trained + sum(added_by_step)
    counts = [(i * 5) % 7 for i in range(trained)] + [0] * sum(added_by_step)
    whole = Catalogue(table(0, total, counts), codes_of(range(total)))
    everything = np.arange(total, dtype=np.int32)
    ids = [f"i{index}" for index in range(total + 2)]
    assert catalogue.num_items == len(catalogue.item_codes) == whole.num_items
    assert catalogue.num_added == sum(added_by_step)
    assert catalogue.indices_of(ids).tolist() == whole.indices_of(ids).tolist()
    shuffled = np.random.default_rng(total).permutation(everything)
    assert catalogue.ids_of(shuffled) == whole.ids_of(shuffled)
    assert catalogue.metadata_of(shuffled) == whole.metadata_of(shuffled)
    assert catalogue.most_popular(total).tolist() == whole.most_popular(total).tolist()
    histories = shuffled[np.random.default_rng(1).integers(0, total, size=(2, 4))]
    np.testing.assert_array_equal(catalogue.item_codes[histories], whole.item_codes[histories])
    np.testing.assert_array_equal(catalogue.counts[shuffled], whole.counts[shuffled])
    filters = (("title", Condition(any_of=("Title 0", f"Title {total - 1}"))),)
    np.testing.assert_array_equal(catalogue.allowed(filters), whole.allowed(filters))


def test_an_appended_item_can_be_described_before_it_can_be_asked_for():
    catalogue = grown(2, [])
    catalogue.append(Addition(["n"], codes_of([2]), [{}]))
    assert catalogue.ids_of(np.array([2], dtype=np.int32)) == ["n"]
    assert catalogue.metadata_of(np.array([2], dtype=np.int32)) == [{"title": None}]
    assert catalogue.indices_of(["n"]).tolist() == [-1]
    catalogue.publish(np.array([2], dtype=np.int32))
    assert catalogue.indices_of(["n"]).tolist() == [2]


def test_of_several_items_with_one_id_the_last_is_meant():
    catalogue = grown(3, [])
    for index in (3, 4):
        catalogue.append(Addition(["i1"], codes_of([index]), [{}]))
        catalogue.publish(np.array([index], dtype=np.int32))
    assert catalogue.indices_of(["i0", "i1"]).tolist() == [0, 4]


def test_retired_items_are_not_popular_but_keep_their_index():
    catalogue = grown(4, [2])
    before = catalogue.most_popular(9).tolist()
    catalogue.retire(np.array([4, 1, 1], dtype=np.int32))
    catalogue.retire(np.array([1], dtype=np.int32))
    assert catalogue.num_retired == 2
    assert catalogue.most_popular(2).tolist() == [index for index in before if index not in {1, 4}][:2]
    assert catalogue.most_popular(9).tolist() == [index for index in before if index not in {1, 4}]
    assert catalogue.indices_of(["i1", "i4"]).tolist() == [1, 4]
    assert catalogue.is_offered(np.array([0, 1, 4, 5])).tolist() == [True, False, False, True]


def test_answers_to_conditions_are_kept_in_a_bounded_number():
    catalogue = grown(2, [1])
    for number in range(3 * MOST_KEPT):
        filters = (("title", Condition(none_of=(f"Title {number}",))),)
        assert catalogue.allowed(filters).sum() == 3 - (number < 3)
        assert len(catalogue._allowed) <= MOST_KEPT
    with pytest.raises(FilterError):
        catalogue.allowed((("price", Condition(at_least=1)),))


def test_rows_keep_what_was_read_of_them():
    rows = GrowingRows(np.arange(3))
    first = rows[np.array([0, 2])]
    for value in range(3, 40):
        rows.append(np.array([value]))
        assert rows[np.arange(len(rows))].tolist() == list(range(value + 1))
    assert first.tolist() == [0, 2]
    assert rows[np.array([], dtype=np.int64)].tolist() == []


COLUMNS = {
    "text": pa.string(), "category": pa.dictionary(pa.int32(), pa.string()), "tags": pa.list_(pa.string()),
    "whole": pa.int32(), "small": pa.uint8(), "price": pa.float64(), "on": pa.bool_(), "day": pa.date32(),
    "at": pa.timestamp("ms", tz="UTC"), "exact": pa.decimal128(6, 2), "raw": pa.binary(),
}  # fmt: skip


@pytest.fixture
def typed():
    columns = {name: pa.array([None], dtype) for name, dtype in COLUMNS.items()}
    return GrowingCatalogue(Catalogue(pa.table({"item_id": ["i0"], "count": [1], **columns}), codes_of([0])))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("text", "a", "a"),
        ("text", None, None),
        ("category", "shoes", "shoes"),
        ("tags", ["a", "b"], ["a", "b"]),
        ("tags", [], []),
        ("whole", 3, 3),
        ("whole", 3.0, 3),
        ("price", 3, 3.0),
        ("on", True, True),
        ("day", "2026-11-24", dt.date(2026, 11, 24)),
        ("at", "2026-11-24T10:00:00Z", dt.datetime(2026, 11, 24, 10, tzinfo=dt.UTC)),
        ("exact", "12.50", decimal.Decimal("12.50")),
        ("raw", "aGk=", b"hi"),
    ],
)
def test_metadata_takes_the_column_s_type(typed, name, value, expected):
    fits, wrong = typed.fitting({name: value})
    assert (fits, wrong) == ({name: expected}, {})
    (column,) = typed.metadata_of(np.array([0], dtype=np.int32))
    assert set(column) == set(COLUMNS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", 3), ("text", True), ("text", ["a"]), ("text", {"a": 1}), ("category", 1), ("tags", "a"),
        ("tags", [1]), ("whole", 3.5), ("whole", 2**31), ("whole", 10**400), ("whole", True), ("whole", "3"),
        ("small", -1), ("small", 256), ("price", "3"), ("price", False), ("on", 1), ("on", "true"),
        ("day", "soon"), ("day", 3), ("at", {}), ("exact", "x"), ("raw", "not base64!"), ("raw", 3),
        ("nothing", 3),
    ],
)  # fmt: skip
def test_metadata_of_another_type_is_told(typed, name, value):
    fits, wrong = typed.fitting({name: value})
    assert (fits, list(wrong)) == ({}, [name])
    assert "expected a value of type" in wrong[name] or "no such column" in wrong[name]


def test_what_was_withdrawn_was_never_there():
    catalogue = grown(3, [2])
    before = catalogue.item_codes[np.arange(5)].tolist()
    catalogue.append(Addition(["x", "y"], codes_of([90, 91]), [{"title": "X"}, {"title": "Y"}]))
    catalogue.withdraw(2)
    assert (catalogue.num_items, len(catalogue.item_codes), len(catalogue.counts)) == (5, 5, 5)
    assert catalogue.item_codes[np.arange(5)].tolist() == before
    catalogue.append(Addition(["z"], codes_of([92]), [{"title": "Z"}]))
    catalogue.publish(np.array([5], dtype=np.int32))
    assert catalogue.indices_of(["x", "z"]).tolist() == [-1, 5]
    assert catalogue.metadata_of(np.array([5], dtype=np.int32)) == [{"title": "Z"}]
    assert catalogue.item_codes[np.array([5])].tolist() == codes_of([92]).tolist()
