"""Ranking metrics of next-item prediction: one relevant item a case, full ranking."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ranks = npt.NDArray[np.float64]
"""The target's rank per case, 1 for the best; infinite where it is not among the ranked items."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one recommender makes of C cases.

    Attributes:
        ranks: of the targets, float64 (C,).
        lists: the best K items of every case, best first, int32 (C, K); -1 where there are fewer.
    """

    ranks: Ranks
    lists: npt.NDArray[np.int32]


def names_at(ks: Sequence[int]) -> list[str]:
    """Return the names of the metrics, in the order of `values_at`'s columns."""
    return [f"{metric}@{k}" for k in ks for metric in ("ndcg", "recall", "mrr")]


def values_at(ranks: Ranks, ks: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return every case's NDCG, Recall and MRR at every k, float64 (C, 3 x ks).

    With one relevant item NDCG@k is ``1 / log2(rank + 1)``, Recall@k a hit, MRR@k ``1 / rank``, each 0
    beyond rank k.
    """
    columns = []
    for k in ks:
        inside = ranks <= k
        reached = np.where(inside, ranks, 1.0)
        columns += [inside / np.log2(reached + 1.0), inside.astype(np.float64), inside / reached]
    return np.stack(columns, axis=1)


def metrics_at(ranks: Ranks, ks: Sequence[int]) -> dict[str, float]:
    """Return NDCG, Recall and MRR at every k, averaged over cases."""
    return dict(zip(names_at(ks), values_at(ranks, ks).mean(axis=0).tolist(), strict=True))
