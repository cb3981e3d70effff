"""A prepared interaction log: memory-mapped arrays, one contiguous sequence per user."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from training.files import read_json

DATASET = "dataset.json"
ITEMS = "items.npy"
OFFSETS = "offsets.npy"
TIMES = "times.npy"
ITEM_TABLE = "items.parquet"
USER_TABLE = "users.parquet"


@dataclass(frozen=True, slots=True)
class Dataset:
    """U users' sequences over N items, in time order.

    Attributes:
        path: the directory.
        items: item indices of all users end to end, int32 (interactions,).
        offsets: user u owns ``items[offsets[u]:offsets[u + 1]]``, int64 (U + 1,).
        num_items: N.
        summary: what `prepare` counted, with the log's hash.
    """

    path: Path
    items: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    num_items: int
    summary: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Map a prepared directory; raises StageError when `prepare` has not made it."""
        summary = read_json(path / DATASET, "prepare")
        return cls(
            path,
            np.load(path / ITEMS, mmap_mode="r"),
            np.load(path / OFFSETS, mmap_mode="r"),
            int(summary["items"]),
            summary,
        )

    @property
    def num_users(self) -> int:
        """U, the number of users."""
        return len(self.offsets) - 1

    @property
    def fingerprint(self) -> str:
        """Equal for two directories prepared from the same bytes in the same way."""
        return str(self.summary["fingerprint"])
