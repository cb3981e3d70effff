"""Batches of training sequences, a function of (seed, epoch) alone so that a resumed run sees the same."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.split import Cases, Split

BUCKET_BATCHES = 16
"""Batches whose sequences are sorted by length together: less padding, and still well mixed."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences with the next item at every position.

    Attributes:
        items: item indices, left-aligned, zero beyond each length, int64 (B, L).
        lengths: int64 (B,).
        targets: the item after each position, int64 (T,), for the positions of `valid`.
        valid: which positions are real, bool (B, L), T of them.
    """

    items: Tensor
    lengths: Tensor
    targets: Tensor
    valid: Tensor


class TrainingSequences:
    """The training items of every user who has at least two, at most L + 1 in a sequence.

    `windows` says what becomes of longer ones: the `last` L + 1 items, or `all` of them, cut at other
    places in each epoch. Windows overlap by one item, the last target of one and the first input of the next.
    """

    def __init__(
        self, split: Split, max_length: int, batch_size: int, seed: int, *, windows: str = "last"
    ) -> None:
        starts, ends = np.asarray(split.dataset.offsets[:-1]), split.train_ends
        users = np.flatnonzero(ends - starts >= 2)
        self._items = split.dataset.items
        self._starts, self._ends = starts[users], ends[users]
        self._max_length = max_length
        targets = self._ends - self._starts - 1
        self._windows = -(-targets // max_length) if windows == "all" else np.ones_like(targets)
        self._batch_size = batch_size
        self._seed = seed

    def __len__(self) -> int:
        """Batches in an epoch."""
        return (self.num_sequences + self._batch_size - 1) // self._batch_size

    @property
    def num_sequences(self) -> int:
        """Sequences in an epoch."""
        return int(self._windows.sum())

    def epoch(self, epoch: int, first_batch: int = 0, rows: slice = slice(None)) -> Iterator[Batch]:
        """Yield some rows of the epoch's batches, from `first_batch` on; there may be none in the last."""
        rng = np.random.default_rng([self._seed, 0xBA7C, epoch])
        starts, ends = self._cut(rng)
        lengths = ends - starts
        order = rng.permutation(len(ends))
        bucket = self._batch_size * BUCKET_BATCHES
        batches: list[npt.NDArray[np.int64]] = []
        for start in range(0, len(order), bucket):
            members = order[start : start + bucket]
            members = members[np.argsort(lengths[members], kind="stable")]
            batches += [members[i : i + self._batch_size] for i in range(0, len(members), self._batch_size)]
        for index in rng.permutation(len(batches))[first_batch:]:
            chosen = batches[index][rows]
            yield self._batch(starts[chosen], lengths[chosen])

    def _cut(self, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return where each sequence of an epoch starts and ends, int64 (sequences,)."""
        L = self._max_length
        # The newest and the oldest window share what is left of L targets in each; those between are full.
        spare = np.where(self._windows > 1, self._windows * L - (self._ends - self._starts - 1), 0)
        newest = L - rng.integers(0, spare, endpoint=True)
        users = np.repeat(np.arange(len(self._ends)), self._windows)
        back = np.arange(len(users)) - np.repeat(np.cumsum(self._windows) - self._windows, self._windows)
        ends = self._ends[users] - np.where(back > 0, newest[users] + (back - 1) * L, 0)
        starts = np.maximum(self._starts[users], ends - 1 - np.where(back > 0, L, newest[users]))
        return starts, ends

    def _batch(self, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Batch:
        rows, _ = _gather(self._items, starts, lengths)
        inputs = lengths - 1
        valid = np.arange(rows.shape[1] - 1) < inputs[:, None]
        items = torch.from_numpy(rows)
        keep = torch.from_numpy(valid)
        return Batch(items[:, :-1] * keep, torch.from_numpy(inputs), items[:, 1:][keep], keep)


def histories(
    cases: Cases, chosen: slice, max_length: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the last L items of some cases, left-aligned: items int64 (B, L) and lengths int64 (B,)."""
    lengths = np.minimum(cases.ends[chosen] - cases.starts[chosen], max_length)
    return _gather(cases.items, cases.ends[chosen] - lengths, lengths)


def _gather(
    items: npt.NDArray[np.int32], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    columns = np.arange(int(lengths.max(initial=1)))
    inside = columns < lengths[:, None]
    return np.where(inside, items[np.where(inside, starts[:, None] + columns, 0)], 0).astype(
        np.int64
    ), lengths
