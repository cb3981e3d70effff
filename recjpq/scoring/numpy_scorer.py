"""The specification: exact top-k in plain NumPy, written to be obviously right."""

import numpy as np
import numpy.typing as npt

from recjpq.scoring.checks import Call, check_codes
from recjpq.scoring.protocol import RowFilter, TopK


class NumpyScorer:
    """Scores every item and sorts; see `Scorer` for the contract."""

    backend = "numpy"

    def __init__(self, item_codes: npt.NDArray[np.uint8]) -> None:
        self._checker = check_codes(item_codes)
        self._item_codes = item_codes  # (N, M)
        self.num_items = len(item_codes)

    def top_k(
        self,
        score_tables: npt.NDArray[np.float32],
        k: int,
        *,
        exclude: RowFilter | None = None,
        allow: RowFilter | npt.NDArray[np.bool_] | None = None,
    ) -> list[TopK]:
        """See `Scorer.top_k`."""
        call = self._checker.check(score_tables, k, exclude, allow)
        return [
            self._best(table, call.k, self._eligible(call, row))
            for row, table in enumerate(call.score_tables)
        ]

    def _eligible(self, call: Call, row: int) -> npt.NDArray[np.bool_]:
        eligible = np.ones(self.num_items, dtype=np.bool_) if call.bitmap is None else call.bitmap.copy()
        if (allow := call.allow[row]) is not None:
            eligible[:] = False
            eligible[allow] = True
        if (exclude := call.exclude[row]) is not None:
            eligible[exclude] = False
        return eligible

    def _best(self, table: npt.NDArray[np.float32], k: int, eligible: npt.NDArray[np.bool_]) -> TopK:
        scores = np.zeros(self.num_items, dtype=np.float32)
        with np.errstate(over="ignore"):  # a sum beyond float32 is an infinite score, and ranks so
            for split in range(self._item_codes.shape[1]):  # the contract's order of addition
                scores += table[split, self._item_codes[:, split]]
        ids = np.flatnonzero(eligible)
        best_first = ids[np.argsort(-scores[ids], kind="stable")[:k]]  # stable: ties to the lower index
        return TopK(best_first.astype(np.int32), scores[best_first])
