"""Ranking metrics of next-item prediction: one relevant item a case, full ranking."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ranks = npt.NDArray[np.float64]
"""The target's rank per case, 1 for the best; infinite where it is not among the ranked items."""


def metrics_at(ranks: Ranks, ks: Sequence[int]) -> dict[str, float]:
    """Return NDCG, Recall and MRR at every k, averaged over cases.

    With one relevant item NDCG@k is ``1 / log2(rank + 1)``, Recall@k a hit, MRR@k ``1 / rank``, each 0
    beyond rank k.
    """
    metrics: dict[str, float] = {}
    for k in ks:
        inside = ranks <= k
        reached = np.where(inside, ranks, 1.0)
        metrics[f"ndcg@{k}"] = float(np.mean(inside / np.log2(reached + 1.0)))
        metrics[f"recall@{k}"] = float(np.mean(inside))
        metrics[f"mrr@{k}"] = float(np.mean(inside / reached))
    return metrics
