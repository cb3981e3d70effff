"""What the metadata columns hold: their types, their commonest values, the range of their numbers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjpq.attributes import Value, element_type, is_list
from recjpq.text_index import is_text

MOST_DISTINCT = 1000
"""Columns of more different values are not for choosing from: titles, prices, descriptions."""
SAMPLE_ROWS = 100_000
CHUNK_ROWS = 1_000_000

AttributeType = Literal["text", "number", "boolean", "other"]


@dataclass(frozen=True, slots=True)
class AttributeSummary:
    """One metadata column.

    Attributes:
        name: its name. type: of its values, or of the values of its lists. is_list: whether it has lists.
        values: its different values and how many items have each, the commonest first, ties by value; None
            if there are more than `MOST_DISTINCT`, or if most values are of one item alone.
        least, greatest: of its numbers; None for other types, or if it has none.
    """

    name: str
    type: AttributeType
    is_list: bool
    values: tuple[tuple[Value, int], ...] | None
    least: float | None
    greatest: float | None


def summarise(columns: Mapping[str, pa.Array]) -> list[AttributeSummary]:
    """Summarise columns by their names, in one pass over each that is worth it."""
    return [_summary(name, column) for name, column in columns.items()]


def _summary(name: str, column: pa.Array) -> AttributeSummary:
    kind = _type_of(element_type(column.type))
    counts = None if kind == "other" else _counts(column)
    values = None if counts is None else tuple(sorted(counts.items(), key=_commonest_first))
    least, greatest = _range_of(column) if kind == "number" else (None, None)
    return AttributeSummary(name, kind, is_list(column.type), values, least, greatest)


def _commonest_first(entry: tuple[Value, int]) -> tuple[int, Any]:
    value, count = entry
    return -count, value


def _type_of(dtype: pa.DataType) -> AttributeType:
    if pa.types.is_boolean(dtype):
        return "boolean"
    if pa.types.is_integer(dtype) or pa.types.is_floating(dtype):
        return "number"
    return "text" if is_text(dtype) else "other"


def _counts(column: pa.Array) -> Counter[Value] | None:
    """Count a column's values; None as soon as there are too many different ones."""
    stride = max(1, len(column) // SAMPLE_ROWS)  # of rows from everywhere: they may be sorted
    sample = column if stride == 1 else column.take(pa.array(np.arange(0, len(column), stride)))
    if len(pc.unique(_elements(sample))) > MOST_DISTINCT:
        return None
    counts: Counter[Value] = Counter()
    for start in range(0, len(column), CHUNK_ROWS):
        values, numbers = pc.value_counts(_elements(column.slice(start, CHUNK_ROWS))).flatten()
        counts.update(dict(zip(values.to_pylist(), numbers.to_pylist(), strict=True)))
        if len(counts) > MOST_DISTINCT:
            return None
    return counts if 2 * len(counts) <= counts.total() else None


def _range_of(column: pa.Array) -> tuple[float | None, float | None]:
    bounds = pc.min_max(_elements(column))
    return bounds["min"].as_py(), bounds["max"].as_py()


def _elements(column: pa.Array) -> pa.Array:
    """Return a column's values, or those of its lists, without nulls and numbers that JSON does not know."""
    values = column.flatten() if is_list(column.type) else column
    while pa.types.is_dictionary(values.type) or is_list(values.type):
        values = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values.flatten()
    values = values.drop_null()
    return values.filter(pc.is_finite(values)) if pa.types.is_floating(values.type) else values
