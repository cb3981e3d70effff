"""Checks of a scorer's arguments, made once at the boundary and shared by every back-end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recjpq.errors import ScoringError
from recjpq.scoring.protocol import ItemIndices, RowFilter

MAX_SPLITS = 64
MAX_SUB_IDS = 256
MAX_ITEMS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Call:
    """A checked call: what every back-end may trust.

    Attributes:
        score_tables: finite, C-contiguous, float32 (B, M, V).
        k: 1 to N.
        exclude, allow: per row, ascending int32 item indices without repeats, or None.
        bitmap: bool (N,) for all rows, or None.
    """

    score_tables: npt.NDArray[np.float32]
    k: int
    exclude: list[ItemIndices | None]
    allow: list[ItemIndices | None]
    bitmap: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class CallChecker:
    """Checks calls against one catalogue's sizes; `max_sub_id` is the largest of its codes."""

    num_items: int
    num_splits: int
    max_sub_id: int

    def check(
        self,
        score_tables: npt.NDArray[np.float32],
        k: int,
        exclude: RowFilter | None,
        allow: RowFilter | npt.NDArray[np.bool_] | None,
    ) -> Call:
        """Return the call in its trusted form, or raise ScoringError."""
        _check_k(k)
        _check_tables(score_tables, self.num_splits, self.max_sub_id)
        batch = len(score_tables)
        bitmap = allow if isinstance(allow, np.ndarray) else None
        if bitmap is not None:
            _check_bitmap(bitmap, self.num_items)
        return Call(
            np.ascontiguousarray(score_tables),
            min(int(k), self.num_items),
            _check_rows("exclude", exclude, batch, self.num_items),
            _check_rows("allow", None if isinstance(allow, np.ndarray) else allow, batch, self.num_items),
            None if bitmap is None else np.ascontiguousarray(bitmap),
        )


def check_codes(item_codes: npt.NDArray[np.uint8]) -> CallChecker:
    """Return the checker of calls on this catalogue.

    Raises:
        ScoringError: `item_codes` is not a uint8 (N, M) array with 1 <= M <= 64 and 1 <= N < 2^31.
    """
    if not isinstance(item_codes, np.ndarray) or item_codes.dtype != np.uint8 or item_codes.ndim != 2:
        raise ScoringError(f"item_codes: found {_describe(item_codes)}, expected uint8 (N, M)")
    num_items, num_splits = item_codes.shape
    if not 1 <= num_splits <= MAX_SPLITS:
        raise ScoringError(f"item_codes: found M={num_splits} splits, expected 1 to {MAX_SPLITS}")
    if not 1 <= num_items <= MAX_ITEMS:
        raise ScoringError(f"item_codes: found N={num_items} items, expected 1 to {MAX_ITEMS}")
    return CallChecker(num_items, num_splits, int(item_codes.max()))


def _check_tables(score_tables: npt.NDArray[np.float32], num_splits: int, max_sub_id: int) -> None:
    """Raise ScoringError unless `score_tables` is a finite float32 (B, M, V) that covers every sub-id."""
    if not isinstance(score_tables, np.ndarray) or score_tables.dtype != np.float32:
        raise ScoringError(f"score_tables: found {_describe(score_tables)}, expected float32 (B, M, V)")
    if score_tables.ndim != 3 or score_tables.shape[1] != num_splits:
        raise ScoringError(f"score_tables: found shape {score_tables.shape}, expected (B, {num_splits}, V)")
    if not max_sub_id < score_tables.shape[2] <= MAX_SUB_IDS:
        raise ScoringError(
            f"score_tables: found V={score_tables.shape[2]}, expected {max_sub_id + 1} to {MAX_SUB_IDS}: "
            f"the catalogue's codes go up to {max_sub_id}"
        )
    if not np.isfinite(score_tables).all():
        row = int(np.flatnonzero(~np.isfinite(score_tables).all(axis=(1, 2)))[0])
        raise ScoringError(f"score_tables: row {row} holds NaN or infinity, expected finite scores")


def _check_k(k: int) -> None:
    """Raise ScoringError unless k is an integer of at least 1."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ScoringError(f"k: found {k!r}, expected an integer of at least 1")


def _check_rows(name: str, rows: RowFilter | None, batch: int, num_items: int) -> list[ItemIndices | None]:
    """Return one entry per row, sorted and without repeats; raise ScoringError on a bad index."""
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
    if not isinstance(indices, np.ndarray) or indices.dtype != np.int32 or indices.ndim != 1:
        raise ScoringError(
            f"{name}: found {_describe(indices)}, expected int32 item indices of one dimension"
        )
    unique = np.unique(indices)
    if unique.size and (unique[0] < 0 or unique[-1] >= num_items):
        bad = int(unique[0] if unique[0] < 0 else unique[-1])
        raise ScoringError(f"{name}: found item index {bad}, expected 0 to {num_items - 1}")
    return unique


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
