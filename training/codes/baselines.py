"""Codes that know nothing of the interactions."""

import numpy as np
import numpy.typing as npt

from training.config import CodesConfig
from training.errors import DataError


def random_codes(config: CodesConfig, num_items: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """M independent uniform sub-ids per item."""
    return rng.integers(0, config.num_sub_ids, size=(num_items, config.num_splits), dtype=np.uint8)


def qr_codes(config: CodesConfig, num_items: int, _: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The item index as M digits in the smallest base that suffices, so every item's codes are unique.

    With M=2 these are quotient and remainder by ceil(sqrt(N)) (Shi et al., KDD 2020).

    Raises:
        DataError: the digits do not suffice for the items.
    """
    base = 1
    while base**config.num_splits < num_items:
        base += 1
    if base > config.num_sub_ids:
        raise DataError(
            f"codes.method qr with {config.num_splits} splits of {config.num_sub_ids} sub-ids names at most "
            f"{config.num_sub_ids**config.num_splits} items, found {num_items}; raise codes.num_splits"
        )
    powers = base ** np.arange(config.num_splits - 1, -1, -1, dtype=np.int64)
    return (np.arange(num_items)[:, None] // powers % base).astype(np.uint8)
