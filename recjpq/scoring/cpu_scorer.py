"""The compiled CPU scorer."""

import os
import threading

import numpy as np
import numpy.typing as npt

from recjpq import _native
from recjpq.errors import BackendUnavailableError, ScoringError
from recjpq.scoring.checks import CallChecker, check_codes, check_item_indices
from recjpq.scoring.protocol import ItemIndices, RowFilter, ScoreTables, TopK

_Snapshot = tuple[_native.Catalogue, CallChecker]


class CpuScorer:
    """Scans the codes by SIMD and skips what cannot be among the best; see `GrowingScorer`.

    Readers take no lock: a search works on the snapshot that it found, and growing puts a new one in its
    place by a single assignment.
    """

    backend = "cpu"

    def __init__(
        self,
        item_codes: npt.NDArray[np.uint8],
        *,
        threads: int = 1,
        num_sub_ids: int | None = None,
        instruction_set: str = "",
        plain_scan: bool = False,
    ) -> None:
        """Sort and index the catalogue.

        Args:
            item_codes: uint8 (N, M), kept by reference.
            threads: how many may work on one call, the caller's own included.
            num_sub_ids: V, if codes beyond it are to be refused.
            instruction_set: one of `_native.instruction_sets()`, by default the fastest.
            plain_scan: look at every item, without bounds: what the benchmark compares skipping with.
        """
        if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024:
            raise ScoringError(f"threads: found {threads!r}, expected an integer from 1 to 1024")
        if instruction_set not in ("", *_native.instruction_sets()):
            choices = ", ".join(_native.instruction_sets())
            raise BackendUnavailableError(
                f"instruction_set: found {instruction_set!r}, expected one of {choices}"
            )
        checker = check_codes(item_codes, num_sub_ids)
        self._searcher = _native.Searcher(threads, instruction_set, plain_scan)
        self._snapshot: _Snapshot = (_native.Catalogue(np.ascontiguousarray(item_codes)), checker)
        self._writers: dict[int, threading.Lock] = {}

    @property
    def num_items(self) -> int:
        """N, retired items included."""
        return self._snapshot[1].num_items

    @property
    def size_bytes(self) -> int:
        """Memory of the index, without the `item_codes` that it was built from."""
        return self._snapshot[0].size_bytes

    @property
    def instruction_set(self) -> str:
        """The instruction set in use."""
        return self._searcher.instruction_set

    def top_k(
        self,
        score_tables: ScoreTables,
        k: int,
        *,
        exclude: RowFilter | None = None,
        allow: RowFilter | npt.NDArray[np.bool_] | None = None,
    ) -> list[TopK]:
        """See `Scorer.top_k`."""
        catalogue, checker = self._snapshot
        call = checker.check(score_tables, k, exclude, allow)
        rows = self._searcher.top_k(
            catalogue, call.score_tables, call.k, call.exclude, call.allow, call.bitmap
        )
        return [TopK(ids, scores) for ids, scores in rows]

    def append(self, item_codes: npt.NDArray[np.uint8]) -> ItemIndices:
        """See `GrowingScorer.append`."""
        with self._writing():
            catalogue, checker = self._snapshot
            grown = checker.extended(item_codes)
            if len(item_codes):
                self._snapshot = (catalogue.append(np.ascontiguousarray(item_codes)), grown)
            return np.arange(checker.num_items, grown.num_items, dtype=np.int32)

    def retire(self, items: ItemIndices) -> None:
        """See `GrowingScorer.retire`."""
        with self._writing():
            catalogue, checker = self._snapshot
            check_item_indices("items", items, checker.num_items)
            self._snapshot = (catalogue.retire(np.ascontiguousarray(items)), checker)

    def _writing(self) -> threading.Lock:
        # One lock for each process: a forked child may have copied its parent's while it was held.
        return self._writers.setdefault(os.getpid(), threading.Lock())
