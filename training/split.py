"""The leave-one-out split: each user's last interaction is the test item."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from training.dataset import Dataset

Indices = npt.NDArray[np.int64]
PROTOCOL = "leave-one-out: each user's last interaction is the test item"


@dataclass(frozen=True, slots=True)
class Cases:
    """Histories to predict from, with the item that came next.

    Attributes:
        items: the dataset's items, int32 (interactions,).
        starts, ends: case c's history is ``items[starts[c]:ends[c]]``, int64 (C,); never empty.
        targets: the item that came next, int32 (C,).
    """

    items: npt.NDArray[np.int32]
    starts: Indices
    ends: Indices
    targets: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.starts)

    def history(self, case: int) -> npt.NDArray[np.int32]:
        """Return one whole history, oldest first."""
        return self.items[self.starts[case] : self.ends[case]]


@dataclass(frozen=True, slots=True)
class Split:
    """Where each user's training sequence ends, and who validates.

    Attributes:
        dataset: what is split.
        train_ends: user u trains on ``items[offsets[u]:train_ends[u]]``, int64 (U,). One less than the
            whole sequence, two less for a validation user; a user with one event keeps it.
        validation_users: their last training interaction validates, int64 (<= wanted,), ascending.
    """

    dataset: Dataset
    train_ends: Indices
    validation_users: Indices

    @classmethod
    def leave_one_out(cls, dataset: Dataset, validation_users: int, seed: int) -> Self:
        """Split; validation users are drawn among those with at least three events."""
        offsets = np.asarray(dataset.offsets)
        lengths = np.diff(offsets)
        able = np.flatnonzero(lengths >= 3)
        rng = np.random.default_rng([seed, 0x5711])
        chosen = np.sort(rng.choice(able, size=min(validation_users, len(able)), replace=False))
        train_ends = offsets[1:] - (lengths >= 2)
        train_ends[chosen] -= 1
        return cls(dataset, train_ends, chosen)

    def training_interactions(self) -> tuple[Indices, npt.NDArray[np.int32]]:
        """Return the user and the item of every training interaction, int64 and int32."""
        starts = np.asarray(self.dataset.offsets[:-1])
        lengths = self.train_ends - starts
        kept = np.arange(len(self.dataset.items)) < np.repeat(self.train_ends, np.diff(self.dataset.offsets))
        return np.repeat(np.arange(len(lengths)), lengths), np.asarray(self.dataset.items)[kept]

    def test_cases(self) -> Cases:
        """Return a case for each user with at least two events: everything before the last one."""
        offsets = np.asarray(self.dataset.offsets)
        users = np.flatnonzero(np.diff(offsets) >= 2)
        return self._cases(offsets[:-1][users], offsets[1:][users] - 1)

    def validation_cases(self) -> Cases:
        """Return a case for each validation user: their training sequence, then its next item."""
        users = self.validation_users
        return self._cases(np.asarray(self.dataset.offsets)[:-1][users], self.train_ends[users])

    def _cases(self, starts: Indices, ends: Indices) -> Cases:
        items = self.dataset.items
        return Cases(items, starts, ends, np.asarray(items[ends]))
