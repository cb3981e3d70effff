"""What the metadata columns are said to hold."""

import numpy as np
import pyarrow as pa
import pytest

import recjpq.attribute_summary as module
from recjpq.attribute_summary import AttributeSummary, summarise


def summary(column):
    return summarise({"a": column})[0]


def test_text_with_repeated_values():
    column = pa.array(["b", "a", None, "b", "a", "c", "b"])
    assert summary(column) == AttributeSummary("a", "text", False, (("b", 3), ("a", 2), ("c", 1)), None, None)
    assert summary(column.dictionary_encode()) == summary(column)
    assert summary(column.cast(pa.large_string())) == summary(column)


def test_lists_count_each_value():
    column = pa.array([["x", "y"], None, [], ["x", None], ["y", "x"]])
    assert summary(column) == AttributeSummary("a", "text", True, (("x", 3), ("y", 2)), None, None)


def test_numbers_have_a_range_and_none_that_json_does_not_know():
    column = pa.array([3.0, float("nan"), None, float("-inf"), 1.5, 3.0, 1.5])
    assert summary(column) == AttributeSummary("a", "number", False, ((1.5, 2), (3.0, 2)), 1.5, 3.0)
    assert summary(pa.array([None, None], pa.int64())).least is None


def test_truth_values():
    assert summary(pa.array([True, False, True, None, True])).values == ((True, 3), (False, 1))


def test_values_that_hardly_repeat_are_not_told():
    titles = summary(pa.array(["one", "two", "three", "three"]))
    assert (titles.type, titles.values) == ("text", None)
    prices = summary(pa.array([5, 1, 9]))
    assert (prices.values, prices.least, prices.greatest) == (None, 1, 9)


@pytest.mark.parametrize("dtype", [pa.binary(), pa.date32(), pa.struct([("x", pa.int64())]), pa.null()])
def test_other_types(dtype):
    assert summary(pa.nulls(3, dtype)) == AttributeSummary("a", "other", False, None, None, None)


def test_large_columns_are_sampled_and_counted_in_chunks(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE_ROWS", 10)
    monkeypatch.setattr(module, "CHUNK_ROWS", 7)
    monkeypatch.setattr(module, "MOST_DISTINCT", 3)
    repeated = np.arange(100) % 3
    assert summary(pa.array(repeated)).values == ((0, 34), (1, 33), (2, 33))
    assert summary(pa.array(np.arange(100) // 3)).values is None  # seen in the sample
    hidden = np.zeros(100, dtype=np.int64)
    hidden[11:17] = np.arange(6)  # where the sample does not look
    assert summary(pa.array(hidden)).values is None
