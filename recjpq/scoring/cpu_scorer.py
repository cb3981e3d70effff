"""The compiled CPU scorer."""

import numpy as np
import numpy.typing as npt

from recjpq import _native
from recjpq.scoring.checks import check_codes
from recjpq.scoring.protocol import RowFilter, TopK


class CpuScorer:
    """One pass over the codes with a heap of the k best; see `Scorer` for the contract."""

    backend = "cpu"

    def __init__(self, item_codes: npt.NDArray[np.uint8]) -> None:
        self._checker = check_codes(item_codes)
        self._item_codes = np.ascontiguousarray(item_codes)  # (N, M); a memory map stays one
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
            TopK(
                *_native.top_k(
                    self._item_codes, table, call.k, call.exclude[row], call.allow[row], call.bitmap
                )
            )
            for row, table in enumerate(call.score_tables)
        ]
