"""Conditions on an item's attributes, such as "category is shoes", and which items meet them.

Attributes are the metadata columns of the catalogue: text, numbers, truth values, or lists of these. The
items that meet a condition are found column by column with Arrow and kept as one boolean each, so that a
condition that many requests share costs one pass over the catalogue.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recjpq.errors import FilterError

Value = str | bool | int | float
CACHE_BYTES = 64 * 1024 * 1024
"""Of conditions and which items meet them, together."""


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
        self._kept_bytes = 0

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
        found = which_meet(self._columns[name], condition)
        found.flags.writeable = False
        with self._lock:
            if key not in self._kept:  # another thread may have been first
                self._kept[key] = found
                self._kept_bytes += _bytes_of(condition) + found.nbytes
            while self._kept_bytes > CACHE_BYTES:  # a single one that is larger is not kept either
                (_, dropped), mask = self._kept.popitem(last=False)
                self._kept_bytes -= _bytes_of(dropped) + mask.nbytes
        return found


def _bytes_of(condition: Condition) -> int:
    """Return about what a condition takes in memory: a caller may send long and many values."""
    values = (*(condition.any_of or ()), *condition.none_of)
    return 200 + sum(100 + (4 * len(value) if isinstance(value, str) else 0) for value in values)


def which_meet(column: pa.Array, condition: Condition) -> npt.NDArray[np.bool_]:
    """Return which values of a column meet a condition that `Attributes.check` accepts, bool (N,)."""
    result = np.ones(len(column), dtype=np.bool_)
    if condition.any_of is not None:
        result &= _has_one(column, lambda values: _is_in(values, condition.any_of or ()))
    if condition.none_of:
        result &= ~_has_one(column, lambda values: _is_in(values, condition.none_of))
    if condition.at_least is not None:
        result &= _has_one(column, partial(_is_at_least, bound=condition.at_least))
    if condition.at_most is not None:
        result &= _has_one(column, partial(_is_at_most, bound=condition.at_most))
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


def _decoded(values: pa.Array) -> pa.Array:
    """Return values as they are, numbers also where a dictionary holds them."""
    if pa.types.is_dictionary(values.type) and not pa.types.is_string(values.type.value_type):
        return values.dictionary_decode()
    return values


def _is_in(values: pa.Array, wanted: Sequence[Value]) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        inside = _is_in(values.dictionary, wanted)
        return pc.take(inside, values.indices)
    if not wanted:
        return _none_of_them(values)
    return pc.is_in(values, value_set=_value_set(wanted, values.type))


def _value_set(wanted: Sequence[Value], dtype: pa.DataType) -> pa.Array:
    """Return the values in the column's type, less those that it cannot hold and no item has."""
    if pa.types.is_floating(dtype):
        return pa.array([found for v in wanted if (found := _float(v)) is not None], pa.float64()).cast(
            dtype, safe=False
        )
    if not pa.types.is_integer(dtype):
        return pa.array(wanted, dtype)
    least, most = _range(dtype)
    whole = [int(v) for v in wanted if isinstance(v, int) or float(v).is_integer()]
    return pa.array([value for value in whole if least <= value <= most], dtype)


def _is_at_least(values: pa.Array, bound: float) -> pa.Array:
    if not pa.types.is_integer(values.type):
        return pc.greater_equal(values, bound)
    least, most = _range(values.type)
    if bound > most:
        return _none_of_them(values)
    return pc.greater_equal(values, pa.scalar(max(math.ceil(bound), least), values.type))


def _is_at_most(values: pa.Array, bound: float) -> pa.Array:
    if not pa.types.is_integer(values.type):
        return pc.less_equal(values, bound)
    least, most = _range(values.type)
    if bound < least:
        return _none_of_them(values)
    return pc.less_equal(values, pa.scalar(min(math.floor(bound), most), values.type))


def _none_of_them(values: pa.Array) -> pa.Array:
    return pa.array(np.zeros(len(values), dtype=np.bool_))


def _range(dtype: pa.DataType) -> tuple[int, int]:
    info = np.iinfo(dtype.to_pandas_dtype())
    return int(info.min), int(info.max)


def _float(value: Value) -> float | None:
    try:
        return float(value)
    except OverflowError:  # an integer that no number of an item can be
        return None


def _booleans(values: pa.Array) -> npt.NDArray[np.bool_]:
    passed: npt.NDArray[np.bool_] = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return passed


def is_list(dtype: pa.DataType) -> bool:
    """Say whether a column's values are lists."""
    return bool(pa.types.is_list(dtype) or pa.types.is_large_list(dtype))


def element_type(dtype: pa.DataType) -> pa.DataType:
    """Return the type of a column's values, or of a list's; a list of lists has lists."""
    if is_list(dtype):
        dtype = dtype.value_type
    return dtype.value_type if pa.types.is_dictionary(dtype) else dtype


def _accepted(dtype: pa.DataType) -> tuple[Callable[[Value], bool], str]:
    """Return what tells whether a value is of an attribute's type, and the type's name."""
    if pa.types.is_boolean(dtype):
        return lambda value: isinstance(value, bool), "true or false"
    if pa.types.is_integer(dtype) or pa.types.is_float32(dtype) or pa.types.is_float64(dtype):
        return lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number"
    if pa.types.is_string(dtype) or pa.types.is_large_string(dtype):
        return lambda value: isinstance(value, str), "text"
    return lambda _: False, f"text, a number or a truth value, but the attribute is {dtype}"
