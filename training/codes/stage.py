"""The stage itself: which method, what it may see, and what it leaves behind."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from training.codes.baselines import qr_codes, random_codes
from training.codes.bpr import bpr_codes
from training.codes.graph import graph_codes
from training.codes.matrix import interaction_matrix, without_cold_items
from training.codes.pq import pq_codes
from training.codes.svd import svd_codes
from training.codes.unique import unique_codes
from training.config import CodesConfig
from training.files import (
    fingerprint,
    is_made_from,
    read_array,
    read_json,
    replacing_directory,
    write_json,
)
from training.split import Split

CODES = "item_codes.npy"
SUB_EMBEDDINGS = "sub_embeddings.npy"
SUMMARY = "codes.json"

ItemCodes = npt.NDArray[np.uint8]
SubEmbeddings = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of every item, with what they were made from.

    Attributes:
        item_codes: uint8 (N, M).
        sub_embeddings: what training begins from, float32 (M, V, D/M); None leaves it to chance.
        summary: method, counts and fingerprint.
    """

    item_codes: ItemCodes
    sub_embeddings: SubEmbeddings | None
    summary: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Map the stage's output; raises StageError when `codes` has not made it."""
        summary = read_json(path / SUMMARY, "codes")
        initial = path / SUB_EMBEDDINGS
        return cls(
            read_array(path / CODES, "codes"),
            read_array(initial, "codes", mapped=False) if initial.exists() else None,
            summary,
        )

    @property
    def fingerprint(self) -> str:
        """Equal for codes made from the same split in the same way."""
        return str(self.summary["fingerprint"])


def codes_made_from(config: CodesConfig, split: Split, seed: int, *, dim: int) -> str:
    """Return the fingerprint that `make_codes` gives to its output."""
    return fingerprint(
        "codes 2",
        config.model_dump(mode="json"),
        dim if config.method == "pq" else None,
        seed,
        split.dataset.fingerprint,
        split.identity,
    )


def make_codes(config: CodesConfig, split: Split, seed: int, directory: Path, *, dim: int) -> Codes:
    """Write `directory`, or keep it when it was made from the same interactions in the same way.

    Only training interactions are seen: neither test nor validation items leak into the codes. An item
    without any takes each of its codes from an item drawn at random: it is like the average item, and
    the sub-ids stay as full as they were.

    Args:
        config: the method and its settings.
        split: whose training interactions are seen.
        seed: of everything random.
        directory: the stage's output.
        dim: D, the components that the method `pq` quantises.

    Raises:
        DataError: the log is too small for the number of splits, or the codes too few for the items.
    """
    made_from = codes_made_from(config, split, seed, dim=dim)
    if is_made_from(directory / SUMMARY, made_from):
        return Codes.load(directory)
    rng = np.random.default_rng([seed, 0xC0DE5])
    with threadpool_limits(1):  # sums in another order, by more threads, would be other codes
        item_codes, sub_embeddings, cold = _make(config, split, dim, rng)
    collisions = len(item_codes) - _distinct(item_codes)
    if config.unique:
        item_codes = unique_codes(item_codes, _distances(config, sub_embeddings), _counts(split))
    summary = {
        "fingerprint": made_from,
        "method": config.method,
        "items": len(item_codes),
        "cold_items": cold,
        "distinct_codes": len(item_codes) if config.unique else len(item_codes) - collisions,
        "items_made_unique": collisions if config.unique else 0,
    }
    with replacing_directory(directory, (CODES, SUB_EMBEDDINGS, SUMMARY)) as partial:
        np.save(partial / CODES, item_codes)
        if sub_embeddings is not None:
            np.save(partial / SUB_EMBEDDINGS, sub_embeddings)
        write_json(partial / SUMMARY, summary)
    return Codes.load(directory)


def _make(
    config: CodesConfig, split: Split, dim: int, rng: np.random.Generator
) -> tuple[ItemCodes, SubEmbeddings | None, int]:
    """Return the codes, the initial sub-embeddings if the method has some, and the number of cold items."""
    num_items = split.dataset.num_items
    if config.method in _FROM_NOTHING:
        return _FROM_NOTHING[config.method](config, num_items, rng), None, 0
    if config.method == "graph":
        everything = graph_codes(config, split, rng)
        warm = np.flatnonzero(_counts(split))
        return _with_cold_items(everything[warm], warm, num_items, rng), None, num_items - len(warm)
    matrix, warm = without_cold_items(interaction_matrix(split, config.weights))
    sub_embeddings = None
    if config.method == "pq":
        warm_codes, sub_embeddings = pq_codes(config, matrix, dim, rng)
    else:
        warm_codes = _FROM_INTERACTIONS[config.method](config, matrix, rng)
    return _with_cold_items(warm_codes, warm, num_items, rng), sub_embeddings, num_items - len(warm)


def _with_cold_items(
    warm_codes: ItemCodes, warm: npt.NDArray[np.int64], num_items: int, rng: np.random.Generator
) -> ItemCodes:
    """Return all items' codes; a cold item takes each of its codes from a warm one drawn at random."""
    drawn = rng.integers(len(warm), size=(num_items, warm_codes.shape[1]))
    item_codes = np.take_along_axis(warm_codes, drawn, axis=0)
    item_codes[warm] = warm_codes
    return item_codes


_FROM_NOTHING = {"random": random_codes, "qr": qr_codes}
_FROM_INTERACTIONS = {"svd": svd_codes, "bpr": bpr_codes}


def _distinct(item_codes: ItemCodes) -> int:
    """Count the different rows, one column at a time: sorting whole rows is far slower."""
    group = np.zeros(len(item_codes), dtype=np.int64)
    for column in item_codes.T:
        group = np.unique(group * 256 + column, return_inverse=True)[1]
    return int(group.max()) + 1


def _distances(config: CodesConfig, sub_embeddings: SubEmbeddings | None) -> npt.NDArray[np.float64]:
    """Return how far apart sub-ids are, (M, V, V): their centroids, or without any their numbers."""
    if sub_embeddings is None:
        sub_ids = np.arange(config.num_sub_ids, dtype=np.float64)
        apart = np.abs(sub_ids[:, None] - sub_ids)
        return np.broadcast_to(apart, (config.num_splits, *apart.shape))
    centroids = sub_embeddings.astype(np.float64)
    norms = (centroids**2).sum(axis=2)
    products = centroids @ centroids.transpose(0, 2, 1)
    squares: npt.NDArray[np.float64] = norms[:, :, None] + norms[:, None, :] - 2 * products
    return squares


def _counts(split: Split) -> npt.NDArray[np.int64]:
    _, items = split.training_interactions()
    return np.bincount(items, minlength=split.dataset.num_items)
