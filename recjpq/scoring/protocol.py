"""The scorer's contract, the same for every back-end and tested by one conformance suite."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

ItemIndices = npt.NDArray[np.int32]
RowFilter = Sequence[ItemIndices | None]
"""One entry per row of the batch: item indices, or None for no restriction of that row."""


@dataclass(frozen=True, slots=True)
class DeviceTables:
    """Score tables that an encoder left in the memory of a GPU, complete: float32 (B, M, V), C-contiguous.

    Attributes:
        address: of the first entry, in the primary context of the first GPU, as the `cuda` back-end sees it.
        shape: B, M and V.
        download: gives a copy of them in the host's memory; refers to whatever keeps the device's alive.
    """

    address: int
    shape: tuple[int, int, int]
    download: Callable[[], npt.NDArray[np.float32]]

    def __len__(self) -> int:
        """B."""
        return self.shape[0]

    def __getitem__(self, rows: slice) -> "DeviceTables":
        """Return some rows that lie together."""
        first, end, _ = rows.indices(len(self))
        _, M, V = self.shape
        return DeviceTables(
            self.address + first * M * V * 4, (max(0, end - first), M, V), lambda: self.download()[first:end]
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return a copy in the host's memory."""
        return np.asarray(self.download(), dtype=dtype)


ScoreTables = npt.NDArray[np.float32] | DeviceTables


@dataclass(frozen=True, slots=True)
class TopK:
    """The best items of one row, best first.

    Attributes:
        ids: item indices, int32 (<= k,).
        scores: their scores, float32 (<= k,).
    """

    ids: ItemIndices
    scores: npt.NDArray[np.float32]


class Scorer(Protocol):
    """Exact top-k over a catalogue's codes.

    The score of item i is ``sum_j score_tables[b, j, item_codes[i, j]]``, added in float32 in the order
    of j (RecJPQ, WSDM 2024, Eq. 5; PQTopK, RecSys 2024, Alg. 1), so that every back-end gives the
    same bits.
    """

    @property
    def backend(self) -> str:
        """The back-end's name: `numpy`, `cpu` or `cuda`."""
        ...

    @property
    def num_items(self) -> int:
        """N, the number of items in the catalogue."""
        ...

    def top_k(
        self,
        score_tables: ScoreTables,
        k: int,
        *,
        exclude: RowFilter | None = None,
        allow: RowFilter | npt.NDArray[np.bool_] | None = None,
    ) -> list[TopK]:
        """Return the k items with the largest scores, for each row.

        Args:
            score_tables: float32 (B, M, V), finite. On a GPU they stay there for the `cuda` back-end, and
                are downloaded for the others.
            k: how many items, at least 1.
            exclude: per row, int32 indices of items never to return (repeats are harmless).
            allow: per row, int32 indices of the only items to consider, or one bool (N,) for all rows.

        Returns:
            B results, best first, ties to the lower item index. Fewer than k eligible items give a
            short row, never filler.

        Raises:
            ScoringError: a wrong shape, dtype, k or item index, or a table that is not finite.
        """
        ...


class GrowingScorer(Scorer, Protocol):
    """A scorer whose catalogue changes while it is searched.

    A search sees the catalogue before a change or after it, never a mixture. An item index names the same
    item for ever, so a bitmap for `allow` has one entry for every item there is or was.
    """

    def append(self, item_codes: npt.NDArray[np.uint8]) -> ItemIndices:
        """Add items and return their indices, from N on.

        Args:
            item_codes: uint8 (n, M), copied; n may be 0.

        Raises:
            ScoringError: a wrong shape or dtype, a sub-id of V or above, or more than 2^31 - 1 items in all.
        """
        ...

    def retire(self, items: ItemIndices) -> None:
        """Never return these items again; repeats, and items retired before, are harmless.

        Raises:
            ScoringError: not int32 item indices of one dimension, each below N.
        """
        ...
