"""Checks of a scorer's arguments, made once at the boundary and shared by every back-end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from recjpq import _native
from recjpq.errors import ScoringError
from recjpq.scoring.protocol import DeviceTables, ItemIndices, RowFilter, ScoreTables

MAX_SPLITS = 64
MAX_SUB_IDS = 256
MAX_ITEMS = 2**31 - 1


Tables = TypeVar("Tables", npt.NDArray[np.float32], ScoreTables)


class Call(NamedTuple, Generic[Tables]):
    """A checked call: what every back-end may trust.

    Attributes:
        score_tables: finite, C-contiguous, float32 (B, M, V); on a device they may not be finite.
        k: 1 to N.
        num_items: N of the catalogue that was checked against.
        exclude, allow: per row, C-contiguous int32 item indices, or None.
        bitmap: C-contiguous bool (N,) for all rows, or None.
    """

    score_tables: Tables
    k: int
    num_items: int
    exclude: list[ItemIndices | None]
    allow: list[ItemIndices | None]
    bitmap: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class CallChecker:
    """Checks calls against one catalogue's sizes.

    Attributes:
        num_items, num_splits: N and M.
        max_sub_id: the largest of the catalogue's codes.
        num_sub_ids: V, which no code may reach; 256 if it is not known.
    """

    num_items: int
    num_splits: int
    max_sub_id: int
    num_sub_ids: int

    def check(
        self,
        score_tables: ScoreTables,
        k: int,
        exclude: RowFilter | None,
        allow: RowFilter | npt.NDArray[np.bool_] | None,
    ) -> Call[npt.NDArray[np.float32]]:
        """Return the call in its trusted form, tables of a device downloaded, or raise ScoringError."""
        tables = np.asarray(score_tables) if isinstance(score_tables, DeviceTables) else score_tables
        return self._call(_check_tables(tables, self.num_splits, self.max_sub_id), k, exclude, allow)

    def check_on_device(
        self,
        score_tables: ScoreTables,
        k: int,
        exclude: RowFilter | None,
        allow: RowFilter | npt.NDArray[np.bool_] | None,
    ) -> Call[ScoreTables]:
        """As `check`, but what is on a device stays there, and whether it is finite is to be seen there."""
        if not isinstance(score_tables, DeviceTables):
            score_tables = _check_tables(score_tables, self.num_splits, self.max_sub_id)
        _check_shape(score_tables.shape, self.num_splits, self.max_sub_id)
        return self._call(score_tables, k, exclude, allow)

    def _call(
        self,
        score_tables: Tables,
        k: int,
        exclude: RowFilter | None,
        allow: RowFilter | npt.NDArray[np.bool_] | None,
    ) -> Call[Tables]:
        _check_k(k)
        batch = len(score_tables)
        bitmap = allow if isinstance(allow, np.ndarray) else None
        if bitmap is not None:
            _check_bitmap(bitmap, self.num_items)
        return Call(
            score_tables,
            min(int(k), self.num_items),
            self.num_items,
            _check_rows("exclude", exclude, batch, self.num_items),
            _check_rows("allow", None if isinstance(allow, np.ndarray) else allow, batch, self.num_items),
            None if bitmap is None else np.ascontiguousarray(bitmap),
        )

    def extended(self, item_codes: npt.NDArray[np.uint8]) -> "CallChecker":
        """Return the checker of the catalogue with more items, perhaps none.

        Raises:
            ScoringError: `item_codes` is not uint8 (n, M), has a sub-id of V or above, or is too much.
        """
        if not isinstance(item_codes, np.ndarray) or item_codes.dtype != np.uint8 or item_codes.ndim != 2:
            raise ScoringError(
                f"item_codes: found {_describe(item_codes)}, expected uint8 (n, {self.num_splits})"
            )
        if item_codes.shape[1] != self.num_splits:
            raise ScoringError(f"item_codes: found {item_codes.shape[1]} splits, expected {self.num_splits}")
        total = self.num_items + len(item_codes)
        if total > MAX_ITEMS:
            raise ScoringError(f"item_codes: found {total} items in all, expected at most {MAX_ITEMS}")
        max_sub_id = max(self.max_sub_id, _max_sub_id(item_codes, self.num_sub_ids))
        return replace(self, num_items=total, max_sub_id=max_sub_id)


def check_codes(item_codes: npt.NDArray[np.uint8], num_sub_ids: int | None = None) -> CallChecker:
    """Return the checker of calls on this catalogue.

    Raises:
        ScoringError: `item_codes` is not a uint8 (N, M) array with 1 <= M <= 64 and 1 <= N < 2^31, or has a
            sub-id of `num_sub_ids` or above, or that is not 1 to 256.
    """
    if num_sub_ids is None:
        num_sub_ids = MAX_SUB_IDS
    if not 1 <= num_sub_ids <= MAX_SUB_IDS:
        raise ScoringError(f"num_sub_ids: found {num_sub_ids}, expected 1 to {MAX_SUB_IDS}")
    if not isinstance(item_codes, np.ndarray) or item_codes.dtype != np.uint8 or item_codes.ndim != 2:
        raise ScoringError(f"item_codes: found {_describe(item_codes)}, expected uint8 (N, M)")
    num_items, num_splits = item_codes.shape
    if not 1 <= num_splits <= MAX_SPLITS:
        raise ScoringError(f"item_codes: found M={num_splits} splits, expected 1 to {MAX_SPLITS}")
    if not 1 <= num_items <= MAX_ITEMS:
        raise ScoringError(f"item_codes: found N={num_items} items, expected 1 to {MAX_ITEMS}")
    return CallChecker(num_items, num_splits, _max_sub_id(item_codes, num_sub_ids), num_sub_ids)


def check_item_indices(name: str, indices: ItemIndices, num_items: int) -> None:
    """Raise ScoringError unless `indices` are int32 item indices of one dimension, each below `num_items`."""
    if not isinstance(indices, np.ndarray) or indices.dtype != np.int32 or indices.ndim != 1:
        raise ScoringError(
            f"{name}: found {_describe(indices)}, expected int32 item indices of one dimension"
        )
    if not _native.all_below(np.ascontiguousarray(indices), num_items):
        bad = int(indices.min() if indices.min() < 0 else indices.max())
        raise ScoringError(f"{name}: found item index {bad}, expected 0 to {num_items - 1}")


def _max_sub_id(item_codes: npt.NDArray[np.uint8], num_sub_ids: int) -> int:
    """Return the largest code, or 0 if there is none; raise ScoringError on one that is not below V."""
    largest = int(item_codes.max(initial=0))
    if largest >= num_sub_ids:
        raise ScoringError(f"item_codes: found sub-id {largest}, expected 0 to {num_sub_ids - 1}")
    return largest


def _check_tables(
    score_tables: npt.NDArray[np.float32], num_splits: int, max_sub_id: int
) -> npt.NDArray[np.float32]:
    """Return the tables C-contiguous; raise ScoringError unless finite float32 (B, M, V) for every sub-id."""
    if not isinstance(score_tables, np.ndarray) or score_tables.dtype != np.float32:
        raise ScoringError(f"score_tables: found {_describe(score_tables)}, expected float32 (B, M, V)")
    _check_shape(score_tables.shape, num_splits, max_sub_id)
    score_tables = np.ascontiguousarray(score_tables)
    if (row := _native.first_row_not_finite(score_tables)) >= 0:
        raise not_finite(row)
    return score_tables


def _check_shape(shape: tuple[int, ...], num_splits: int, max_sub_id: int) -> None:
    if len(shape) != 3 or shape[1] != num_splits:
        raise ScoringError(f"score_tables: found shape {shape}, expected (B, {num_splits}, V)")
    if not max_sub_id < shape[2] <= MAX_SUB_IDS:
        raise ScoringError(
            f"score_tables: found V={shape[2]}, expected {max_sub_id + 1} to {MAX_SUB_IDS}: "
            f"the catalogue's codes go up to {max_sub_id}"
        )


def not_finite(row: int) -> ScoringError:
    """Return the error for a table that is not finite."""
    return ScoringError(f"score_tables: row {row} holds NaN or infinity, expected finite scores")


def _check_k(k: int) -> None:
    """Raise ScoringError unless k is an integer of at least 1."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ScoringError(f"k: found {k!r}, expected an integer of at least 1")


def _check_rows(name: str, rows: RowFilter | None, batch: int, num_items: int) -> list[ItemIndices | None]:
    """Return one entry per row, C-contiguous; raise ScoringError on a bad index."""
    if rows is None:
        return [None] * batch
    if isinstance(rows, np.ndarray) or not isinstance(rows, Sequence) or len(rows) != batch:
        raise ScoringError(
            f"{name}: found {_describe(rows)}, expected a sequence of {batch} entries, one per row, "
            "each int32 item indices or None"
        )
    return [None if row is None else _check_indices(name, row, num_items) for row in rows]


def _check_bitmap(allow: npt.NDArray[np.bool_], num_items: int) -> None:
    """Raise ScoringError unless `allow` is a boolean array over the whole catalogue."""
    if allow.dtype != np.bool_ or allow.shape != (num_items,):
        raise ScoringError(
            f"allow: found {_describe(allow)}, expected bool ({num_items},) or a sequence of int32 indices"
        )


def _check_indices(name: str, indices: ItemIndices, num_items: int) -> ItemIndices:
    check_item_indices(name, indices, num_items)
    return np.ascontiguousarray(indices)


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
