"""What each item of a history did for a result."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recjpq.scoring import ItemIndices, ScoreTables
from service.model import Model


@dataclass(frozen=True, slots=True)
class Contributions:
    """What each item of a history contributed to each result: score with it, less score without it.

    Scores count from the mean over the catalogue, so that what all items gain is no contribution.

    Attributes:
        history: distinct item indices, the newest first, int32 (n,).
        scores: float32 (results, n).
    """

    history: ItemIndices
    scores: npt.NDArray[np.float32]


def newest_distinct(history: ItemIndices, limit: int) -> ItemIndices:
    """Return at most `limit` of a history's items, each once, the newest first, int32."""
    distinct = list(dict.fromkeys(history[::-1].tolist()))[:limit]
    return np.array(distinct, dtype=np.int32)


def above_mean(model: Model, score_tables: ScoreTables, items: ItemIndices) -> npt.NDArray[np.float32]:
    """Return items' scores less the mean score over the catalogue: tables (B, M, V) -> float32 (B, items)."""
    tables = np.asarray(score_tables)
    num_splits, num_sub_ids = tables.shape[1:]
    codes = model.catalogue.item_codes[items]  # (items, M)
    scores = tables[:, np.arange(num_splits), codes].sum(axis=2)
    means = np.einsum("bmv,mv->b", tables, model.catalogue.sub_id_shares[:, :num_sub_ids])
    above: npt.NDArray[np.float32] = (scores - means[:, None]).astype(np.float32)
    return above
