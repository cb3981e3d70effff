"""`codes`: quantiles, seeds, and what may influence them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.codes import interaction_matrix, make_codes, quantile_codes
from training.config import CodesConfig, Config
from training.dataset import Dataset
from training.errors import DataError
from training.run import Run
from training.split import Split


@pytest.fixture
def split(make_config: Callable[..., Config]) -> Split:
    run = Run(make_config())
    run.prepare()
    return run.split


def test_quantiles_hold_equal_numbers_of_items_in_the_order_of_the_component() -> None:
    vectors = np.array([[0.9], [0.1], [0.5], [0.7], [0.3], [0.2]])
    codes = quantile_codes(vectors, 3, np.random.default_rng(0))
    assert codes.dtype == np.uint8
    assert codes.ravel().tolist() == [2, 0, 1, 2, 1, 0]


def test_noise_separates_equal_components_and_is_seeded() -> None:
    vectors = np.zeros((100, 2))
    first = quantile_codes(vectors, 10, np.random.default_rng(5))
    assert (np.bincount(first[:, 0]) == 10).all()
    assert not np.array_equal(first[:, 0], first[:, 1])
    assert np.array_equal(first, quantile_codes(vectors, 10, np.random.default_rng(5)))
    assert not np.array_equal(first, quantile_codes(vectors, 10, np.random.default_rng(6)))


@pytest.mark.parametrize("num_sub_ids", [2, 16, 256])
def test_every_sub_id_is_below_v_also_when_items_are_fewer(num_sub_ids: int) -> None:
    codes = quantile_codes(
        np.random.default_rng(0).normal(size=(40, 3)), num_sub_ids, np.random.default_rng(1)
    )
    assert codes.max() < num_sub_ids
    assert len(np.unique(codes[:, 0])) == min(num_sub_ids, 40)


def test_the_matrix_counts_repeats_once_or_every_time() -> None:
    items = np.array([0, 0, 1, 2, 1], dtype=np.int32)  # the last one is the test item
    dataset = Dataset(Path(), items, np.array([0, 5]), 3, {"fingerprint": "x"})
    split = Split(dataset, np.array([4]), np.array([], dtype=np.int64))
    assert interaction_matrix(split, "binary").toarray().tolist() == [[1, 1, 1]]
    assert interaction_matrix(split, "counts").toarray().tolist() == [[2, 1, 1]]


@pytest.mark.parametrize("method", ["svd", "random"])
def test_codes_are_a_function_of_the_seed(method: str, split: Split, tmp_path: Path) -> None:
    config = CodesConfig.model_validate({"method": method, "num_splits": 4, "num_sub_ids": 16})
    made = [make_codes(config, split, seed, tmp_path / str(n)).item_codes for n, seed in enumerate((1, 1, 2))]
    assert made[0].shape == (40, 4)
    assert made[0].dtype == np.uint8
    assert made[0].max() < 16
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_svd_gives_neighbours_in_the_log_nearby_codes(split: Split, tmp_path: Path) -> None:
    config = CodesConfig(num_splits=4, num_sub_ids=16)
    codes = make_codes(config, split, 0, tmp_path / "codes").item_codes.astype(int)
    next_item = np.abs(codes - np.roll(codes, 1, axis=0)).sum(axis=1).mean()
    far_item = np.abs(codes - np.roll(codes, 20, axis=0)).sum(axis=1).mean()
    assert next_item < far_item / 2


def test_test_items_do_not_leak_into_the_codes(split: Split, tmp_path: Path) -> None:
    last = split.dataset.offsets[1:] - 1
    changed = np.array(split.dataset.items)
    changed[last] = (changed[last] + 17) % 40
    other = Split(
        Dataset(Path(), changed, split.dataset.offsets, 40, {"fingerprint": "y"}),
        split.train_ends,
        split.validation_users,
    )
    config = CodesConfig(num_splits=4, num_sub_ids=16)
    before = make_codes(config, split, 0, tmp_path / "a").item_codes
    assert np.array_equal(before, make_codes(config, other, 0, tmp_path / "b").item_codes)


def test_a_log_too_small_for_the_splits_is_refused(split: Split, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"codes\.num_splits is 64; .* the 60 users and 40 items"):
        make_codes(CodesConfig(num_splits=64), split, 0, tmp_path / "codes")
    assert not (tmp_path / "codes").exists()
