"""The stage `codes`: every item split into M one-byte codes, before any training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from training.config import CodesConfig
from training.errors import DataError
from training.files import fingerprint, is_made_from, read_json, replacing_directory, write_json
from training.split import Split

NOISE_STD = 1e-5
CODES = "item_codes.npy"
SUMMARY = "codes.json"


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of every item: uint8 (N, M), with what they were made from."""

    item_codes: npt.NDArray[np.uint8]
    summary: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Map the stage's output; raises StageError when `codes` has not made it."""
        summary = read_json(path / SUMMARY, "codes")
        return cls(np.load(path / CODES, mmap_mode="r"), summary)

    @property
    def fingerprint(self) -> str:
        """Equal for codes made from the same split in the same way."""
        return str(self.summary["fingerprint"])


def make_codes(config: CodesConfig, split: Split, seed: int, directory: Path) -> Codes:
    """Write `directory`, or keep it when it was made from the same interactions in the same way.

    Only training interactions are seen: neither test nor validation items leak into the codes.

    Raises:
        DataError: the log is too small for the number of splits.
    """
    made_from = fingerprint("codes 1", config.model_dump(mode="json"), seed, split.dataset.fingerprint,
                            *split.identity)  # fmt: skip
    if is_made_from(directory / SUMMARY, made_from):
        return Codes.load(directory)
    rng = np.random.default_rng([seed, 0xC0DE5])
    item_codes = _METHODS[config.method](config, split, rng)
    distinct = len(np.unique(item_codes, axis=0))
    summary = {
        "fingerprint": made_from,
        "method": config.method,
        "items": len(item_codes),
        "distinct_codes": distinct,
    }
    with replacing_directory(directory) as partial:
        np.save(partial / CODES, item_codes)
        write_json(partial / SUMMARY, summary)
    return Codes.load(directory)


def interaction_matrix(split: Split, weights: str) -> sp.csr_array:
    """Return the users x items matrix of training interactions, float32; repeats count once if `binary`."""
    users, items = split.training_interactions()
    shape = (split.dataset.num_users, split.dataset.num_items)
    matrix = sp.coo_array((np.ones(len(items), dtype=np.float32), (users, items)), shape=shape).tocsr()
    matrix.sum_duplicates()
    if weights == "binary":
        matrix.data[:] = 1.0
    return matrix


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


def _svd(config: CodesConfig, split: Split, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    matrix = interaction_matrix(split, config.weights)
    if config.num_splits >= min(matrix.shape):
        raise DataError(
            f"codes.num_splits is {config.num_splits}; an SVD with so many components needs more than "
            f"the {matrix.shape[0]} users and {matrix.shape[1]} items of this log"
        )
    start = rng.normal(size=min(matrix.shape))
    _, values, components = svds(matrix, k=config.num_splits, v0=start, which="LM")
    vectors = components[np.argsort(-values)].T  # (N, M), the strongest component first
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])  # an SVD leaves signs open
    return quantile_codes(vectors, config.num_sub_ids, rng)


def _random(config: CodesConfig, split: Split, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    shape = (split.dataset.num_items, config.num_splits)
    return rng.integers(0, config.num_sub_ids, size=shape, dtype=np.uint8, endpoint=False)


_METHODS = {"svd": _svd, "random": _random}
