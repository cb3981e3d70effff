"""Batches: every sequence once an epoch, the next item as target, the same again from the seed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from training.batches import TrainingSequences, histories
from training.dataset import Dataset
from training.split import Split


@pytest.fixture
def split() -> Split:
    """Users with 1, 2, 3, 5 and 9 training items; items count up through the whole log."""
    lengths = np.array([1, 2, 3, 5, 9])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    dataset = Dataset(Path(), np.arange(20, dtype=np.int32), offsets, 20, {"fingerprint": "x"})
    return Split(dataset, offsets[1:], np.array([], dtype=np.int64))


def test_every_user_with_two_items_gives_their_last_ones_once(split: Split) -> None:
    sequences = TrainingSequences(split, max_length=4, batch_size=2, seed=0)
    seen = []
    for batch in sequences.epoch(0):
        rows = batch.items[:, 0].tolist()
        seen += list(zip(rows, batch.lengths.tolist(), strict=True))
        assert torch.equal(batch.targets, (batch.items + 1)[batch.valid])  # the log counts up
        assert not batch.items[~batch.valid].any()
    assert sorted(seen) == [(1, 1), (3, 2), (6, 4), (15, 4)]  # first item and number of inputs
    assert (len(sequences), sequences.num_sequences) == (2, 4)


def test_an_epoch_is_a_function_of_the_seed_and_can_start_in_the_middle(split: Split) -> None:
    def items(seed: int, epoch: int, first: int = 0) -> list[list[list[int]]]:
        sequences = TrainingSequences(split, max_length=4, batch_size=1, seed=seed)
        return [batch.items.tolist() for batch in sequences.epoch(epoch, first)]

    assert items(0, 3) == items(0, 3)
    assert items(0, 3)[2:] == items(0, 3, first=2)
    assert len({str(items(0, epoch)) for epoch in range(8)}) > 1
    assert len({str(items(seed, 0)) for seed in range(8)}) > 1


def test_histories_are_the_last_items_left_aligned(split: Split) -> None:
    before_last = Split(split.dataset, split.train_ends - 1, split.validation_users)
    items, lengths = histories(before_last.test_cases(), slice(0, 4), max_length=3)
    assert items.tolist() == [[1, 0, 0], [3, 4, 0], [7, 8, 9], [16, 17, 18]]
    assert lengths.tolist() == [1, 2, 3, 3]


def test_all_windows_make_every_next_item_a_target_once_and_cut_elsewhere_each_epoch(split: Split) -> None:
    sequences = TrainingSequences(split, max_length=3, batch_size=2, seed=0, windows="all")
    firsts = set()
    for epoch in range(12):
        targets = []
        for batch in sequences.epoch(epoch):
            targets += batch.targets.tolist()
            assert batch.items.shape[1] <= 3
            assert torch.equal(batch.targets, (batch.items + 1)[batch.valid])
            firsts.update(batch.items[:, 0].tolist())
        assert sorted(targets) == [2, 4, 5, 7, 8, 9, 10, *range(12, 20)]
    assert sequences.num_sequences == 1 + 1 + 2 + 3
    assert len(firsts) > sequences.num_sequences
