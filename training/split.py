"""Which interactions train, validate and test: leave-one-out, or one point in time for all users."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from training.config import Config, SplitConfig
from training.dataset import Dataset
from training.errors import DataError

Indices = npt.NDArray[np.int64]


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
        train_ends: user u trains on ``items[offsets[u]:train_ends[u]]``, int64 (U,); what may train, less
            one for a validation user. What comes next is the validation item, then the test item.
        validation_users: their last training interaction validates, int64 (<= wanted,), ascending.
        cut: T of a temporal split, in the unit of the dataset's times; None for leave-one-out.
    """

    dataset: Dataset
    train_ends: Indices
    validation_users: Indices
    cut: int | None = None

    @classmethod
    def leave_one_out(cls, dataset: Dataset, validation_users: int, seed: int) -> Self:
        """Test each user's last interaction; a user with one event keeps it.

        Validation users are drawn among those with at least three events.
        """
        offsets = np.asarray(dataset.offsets)
        lengths = np.diff(offsets)
        chosen = _draw(np.flatnonzero(lengths >= 3), validation_users, seed)
        train_ends = offsets[1:] - (lengths >= 2)
        train_ends[chosen] -= 1
        return cls(dataset, train_ends, chosen)

    @classmethod
    def temporal(cls, dataset: Dataset, cut: int, validation_users: int, seed: int) -> Self:
        """Train on what is before T, for all users the same; test each user's first interaction from T on.

        Validation users are drawn among the tenth (or as many as are wanted) of the users with two training
        interactions whose last one is the latest. So validation, like the test, is about the end of what was
        known; among all users it would mostly be about months ago, and choose weights that are good at that.
        """
        offsets, times = np.asarray(dataset.offsets), _times(dataset)
        before = np.concatenate([[0], np.cumsum(times < cut)])  # times ascend within a user
        lengths = before[offsets[1:]] - before[offsets[:-1]]
        train_ends = offsets[:-1] + lengths
        able = np.flatnonzero(lengths >= 2)
        latest = able[np.argsort(-times[train_ends[able] - 1], kind="stable")]
        chosen = _draw(latest[: max(len(able) // 10, validation_users)], validation_users, seed)
        train_ends[chosen] -= 1
        return cls(dataset, train_ends, chosen, cut)

    @property
    def identity(self) -> str:
        """What tells it from other splits of the same dataset, for fingerprints: a hash of what trains."""
        return hashlib.sha256(self.train_ends.tobytes()).hexdigest()

    @property
    def protocol(self) -> dict[str, Any]:
        """How it splits and how many users that concerns, for reports."""
        if self.cut is None:
            return {"split": "leave-one-out: each user's last interaction is the test item"}
        return {
            "split": f"temporal: training before T = {self.dataset.format_time(self.cut)}; "
            "a user's first interaction from T on is the test item",
            "cold_users": int((self._known == 0).sum()),
        }

    @property
    def _known(self) -> Indices:
        """Interactions of each user that come before their test item, int64 (U,)."""
        known = self.train_ends - np.asarray(self.dataset.offsets[:-1])
        known[self.validation_users] += 1
        return known

    def training_interactions(self) -> tuple[Indices, npt.NDArray[np.int32]]:
        """Return the user and the item of every training interaction, int64 and int32."""
        lengths = self.train_ends - np.asarray(self.dataset.offsets[:-1])
        return np.repeat(np.arange(len(lengths)), lengths), np.asarray(self.dataset.items)[self._trains]

    def training_times(self) -> Indices | None:
        """Return the time of every training interaction, int64; None for a log without times."""
        return None if self.dataset.times is None else np.asarray(self.dataset.times)[self._trains]

    @property
    def _trains(self) -> npt.NDArray[np.bool_]:
        return np.arange(len(self.dataset.items)) < np.repeat(self.train_ends, np.diff(self.dataset.offsets))

    def test_cases(self) -> Cases:
        """Return a case for each user with something known and something after it."""
        starts, known = np.asarray(self.dataset.offsets[:-1]), self._known
        users = np.flatnonzero((known > 0) & (known < np.diff(self.dataset.offsets)))
        return self._cases(starts[users], starts[users] + known[users])

    def validation_cases(self) -> Cases:
        """Return a case for each validation user: their training sequence, then its next item."""
        users = self.validation_users
        return self._cases(np.asarray(self.dataset.offsets)[:-1][users], self.train_ends[users])

    def _cases(self, starts: Indices, ends: Indices) -> Cases:
        items = self.dataset.items
        return Cases(items, starts, ends, np.asarray(items[ends]))


def make_split(config: Config, dataset: Dataset) -> Split:
    """Split as configured; raises DataError when T leaves nothing on one of its sides."""
    if config.split.method == "leave_one_out":
        return Split.leave_one_out(dataset, config.train.validation_users, config.run.seed)
    cut = cut_time(config.split, dataset)
    return Split.temporal(dataset, cut, config.train.validation_users, config.run.seed)


def cut_time(config: SplitConfig, dataset: Dataset) -> int:
    """Return T, in the unit of the dataset's times; raises DataError as `make_split` does."""
    times = _times(dataset)
    if isinstance(config.test_from, datetime):
        zoned = config.test_from if config.test_from.tzinfo else config.test_from.replace(tzinfo=UTC)
        cut = round(zoned.timestamp() * 1e6)
    elif config.test_from is not None:
        cut = config.test_from
    else:
        cut = int(np.partition(times, at := int((1.0 - config.test_share) * len(times)))[at])
    first, last = int(times.min()), int(times.max())
    if not first < cut <= last:
        raise DataError(
            f"the temporal split's T is {cut}, expected more than the first time, {first}, and at most the "
            f"last, {last}: set split.test_from or split.test_share (dates count microseconds since 1970 "
            "where the log has dates or fractional seconds; a log of integers takes its own)"
        )
    return cut


def _draw(users: Indices, wanted: int, seed: int) -> Indices:
    rng = np.random.default_rng([seed, 0x5711])
    return np.sort(rng.choice(users, size=min(wanted, len(users)), replace=False))


def _times(dataset: Dataset) -> Indices:
    if dataset.times is None:
        raise DataError(f"{dataset.path}: has no times; set data.time_column for a temporal split")
    return np.asarray(dataset.times)
