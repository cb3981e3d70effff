"""A prepared interaction log: memory-mapped arrays, one contiguous sequence per user."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from training.files import read_array, read_json

DATASET = "dataset.json"
ITEMS = "items.npy"
OFFSETS = "offsets.npy"
TIMES = "times.npy"
ITEM_TABLE = "items.parquet"
USER_TABLE = "users.parquet"
FILES = (DATASET, ITEMS, OFFSETS, TIMES, ITEM_TABLE, USER_TABLE)
MICROSECONDS = "microseconds since 1970"


@dataclass(frozen=True, slots=True)
class Dataset:
    """U users' sequences over N items, in time order.

    Attributes:
        path: the directory.
        items: item indices of all users end to end, int32 (interactions,).
        offsets: user u owns ``items[offsets[u]:offsets[u + 1]]``, int64 (U + 1,).
        num_items: N.
        summary: what `prepare` counted, with the log's hash.
        times: of every interaction, int64 (interactions,), ascending within a user; None for a log without.
            Microseconds since 1970 for dates and fractional seconds, else the log's own integers.
    """

    path: Path
    items: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    num_items: int
    summary: dict[str, Any]
    times: npt.NDArray[np.int64] | None = None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Map a prepared directory; raises StageError when `prepare` has not made it."""
        summary = read_json(path / DATASET, "prepare")
        return cls(
            path,
            read_array(path / ITEMS, "prepare"),
            read_array(path / OFFSETS, "prepare"),
            int(summary["items"]),
            summary,
            read_array(path / TIMES, "prepare") if summary["has_times"] else None,
        )

    @property
    def num_users(self) -> int:
        """U, the number of users."""
        return len(self.offsets) - 1

    @property
    def fingerprint(self) -> str:
        """Equal for the same interactions read in the same way, whatever their items' metadata."""
        either = self.summary["fingerprint"]  # all that an earlier release wrote
        return str(self.summary.get("interactions_fingerprint", either))

    def format_time(self, time: int) -> str:
        """Return one of its times for people: a date, where the log's times are dates."""
        if self.summary.get("time_unit") != MICROSECONDS:
            return str(time)
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)).isoformat()
