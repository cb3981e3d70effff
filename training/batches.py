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
    """The last L + 1 training items of every user who has at least two."""

    def __init__(self, split: Split, max_length: int, batch_size: int, seed: int) -> None:
        starts, ends = np.asarray(split.dataset.offsets[:-1]), split.train_ends
        users = np.flatnonzero(ends - starts >= 2)
        self._items = split.dataset.items
        self._ends = ends[users]
        self._lengths = np.minimum(ends[users] - starts[users], max_length + 1)
        self._batch_size = batch_size
        self._seed = seed

    def __len__(self) -> int:
        """Batches in an epoch."""
        return (len(self._ends) + self._batch_size - 1) // self._batch_size

    @property
    def num_sequences(self) -> int:
        """Sequences in an epoch."""
        return len(self._ends)

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yield the epoch's batches, from `first_batch` on."""
        rng = np.random.default_rng([self._seed, 0xBA7C, epoch])
        order = rng.permutation(len(self._ends))
        bucket = self._batch_size * BUCKET_BATCHES
        batches: list[npt.NDArray[np.int64]] = []
        for start in range(0, len(order), bucket):
            members = order[start : start + bucket]
            members = members[np.argsort(self._lengths[members], kind="stable")]
            batches += [members[i : i + self._batch_size] for i in range(0, len(members), self._batch_size)]
        for index in rng.permutation(len(batches))[first_batch:]:
            yield self._batch(batches[index])

    def _batch(self, members: npt.NDArray[np.int64]) -> Batch:
        ends, lengths = self._ends[members], self._lengths[members]
        rows, _ = _gather(self._items, ends - lengths, lengths)
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
    columns = np.arange(int(lengths.max()))
    inside = columns < lengths[:, None]
    return np.where(inside, items[np.where(inside, starts[:, None] + columns, 0)], 0).astype(
        np.int64
    ), lengths
