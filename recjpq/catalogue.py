"""The catalogue: external ids to item indices and back, with codes, counts and metadata.

Ids live in one Arrow buffer and an open-addressing table of int32 (about 6 to 12 bytes an item), never in
a Python dict: ten million string ids take a few hundred megabytes instead of several gigabytes. They are read
from the file in small batches, for what reading allocates is not given back whole.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from recjpq import _native
from recjpq.attribute_summary import AttributeSummary, summarise
from recjpq.attributes import Attributes, Filters
from recjpq.errors import CatalogueError
from recjpq.text_index import is_text

ITEM_ID = "item_id"
COUNT = "count"
STRINGS = {pa.string(), pa.large_string(), pa.string_view()}
POPULAR = 100_000
"""How many of the most popular items are kept in order."""
BATCH_ROWS = 1 << 16
MAX_NARROW = 2**31 - 1
"""Bytes of ids up to which their offsets are int32."""


class Catalogue:
    """The items that can be recommended: row i of every array is the item of index i.

    Attributes:
        item_codes: uint8 (N, M), usually a memory map.
        counts: interactions of each item in the training log, int32 (N,), or int64 if they need it.
        metadata_columns: names of the columns beside `item_id` and `count`.
    """

    def __init__(self, items: pa.Table, item_codes: npt.NDArray[np.uint8]) -> None:
        """Index a table of items.

        Args:
            items: a column `item_id` (string, or integer, whose decimal form is then the id; unique, no
                nulls), a column `count` (integer, no nulls), and any metadata columns; N rows.
            item_codes: uint8 (N, M).

        Raises:
            CatalogueError: a column is missing, stands twice or has the wrong type, holds nulls or repeats
                an id, or the row counts differ.
        """
        if items.num_rows != len(item_codes):
            raise CatalogueError(f"items: found {items.num_rows} rows, expected N={len(item_codes)}")
        if repeats := sorted({name for name in items.column_names if items.column_names.count(name) > 1}):
            raise CatalogueError(f"items: found several columns {', '.join(repeats)}, expected one of each")
        ids = _column(items, ITEM_ID, pa.large_string(), _is_string_or_integer)
        self.item_codes = item_codes
        self.counts = _narrowed(_column(items, COUNT, pa.int64(), pa.types.is_integer).to_numpy())
        self.metadata_columns = tuple(name for name in items.column_names if name not in {ITEM_ID, COUNT})
        self._ids = ids
        self._metadata = [
            _without_nanoseconds(_contiguous(items.column(name))) for name in self.metadata_columns
        ]
        offsets, data = _string_buffers(ids)
        self._index = _native.IdIndex(offsets, data)
        if (repeated := self._index.first_duplicate) is not None:
            first, second = repeated
            raise CatalogueError(
                f"items: item_id {ids[second].as_py()!r} stands in rows {first} and {second}, expected once"
            )

    @classmethod
    def load(cls, items_path: Path, item_codes: npt.NDArray[np.uint8]) -> Self:
        """Read `items.parquet`; raises CatalogueError as the constructor does."""
        try:
            items = _read_items(items_path)
        except (pa.ArrowException, OSError) as error:
            raise CatalogueError(f"{items_path}: not a readable Parquet file ({error})") from error
        catalogue = cls(items, item_codes)
        del items
        pa.default_memory_pool().release_unused()
        return catalogue

    @property
    def num_items(self) -> int:
        """N, the number of items."""
        return len(self.item_codes)

    @property
    def metadata_types(self) -> dict[str, pa.DataType]:
        """The metadata columns' Arrow types by name."""
        return {name: c.type for name, c in zip(self.metadata_columns, self._metadata, strict=True)}

    def most_popular(self, count: int) -> npt.NDArray[np.int32]:
        """Return the indices of the items with most interactions, ties to the lower, int32 (min(count, N),).

        The first `POPULAR` are kept: sorting ten million items would take a second and 40 MB.
        """
        return self._popular[:count] if count <= POPULAR else self._by_popularity(count)

    @cached_property
    def _popular(self) -> npt.NDArray[np.int32]:
        return self._by_popularity(POPULAR)

    def _by_popularity(self, count: int) -> npt.NDArray[np.int32]:
        rank = max(0, self.num_items - max(1, count))
        least = np.partition(self.counts, rank)[rank]
        items = np.flatnonzero(self.counts >= least)  # more than `count`, if there are ties
        return items[np.argsort(-self.counts[items], kind="stable")[:count]].astype(np.int32)

    @cached_property
    def attributes(self) -> Attributes:
        """The metadata columns, for conditions on them."""
        return Attributes(dict(zip(self.metadata_columns, self._metadata, strict=True)), self.num_items)

    def check_filters(self, filters: Filters) -> None:
        """Raise FilterError for conditions that no item could ever meet; see `Attributes.check`."""
        self.attributes.check(filters)

    def allowed(self, filters: Filters) -> npt.NDArray[np.bool_]:
        """Return which items meet conditions, bool (N,), not to be written to; see `Attributes.allowed`."""
        return self.attributes.allowed(filters)

    @cached_property
    def attribute_summaries(self) -> list[AttributeSummary]:
        """What the metadata columns hold; a pass over each, when it is first wanted."""
        return summarise(dict(zip(self.metadata_columns, self._metadata, strict=True)))

    def texts_of(self, item_indices: npt.NDArray[np.int32]) -> list[pa.Array]:
        """Return what can be searched of items: their ids, then each metadata column of text."""
        rows = pa.array(item_indices)
        texts = [column for column in self._metadata if is_text(column.type)]
        return [column.take(rows).cast(pa.large_string()) for column in (self._ids, *texts)]

    @cached_property
    def sub_id_shares(self) -> npt.NDArray[np.float64]:
        """Share of the items that have each sub-id in each split, (M, 256)."""
        counts = [np.bincount(column, minlength=256) for column in self.item_codes.T]
        return np.stack(counts) / self.num_items

    def indices_of(self, item_ids: Sequence[str]) -> npt.NDArray[np.int32]:
        """Return each id's item index, or -1 where the catalogue does not have it; int32 (len,).

        Raises:
            TypeError: an id is not a string, or `item_ids` is one id instead of a sequence of them.
        """
        if isinstance(item_ids, str):
            raise TypeError(f"item_ids: found the string {item_ids!r}, expected a sequence of strings")
        return self._index.find(list(item_ids))

    def ids_of(self, item_indices: npt.NDArray[np.int32]) -> list[str]:
        """Return the external ids of item indices, which must be in range."""
        return [self._ids[index].as_py() for index in item_indices.tolist()]

    def metadata_of(self, item_indices: npt.NDArray[np.int32]) -> list[dict[str, Any]]:
        """Return each item's metadata columns by name; items indices must be in range."""
        return [
            {
                name: column[index].as_py()
                for name, column in zip(self.metadata_columns, self._metadata, strict=True)
            }
            for index in item_indices.tolist()
        ]


def _read_items(path: Path) -> pa.Table:
    """Read `items.parquet`, ids that are strings in one piece."""
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if names.count(ITEM_ID) != 1 or file.schema_arrow.field(ITEM_ID).type not in STRINGS:
            return file.read()
        items = file.read(columns=[name for name in names if name != ITEM_ID])
        return items.append_column(ITEM_ID, _read_strings(file, ITEM_ID))


def _read_strings(file: pq.ParquetFile, name: str) -> pa.Array:
    """Read a column of strings into buffers of its own, which grow in place."""
    offsets = np.zeros(file.metadata.num_rows + 1, dtype=np.int32)
    data = np.empty(0, dtype=np.uint8)
    rows = size = 0
    for batch in file.iter_batches(BATCH_ROWS, columns=[name]):
        strings = batch.column(0)
        if strings.type == pa.string_view():
            strings = strings.cast(pa.large_string())
        if strings.null_count:  # refused by whoever counts them
            return file.read(columns=[name]).column(0)
        batch_offsets, batch_data = _string_buffers(strings)
        first, last = int(batch_offsets[0]), int(batch_offsets[-1])
        end = size + last - first
        if end > MAX_NARROW:
            offsets = offsets.astype(np.int64, copy=False)
        if end > len(data):
            data.resize(end + size, refcheck=False)  # nothing else refers to it
        data[size:end] = batch_data[first:last]
        offsets[rows + 1 : rows + len(strings) + 1] = batch_offsets[1:].astype(np.int64) + (size - first)
        rows, size = rows + len(strings), end
    data.resize(size, refcheck=False)
    dtype = pa.string() if offsets.dtype == np.int32 else pa.large_string()
    return pa.Array.from_buffers(dtype, rows, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _narrowed(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.integer[Any]]:
    """Return counts as int32 where all fit."""
    limits = np.iinfo(np.int32)
    fit = limits.min < counts.min(initial=0) and counts.max(initial=0) <= limits.max
    return counts.astype(np.int32) if fit else counts


def _column(
    items: pa.Table, name: str, dtype: pa.DataType, accepts: Callable[[pa.DataType], bool]
) -> pa.Array:
    if name not in items.column_names:
        raise CatalogueError(f"items: no column {name!r}, found {', '.join(items.column_names)}")
    column = items.column(name)
    found = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if found == pa.string() and dtype == pa.large_string() and column.num_chunks == 1:
        dtype = found  # one piece with narrow offsets stays as it is
    if not accepts(found) and not pa.types.is_null(found):
        raise CatalogueError(f"items: column {name!r} is {column.type}, expected {dtype}")
    try:
        values = _contiguous(column.cast(dtype))
    except pa.ArrowException as error:
        raise CatalogueError(
            f"items: column {name!r} is {column.type}, expected {dtype} ({error})"
        ) from error
    if values.null_count:  # after the cast: a null may stand in a dictionary
        raise CatalogueError(f"items: column {name!r} holds {values.null_count} nulls, expected none")
    return values


def _is_string_or_integer(dtype: pa.DataType) -> bool:
    return dtype in STRINGS or bool(pa.types.is_integer(dtype))


def _without_nanoseconds(column: pa.Array) -> pa.Array:
    """Cut times to the microseconds that Python's own have; else a single one could not be read."""
    dtype = column.type
    if pa.types.is_timestamp(dtype) and dtype.unit == "ns":
        return column.cast(pa.timestamp("us", dtype.tz), safe=False)
    if pa.types.is_duration(dtype) and dtype.unit == "ns":
        return column.cast(pa.duration("us"), safe=False)
    return column.cast(pa.time64("us"), safe=False) if dtype == pa.time64("ns") else column


def _contiguous(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    chunks = column.combine_chunks()
    return chunks if isinstance(chunks, pa.Array) else pa.concat_arrays(chunks.chunks)


def _string_buffers(ids: pa.Array) -> tuple[npt.NDArray[np.int32 | np.int64], npt.NDArray[np.uint8]]:
    _, offsets, data = ids.buffers()
    width: type[np.int32 | np.int64] = np.int32 if ids.type == pa.string() else np.int64
    all_offsets: npt.NDArray[np.int32 | np.int64] = np.frombuffer(offsets, dtype=width)
    all_offsets = all_offsets[ids.offset : ids.offset + len(ids) + 1]
    empty = data is None or data.size == 0
    return all_offsets, np.zeros(1, dtype=np.uint8) if empty else np.frombuffer(data, dtype=np.uint8)
