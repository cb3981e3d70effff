"""Leave-one-out: what each user trains on, validates and tests."""

from pathlib import Path

import numpy as np
import pytest

from training.dataset import Dataset
from training.split import Split


@pytest.fixture
def dataset() -> Dataset:
    """Users with 1, 2, 3 and 4 events: items 0 | 1 2 | 3 4 5 | 6 7 8 9."""
    offsets = np.array([0, 1, 3, 6, 10])
    return Dataset(Path(), np.arange(10, dtype=np.int32), offsets, 10, {"fingerprint": "x"})


def test_the_last_event_tests_and_the_one_before_it_validates(dataset: Dataset) -> None:
    split = Split.leave_one_out(dataset, validation_users=10, seed=0)
    assert split.validation_users.tolist() == [2, 3]
    test, validation = split.test_cases(), split.validation_cases()
    assert [test.history(c).tolist() for c in range(len(test))] == [[1], [3, 4], [6, 7, 8]]
    assert test.targets.tolist() == [2, 5, 9]
    assert [validation.history(c).tolist() for c in range(len(validation))] == [[3], [6, 7]]
    assert validation.targets.tolist() == [4, 8]


def test_training_interactions_hold_neither_test_nor_validation_items(dataset: Dataset) -> None:
    users, items = Split.leave_one_out(dataset, validation_users=10, seed=0).training_interactions()
    assert list(zip(users.tolist(), items.tolist(), strict=True)) == [(0, 0), (1, 1), (2, 3), (3, 6), (3, 7)]


def test_validation_users_are_drawn_by_the_seed(dataset: Dataset) -> None:
    drawn = {tuple(Split.leave_one_out(dataset, 1, seed).validation_users) for seed in range(20)}
    assert drawn == {(2,), (3,)}
    again = Split.leave_one_out(dataset, 1, 7).validation_users
    assert again.tolist() == Split.leave_one_out(dataset, 1, 7).validation_users.tolist()
