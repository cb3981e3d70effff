"""Codes from vectors of M components: each component cut into V quantiles."""

from typing import Any

import numpy as np
import numpy.typing as npt

NOISE_STD = 1e-5


def quantile_codes(
    vectors: npt.NDArray[np.floating[Any]],
    num_sub_ids: int,
    rng: np.random.Generator,
    mass: npt.NDArray[np.floating[Any]] | None = None,
) -> npt.NDArray[np.uint8]:
    """Cut each component into V quantiles (RecJPQ, WSDM 2024, Alg. 2), of equal mass.

    Args:
        vectors: one row per real item, float (N, M).
        num_sub_ids: V.
        rng: of the noise, N(0, 1e-5), which separates items of equal components.
        mass: of each item, float (N,), not negative. None, as in the paper, is the same for all; by their
            interactions, the items that users meet have as many sub-ids as their share of the log.

    Returns:
        uint8 (N, M).
    """
    lowest, highest = vectors.min(axis=0), vectors.max(axis=0)
    spread = np.where(highest > lowest, highest - lowest, 1.0)
    unit = (vectors - lowest) / spread + rng.normal(0.0, NOISE_STD, size=vectors.shape)
    order = np.argsort(unit, axis=0, kind="stable")  # (N, M)
    masses = np.ones(len(vectors)) if mass is None else np.maximum(mass.astype(np.float64), 1e-3)
    sorted_mass = masses[order]
    middles = np.cumsum(sorted_mass, axis=0) - sorted_mass / 2
    quantiles = (middles * (num_sub_ids / masses.sum())).astype(np.int64)
    codes = np.empty(vectors.shape, dtype=np.uint8)
    np.put_along_axis(codes, order, np.minimum(quantiles, num_sub_ids - 1).astype(np.uint8), axis=0)
    return codes
