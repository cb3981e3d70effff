"""A catalogue that grows while it is served: what training knew, and the items added since.

The trained part stays memory-mapped and shared between processes; only what was added is kept here. An item
index names the same item for ever, as for `recjpq.scoring.GrowingScorer`.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recjpq.attribute_summary import AttributeSummary
from recjpq.attributes import Filters, which_meet
from recjpq.catalogue import Catalogue
from recjpq.scoring import ItemIndices
from recjpq.text_index import is_text

MOST_KEPT = 16
"""How many conditions' items are kept, of a catalogue that has grown."""

_Row = TypeVar("_Row", bound=np.generic)


class GrowingRows(Generic[_Row]):
    """An array with rows added after its end, read by integer arrays of any shape.

    Readers take no lock: rows once readable never change, and more room is made in a copy.
    """

    def __init__(self, base: npt.NDArray[_Row]) -> None:
        self._base = base
        self._added: npt.NDArray[_Row] = base[:0].copy()
        self._count = 0

    def __len__(self) -> int:
        return len(self._base) + self._count

    def __getitem__(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[_Row]:
        if not self._count:
            known: npt.NDArray[_Row] = self._base[rows]
            return known
        first, added = len(self._base), self._added
        found: npt.NDArray[_Row] = np.array(self._base[np.minimum(rows, first - 1)])
        new = rows >= first
        found[new] = added[rows[new] - first]
        return found

    def append(self, rows: npt.NDArray[_Row]) -> None:
        """Add rows; one thread at a time."""
        total = self._count + len(rows)
        if total > len(self._added):
            room = np.zeros((max(total, 2 * self._count), *self._base.shape[1:]), dtype=self._base.dtype)
            room[: self._count] = self._added[: self._count]
            self._added = room
        self._added[self._count : total] = rows
        self._count = total

    def withdraw(self, count: int) -> None:
        """Take back the last rows, which nobody has read."""
        self._count -= count


@dataclass(frozen=True, slots=True)
class Addition:
    """Items about to be added: ids, codes uint8 (n, M), and of each the metadata that it has."""

    item_ids: Sequence[str]
    item_codes: npt.NDArray[np.uint8]
    metadata: Sequence[Mapping[str, Any]]


class GrowingCatalogue:
    """A `Catalogue` with items added and retired; readers may read while one thread changes it.

    Adding goes in three steps, so that no reader meets an index that another part does not know yet:
    `append` here (the items can be described), `append` to the scorer (they can be found), `publish` (they
    can be asked for). Added items have no interactions and come last by popularity. A retired item keeps
    its index, so that histories still understand it.

    Attributes:
        item_codes: rows uint8 (M,). counts: interactions in the training log.
        metadata_columns: as the trained catalogue's; an added item lacks what it was not given.
        changes: how many changes whoever makes them has made; told apart by it, answers can be kept.
    """

    def __init__(self, base: Catalogue) -> None:
        self.item_codes = GrowingRows(base.item_codes)
        self.counts = GrowingRows(base.counts)
        self.metadata_columns = base.metadata_columns
        self.changes = 0
        self._base = base
        self._types: dict[str, pa.DataType] = base.metadata_types
        self._first = base.num_items
        self._ids: list[str] = []
        self._metadata: list[dict[str, Any]] = []
        self._published: dict[str, int] = {}
        self._retired: ItemIndices = np.zeros(0, dtype=np.int32)
        self._allowed: dict[Filters, npt.NDArray[np.bool_]] = {}

    @property
    def num_items(self) -> int:
        """N, added and retired items included."""
        return self._first + len(self._ids)

    @property
    def num_added(self) -> int:
        """How many items were added."""
        return len(self._ids)

    @property
    def num_retired(self) -> int:
        """How many items are retired."""
        return len(self._retired)

    def most_popular(self, count: int) -> ItemIndices:
        """Return the items on offer with most interactions, ties to the lower index; at most `count`."""
        trained = self._base.most_popular(count + self.num_retired)
        offered = trained[self.is_offered(trained)][:count]
        if len(offered) == count or not self._ids:
            return offered
        added = np.arange(self._first, self.num_items, dtype=np.int32)
        return np.concatenate([offered, added[self.is_offered(added)]])[:count]

    @property
    def sub_id_shares(self) -> npt.NDArray[np.float64]:
        """Share of the trained items that have each sub-id in each split, (M, 256)."""
        return self._base.sub_id_shares

    @property
    def attribute_summaries(self) -> list[AttributeSummary]:
        """What the metadata columns of the trained items hold."""
        return self._base.attribute_summaries

    def texts_of(self, item_indices: ItemIndices) -> list[pa.Array]:
        """Return what can be searched of items, trained ones before added ones; see `Catalogue.texts_of`."""
        trained = self._base.texts_of(item_indices[item_indices < self._first])
        places = item_indices[item_indices >= self._first] - self._first
        names = [name for name, dtype in self._types.items() if is_text(dtype)]
        added = [[self._ids[place] for place in places]]
        added += [[self._metadata[place][name] for place in places] for name in names]
        return [
            pa.concat_arrays([old, pa.array(new, old.type)]) for old, new in zip(trained, added, strict=True)
        ]

    def check_filters(self, filters: Filters) -> None:
        """Raise FilterError for conditions that no item could ever meet; see `Attributes.check`."""
        self._base.check_filters(filters)

    def allowed(self, filters: Filters) -> npt.NDArray[np.bool_]:
        """Return which items meet conditions, bool (N,), not to be written to; see `Attributes.allowed`."""
        trained = self._base.allowed(filters)
        if not self._ids:
            return trained
        count = len(self._ids)
        kept = self._allowed.get(filters)
        if kept is None or len(kept) != self._first + count:
            added = np.ones(count, dtype=np.bool_)
            for name, condition in filters:
                values = [item.get(name) for item in self._metadata[:count]]
                added &= which_meet(pa.array(values, self._types[name]), condition)
            kept = np.concatenate([trained, added])
            if len(self._allowed) >= MOST_KEPT:
                self._allowed = {}
            self._allowed[filters] = kept
        return kept

    def indices_of(self, item_ids: Sequence[str]) -> ItemIndices:
        """Return each id's item index, or -1; see `Catalogue.indices_of`."""
        indices = self._base.indices_of(item_ids)
        if published := self._published:
            for position, item_id in enumerate(item_ids):
                if (index := published.get(item_id)) is not None:
                    indices[position] = index
        return indices

    def ids_of(self, item_indices: ItemIndices) -> list[str]:
        """Return the external ids of item indices, which must be in range."""
        if not self._ids:
            return self._base.ids_of(item_indices)
        trained = iter(self._base.ids_of(item_indices[item_indices < self._first]))
        return [
            self._ids[index - self._first] if index >= self._first else next(trained)
            for index in item_indices.tolist()
        ]

    def metadata_of(self, item_indices: ItemIndices) -> list[dict[str, Any]]:
        """Return each item's metadata columns by name; item indices must be in range."""
        if not self._ids:
            return self._base.metadata_of(item_indices)
        trained = iter(self._base.metadata_of(item_indices[item_indices < self._first]))
        return [
            dict(self._metadata[index - self._first]) if index >= self._first else next(trained)
            for index in item_indices.tolist()
        ]

    def is_offered(self, item_indices: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Say of each index whether the item may be recommended: it has not been retired."""
        offered: npt.NDArray[np.bool_] = ~np.isin(item_indices, self._retired)
        return offered

    def fitting(self, metadata: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Convert metadata, JSON values by name, to the types of the trained catalogue's columns.

        Returns:
            What fits, as `metadata_of` then gives it; and for every other name what is wrong with it.
        """
        fits: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for name, value in metadata.items():
            dtype = self._types.get(name)
            if dtype is None:
                wrong[name] = f"no such column; there are {', '.join(self._types) or 'none'}"
                continue
            try:
                fits[name] = _converted(value, dtype)
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                wrong[name] = f"expected a value of type {dtype}"
        return fits, wrong

    def append(self, addition: Addition) -> None:
        """Give items the next indices; they cannot be asked for by id until `publish`."""
        self.item_codes.append(addition.item_codes)
        self.counts.append(np.zeros(len(addition.item_ids), dtype=np.int64))
        blank = dict.fromkeys(self.metadata_columns)
        self._metadata.extend({**blank, **metadata} for metadata in addition.metadata)
        self._ids.extend(addition.item_ids)

    def withdraw(self, count: int) -> None:
        """Take back the last `count` items, which were appended and never published."""
        for part in (self._ids, self._metadata):
            del part[len(part) - count :]
        self.item_codes.withdraw(count)
        self.counts.withdraw(count)

    def publish(self, item_indices: ItemIndices) -> None:
        """Let appended items be asked for by id; of several with one id the last is meant."""
        for index in item_indices.tolist():
            self._published[self._ids[index - self._first]] = index

    def retire(self, item_indices: ItemIndices) -> None:
        """Leave items out of `most_popular`; repeats are harmless."""
        self._retired = np.union1d(self._retired, item_indices).astype(np.int32)


def _converted(value: Any, dtype: pa.DataType) -> Any:
    """Return a JSON value as a column of this type would give it; what JSON has no form for is text."""
    if value is None:
        return None
    if pa.types.is_dictionary(dtype):
        return _converted(value, dtype.value_type)
    if pa.types.is_list(dtype) or pa.types.is_large_list(dtype):
        if not isinstance(value, list):  # text, for one, would be taken for its letters
            raise TypeError("a column of lists needs a list")
        return [_converted(element, dtype.value_type) for element in value]
    if pa.types.is_temporal(dtype) or pa.types.is_decimal(dtype):
        return pa.scalar(value, pa.string()).cast(dtype).as_py()
    if isinstance(value, bool) and not pa.types.is_boolean(dtype):
        raise TypeError("a truth value is neither a number nor text")
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("NaN and Infinity are no numbers of JSON, though parsers take them")
    if pa.types.is_integer(dtype) and isinstance(value, float) and not value.is_integer():
        raise TypeError("a column of whole numbers needs one")  # else it would be cut off
    if pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype):
        return base64.b64decode(value, validate=True)
    return pa.scalar(value, dtype).as_py()
