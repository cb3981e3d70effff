"""Conditions on an item's attributes, such as "category is shoes", and which items meet them.

Attributes are the metadata columns of the catalogue: text, numbers, truth values, or lists of these. The
items that meet a condition are found column by column with Arrow and kept as one boolean each, so that a
condition that many requests share costs one pass over the catalogue.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recjpq.errors import FilterError

Value = str | bool | int | float
CACHE_BYTES = 64 * 1024 * 1024
MIN_CACHED = 16


@dataclass(frozen=True, slots=True)
class Condition:
    """What one attribute must be; every part that is given must hold.

    Attributes:
        any_of: it has at least one of these values; None for no restriction.
        none_of: it has none of these values; an item without a value has none.
        at_least, at_most: bounds of a number, inclusive; an item without a value fails them.
    """

    any_of: tuple[Value, ...] | None = None
    none_of: tuple[Value, ...] = ()
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value: Any) -> bool:
        """Say whether one item's value, a list of values or None, meets the condition."""
        values = [v for v in (value if isinstance(value, list) else [value]) if v is not None]
        return (
            (self.any_of is None or any(v in self.any_of for v in values))
            and not any(v in self.none_of for v in values)
            and (self.at_least is None or any(v >= self.at_least for v in values))
            and (self.at_most is None or any(v <= self.at_most for v in values))
        )


Filters = tuple[tuple[str, Condition], ...]
"""Attribute names and their conditions, all of which must hold; hashable, so that answers can be kept."""


class Attributes:
    """The metadata columns of N items; safe from many threads."""

    def __init__(self, columns: Mapping[str, pa.Array], num_items: int) -> None:
        """Take columns of N values by their names."""
        self._columns = dict(columns)
        self._num_items = num_items
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, Condition], npt.NDArray[np.bool_]] = OrderedDict()
        self._most_kept = max(MIN_CACHED, CACHE_BYTES // max(1, num_items))

    def check(self, filters: Filters) -> None:
        """Refuse conditions that no item could ever meet.

        Raises:
            FilterError: an attribute that the catalogue does not have, or values of another type than its.
        """
        for name, condition in filters:
            if name not in self._columns:
                raise FilterError(name, f"no such attribute; there are {', '.join(self._columns) or 'none'}")
            accepts, expected = _accepted(element_type(self._columns[name].type))
            values = (*(condition.any_of or ()), *condition.none_of)
            if wrong := [value for value in values if not accepts(value)]:
                raise FilterError(name, f"found {wrong[0]!r}, expected {expected}")
            if expected != "a number" and (condition.at_least, condition.at_most) != (None, None):
                raise FilterError(name, f"min and max need an attribute of numbers; this one has {expected}")

    def allowed(self, filters: Filters) -> npt.NDArray[np.bool_]:
        """Return which items meet all of at least one condition, bool (N,); not to be written to.

        Raises:
            FilterError: as `check`.
        """
        self.check(filters)
        result = self._one(*filters[0])
        for name, condition in filters[1:]:
            result = result & self._one(name, condition)
        return result

    def _one(self, name: str, condition: Condition) -> npt.NDArray[np.bool_]:
        key = (name, condition)
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
        found = _meets(self._columns[name], condition, self._num_items)
        found.flags.writeable = False
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > self._most_kept:
                self._kept.popitem(last=False)
        return found


def _meets(column: pa.Array, condition: Condition, num_items: int) -> npt.NDArray[np.bool_]:
    result = np.ones(num_items, dtype=np.bool_)
    if condition.any_of is not None:
        result &= _has_one(column, lambda values: _is_in(values, condition.any_of or ()))
    if condition.none_of:
        result &= ~_has_one(column, lambda values: _is_in(values, condition.none_of))
    if condition.at_least is not None:
        result &= _has_one(column, lambda values: pc.greater_equal(values, condition.at_least))
    if condition.at_most is not None:
        result &= _has_one(column, lambda values: pc.less_equal(values, condition.at_most))
    return result


def _has_one(column: pa.Array, test: Callable[[pa.Array], pa.Array]) -> npt.NDArray[np.bool_]:
    """Return which items have a value that passes; an item of a list column has several, perhaps none."""
    if not is_list(column.type):
        return _booleans(test(column))
    passes = _booleans(test(column.flatten()))  # without the values of null lists, as the parents are
    items = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
    result = np.zeros(len(column), dtype=np.bool_)
    result[items[passes]] = True
    return result


def _is_in(values: pa.Array, wanted: Sequence[Value]) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        inside = _is_in(values.dictionary, wanted)
        return pc.take(inside, values.indices)
    if not wanted:
        return pa.array(np.zeros(len(values), dtype=np.bool_))
    return pc.is_in(values, value_set=_value_set(wanted, values.type))


def _value_set(wanted: Sequence[Value], dtype: pa.DataType) -> pa.Array:
    """Return the values in the column's type, less those that it cannot hold and no item has."""
    if not pa.types.is_integer(dtype):
        return pa.array(wanted, dtype)
    held = []
    for value in wanted:
        try:
            held.append(pa.scalar(int(value), dtype) if float(value).is_integer() else None)
        except (pa.ArrowInvalid, OverflowError):  # beyond the type's range
            continue
    return pa.array([scalar.as_py() for scalar in held if scalar is not None], dtype)


def _booleans(values: pa.Array) -> npt.NDArray[np.bool_]:
    passed: npt.NDArray[np.bool_] = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return passed


def is_list(dtype: pa.DataType) -> bool:
    """Say whether a column's values are lists."""
    return bool(pa.types.is_list(dtype) or pa.types.is_large_list(dtype))


def element_type(dtype: pa.DataType) -> pa.DataType:
    """Return the type of a column's values, or of the values of its lists."""
    while is_list(dtype) or pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    return dtype


def _accepted(dtype: pa.DataType) -> tuple[Callable[[Value], bool], str]:
    """Return what tells whether a value is of an attribute's type, and the type's name."""
    if pa.types.is_boolean(dtype):
        return lambda value: isinstance(value, bool), "true or false"
    if pa.types.is_integer(dtype) or pa.types.is_floating(dtype):
        return lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number"
    if pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        return lambda value: isinstance(value, str), "text"
    return lambda _: False, f"text, a number or a truth value, but the attribute is {dtype}"
