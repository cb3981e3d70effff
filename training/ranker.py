"""What evaluation ranks with: the scorer that serves, or for a full item table every score."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from recjpq.scoring import RowFilter, TopK
from training.errors import DivergedError


class Ranker(Protocol):
    """The part of `recjpq.scoring.Scorer` that evaluation uses; every scorer is one."""

    def top_k(
        self, score_tables: npt.NDArray[np.float32], k: int, *, exclude: RowFilter | None = None
    ) -> list[TopK]:
        """See `Scorer.top_k`."""
        ...


class DenseRanker:
    """Ranks by scores of every item: tables float32 (B, 1, N), those of `FullEmbedding`."""

    def top_k(
        self, score_tables: npt.NDArray[np.float32], k: int, *, exclude: RowFilter | None = None
    ) -> list[TopK]:
        """See `Scorer.top_k`; raises DivergedError for a score that is not finite."""
        if not np.isfinite(score_tables).all():
            raise DivergedError("found a score that is not finite; train with a lower train.learning_rate")
        unwanted = exclude or [None] * len(score_tables)
        return [_best(row[0], k, items) for row, items in zip(score_tables, unwanted, strict=True)]


def _best(scores: npt.NDArray[np.float32], k: int, exclude: npt.NDArray[np.int32] | None) -> TopK:
    eligible = np.ones(len(scores), dtype=np.bool_)
    if exclude is not None:
        eligible[exclude] = False
    ids = np.flatnonzero(eligible)
    if k < len(ids):  # sorting a large catalogue would take most of the time; every tie at the k-th is kept
        worst = np.partition(scores[ids], len(ids) - k)[len(ids) - k]
        ids = ids[scores[ids] >= worst]
    best = ids[np.argsort(-scores[ids], kind="stable")[:k]]  # stable: ties to the lower index
    return TopK(best.astype(np.int32), scores[best])
