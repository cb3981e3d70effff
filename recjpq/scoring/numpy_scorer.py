"""The specification: exact top-k in plain NumPy, written to be obviously right."""

import numpy as np
import numpy.typing as npt

from recjpq.scoring.checks import Call, CallChecker, check_codes, check_item_indices
from recjpq.scoring.protocol import ItemIndices, RowFilter, ScoreTables, TopK

_Snapshot = tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], CallChecker]


class NumpyScorer:
    """Scores every item and sorts; see `GrowingScorer` for the contract.

    One thread at a time may append or retire; searches may run meanwhile.
    """

    backend = "numpy"

    def __init__(self, item_codes: npt.NDArray[np.uint8], *, num_sub_ids: int | None = None) -> None:
        checker = check_codes(item_codes, num_sub_ids)
        self._snapshot: _Snapshot = (item_codes, np.zeros(len(item_codes), dtype=np.bool_), checker)

    @property
    def num_items(self) -> int:
        """N, retired items included."""
        return self._snapshot[2].num_items

    def top_k(
        self,
        score_tables: ScoreTables,
        k: int,
        *,
        exclude: RowFilter | None = None,
        allow: RowFilter | npt.NDArray[np.bool_] | None = None,
    ) -> list[TopK]:
        """See `Scorer.top_k`."""
        item_codes, retired, checker = self._snapshot
        call = checker.check(score_tables, k, exclude, allow)
        return [
            _best(item_codes, table, call.k, _eligible(call, row) & ~retired)
            for row, table in enumerate(call.score_tables)
        ]

    def append(self, item_codes: npt.NDArray[np.uint8]) -> ItemIndices:
        """See `GrowingScorer.append`."""
        known, retired, checker = self._snapshot
        grown = checker.extended(item_codes)
        still = np.concatenate([retired, np.zeros(len(item_codes), dtype=np.bool_)])
        self._snapshot = (np.concatenate([known, item_codes]), still, grown)
        return np.arange(checker.num_items, grown.num_items, dtype=np.int32)

    def retire(self, items: ItemIndices) -> None:
        """See `GrowingScorer.retire`."""
        item_codes, retired, checker = self._snapshot
        check_item_indices("items", items, checker.num_items)
        retired = retired.copy()
        retired[items] = True
        self._snapshot = (item_codes, retired, checker)


def _eligible(call: Call[npt.NDArray[np.float32]], row: int) -> npt.NDArray[np.bool_]:
    eligible = np.ones(call.num_items, dtype=np.bool_) if call.bitmap is None else call.bitmap.copy()
    if (allow := call.allow[row]) is not None:
        eligible[:] = False
        eligible[allow] = True
    if (exclude := call.exclude[row]) is not None:
        eligible[exclude] = False
    return eligible


def _best(
    item_codes: npt.NDArray[np.uint8],
    table: npt.NDArray[np.float32],
    k: int,
    eligible: npt.NDArray[np.bool_],
) -> TopK:
    scores = np.zeros(len(item_codes), dtype=np.float32)
    with np.errstate(over="ignore"):  # a sum beyond float32 is an infinite score, and ranks so
        for split in range(item_codes.shape[1]):  # the contract's order of addition
            scores += table[split, item_codes[:, split]]
    ids = np.flatnonzero(eligible)
    best_first = ids[np.argsort(-scores[ids], kind="stable")[:k]]  # stable: ties to the lower index
    return TopK(best_first.astype(np.int32), scores[best_first])
