"""Codes from vectors of M components: each component cut into V quantiles."""

from typing import Any

import numpy as np
import numpy.typing as npt

NOISE_STD = 1e-5


def quantile_codes(
    vectors: npt.NDArray[np.floating[Any]], num_sub_ids: int, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Cut each component into V quantiles of equal item count (RecJPQ, WSDM 2024, Alg. 2).

    Args:
        vectors: one row per real item, float (N, M).
        num_sub_ids: V.
        rng: of the noise, N(0, 1e-5), which separates items of equal components.

    Returns:
        uint8 (N, M); every sub-id of a split names N/V items, rounded either way.
    """
    lowest, highest = vectors.min(axis=0), vectors.max(axis=0)
    spread = np.where(highest > lowest, highest - lowest, 1.0)
    unit = (vectors - lowest) / spread + rng.normal(0.0, NOISE_STD, size=vectors.shape)
    ranks = np.argsort(np.argsort(unit, axis=0, kind="stable"), axis=0)  # (N, M), 0 for the smallest
    return (ranks * num_sub_ids // len(vectors)).astype(np.uint8)
