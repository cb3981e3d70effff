"""`codes`: quantiles, seeds, and what may influence them."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.codes import Codes, interaction_matrix, make_codes, quantile_codes
from training.codes.baselines import qr_codes
from training.codes.pq import damp_norms, nearest
from training.codes.svd import randomised_svd
from training.codes.unique import unique_codes
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


def test_quantiles_of_mass_give_what_is_met_often_more_sub_ids() -> None:
    vectors = np.arange(8.0)[:, None]
    mass = np.array([1, 1, 1, 1, 4, 4, 8, 4])  # 24 in all, so 6 a quantile
    codes = quantile_codes(vectors, 4, np.random.default_rng(0), mass)
    assert codes.ravel().tolist() == [0, 0, 0, 0, 1, 1, 2, 3]


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


METHODS = ["svd", "bpr", "graph", "random", "pq", "qr"]
Make = Callable[..., Codes]


@pytest.fixture
def make(split: Split, tmp_path: Path) -> Make:
    """Return a maker of codes of 4 splits of 16 sub-ids, each into a directory of its own."""

    def make(method: str, *, of: Split = split, seed: int = 1, dim: int = 8, **settings: object) -> Codes:
        config = CodesConfig.model_validate(
            {"method": method, "num_splits": 4, "num_sub_ids": 16, "bpr_iterations": 5} | settings
        )
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        return make_codes(config, of, seed, directory, dim=dim)

    return make


def changed(split: Split, positions: np.ndarray, items: np.ndarray) -> Split:
    """The same split, with other items at some positions."""
    log = np.array(split.dataset.items)
    log[positions] = items
    dataset = Dataset(Path(), log, split.dataset.offsets, 40, {"fingerprint": "changed"}, split.dataset.times)
    return Split(dataset, split.train_ends, split.validation_users)


@pytest.mark.parametrize("method", METHODS)
def test_codes_are_a_function_of_the_seed_and_in_range(method: str, make: Make) -> None:
    first, again, other = (make(method, seed=seed) for seed in (1, 1, 2))
    assert first.item_codes.shape == (40, 4)
    assert first.item_codes.dtype == np.uint8
    assert first.item_codes.max() < 16
    assert np.array_equal(first.item_codes, again.item_codes)
    assert np.array_equal(first.item_codes, other.item_codes) == (method == "qr")


@pytest.mark.parametrize("method", METHODS)
def test_test_and_validation_items_do_not_leak_into_the_codes(method: str, make: Make, split: Split) -> None:
    hidden = np.concatenate(
        [np.arange(end, stop) for end, stop in zip(split.train_ends, split.dataset.offsets[1:], strict=True)]
    )
    other = changed(split, hidden, (split.dataset.items[hidden] + 17) % 40)
    before, after = make(method), make(method, of=other)
    assert np.array_equal(before.item_codes, after.item_codes)
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize("method", METHODS)
def test_items_nobody_interacted_with_are_spread_over_the_sub_ids(
    method: str, make: Make, split: Split
) -> None:
    log = np.array(split.dataset.items)
    cold = np.flatnonzero(log >= 20)
    codes = make(method, of=changed(split, cold, log[cold] - 20))
    assert codes.summary["cold_items"] == (0 if method in {"random", "qr"} else 20)
    if method != "qr":
        assert all(len(np.unique(column)) > 3 for column in codes.item_codes[20:].T)


@pytest.mark.parametrize("method", METHODS)
def test_unique_codes_are_unique(method: str, make: Make) -> None:
    codes = make(method, unique=True, num_splits=2, num_sub_ids=7)  # 49 for 40 items
    assert len(np.unique(codes.item_codes, axis=0)) == 40
    assert codes.item_codes.max() < 7
    assert codes.summary["distinct_codes"] == 40
    plain = make(method, num_splits=2, num_sub_ids=7)
    assert plain.summary["distinct_codes"] == len(np.unique(plain.item_codes, axis=0))
    assert codes.summary["items_made_unique"] == 40 - plain.summary["distinct_codes"]


@pytest.mark.parametrize("method", METHODS)
def test_too_few_codes_for_unique_ones_are_refused(method: str, make: Make) -> None:
    with pytest.raises(DataError, match=r"2 splits of 6 sub-ids name.* at most 36 items, found 40"):
        make(method, unique=True, num_splits=2, num_sub_ids=6)


def test_one_more_item_than_its_place_moves_the_least_popular_to_the_nearest_free_sub_id() -> None:
    codes = np.array([[0, 2], [0, 2], [0, 2], [0, 3], [1, 2]], dtype=np.uint8)
    apart = np.abs(np.arange(4.0)[:, None] - np.arange(4))
    unique = unique_codes(codes, np.stack([apart, apart]), np.array([1, 5, 3, 1, 1]))
    assert unique.tolist() == [[0, 0], [0, 2], [0, 1], [0, 3], [1, 2]]


def test_items_move_in_an_earlier_split_where_the_last_one_is_full() -> None:
    codes = np.zeros((6, 2), dtype=np.uint8)
    apart = np.abs(np.arange(3.0)[:, None] - np.arange(3))
    unique = unique_codes(codes, np.stack([apart, apart]), np.arange(6)[::-1])
    assert sorted(unique.tolist()) == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


@given(st.integers(1, 4), st.integers(2, 5), st.randoms(use_true_random=False))
def test_unique_codes_exist_whenever_there_are_enough(
    num_splits: int, num_sub_ids: int, random: Random
) -> None:
    num_items = random.randint(1, num_sub_ids**num_splits)
    rng = np.random.default_rng(random.randint(0, 99))
    codes = (rng.random((num_items, num_splits)) ** 3 * num_sub_ids).astype(np.uint8)
    distances = rng.random((num_splits, num_sub_ids, num_sub_ids))
    unique = unique_codes(codes, distances, rng.integers(0, 9, num_items))
    assert len(np.unique(unique, axis=0)) == num_items
    assert unique.max() < num_sub_ids


def test_qr_is_quotient_and_remainder() -> None:
    config = CodesConfig(method="qr", num_splits=2)
    codes = qr_codes(config, 65_536, np.random.default_rng(0)).astype(int)
    assert np.array_equal(codes, np.stack([np.arange(65_536) // 256, np.arange(65_536) % 256], axis=1))
    with pytest.raises(DataError, match=r"2 splits of 256 sub-ids names at most 65536 items, found 65537"):
        qr_codes(config, 65_537, np.random.default_rng(0))


def test_bpr_gives_items_of_the_same_users_nearby_codes(make: Make, split: Split) -> None:
    halves = (np.arange(60) % 2).repeat(np.diff(split.dataset.offsets)) * 20  # two kinds of users
    log = changed(split, np.arange(len(halves)), np.array(split.dataset.items) % 20 + halves)
    codes = make("bpr", of=log, num_splits=1, bpr_iterations=100).item_codes[:, 0].astype(int)
    assert abs(codes[:20].mean() - codes[20:].mean()) > 6  # 8 where the component separates the kinds


def test_the_randomised_svd_agrees_with_the_exact_one() -> None:
    rng = np.random.default_rng(0)
    matrix = sp.csr_array((rng.random((300, 200)) * (rng.random((300, 200)) < 0.1)).astype(np.float32))
    vectors, values = randomised_svd(matrix, 190, rng)
    _, exact, components = np.linalg.svd(matrix.toarray(), full_matrices=False)
    np.testing.assert_allclose(values, exact[:190], rtol=1e-4)
    np.testing.assert_allclose(np.abs((vectors[:, :20] * components[:20].T).sum(axis=0)), 1.0, rtol=1e-3)


def test_a_matrix_of_low_rank_has_values_of_zero_and_no_noise() -> None:
    matrix = sp.csr_array(np.outer(np.arange(1, 31), np.ones(20)).astype(np.float32))
    vectors, values = randomised_svd(matrix, 5, np.random.default_rng(0))
    assert values[0] == pytest.approx(np.linalg.norm(np.arange(1, 31)) * 20**0.5)
    np.testing.assert_allclose((vectors * values)[:, 1:], 0.0, atol=1e-3)


def test_norms_are_damped_and_directions_stay() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, 100.0], [0.0, 0.0]], dtype=np.float32)
    damp_norms(vectors, 0.5)
    np.testing.assert_allclose(vectors, [[0.6 * 5**0.5, 0.8 * 5**0.5], [0.0, 10.0], [0.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("composition", ["concatenated", "additive"])
def test_pq_leaves_centroids_that_training_begins_from(
    make_config: Callable[..., Config], composition: str
) -> None:
    run = Run(make_config(codes={"method": "pq"}, model={"composition": composition}))
    run.prepare()
    codes = run.codes()
    assert codes.sub_embeddings is not None
    assert codes.sub_embeddings.shape == (4, 16, 4)
    assert (codes.sub_embeddings**2).mean() ** 0.5 == pytest.approx(0.05 / 3**0.5)
    begun = run._model.embedding(torch.arange(40)).detach().numpy()  # the same items either way
    expected = codes.sub_embeddings[np.arange(4), codes.item_codes].reshape(40, 16)
    assert np.array_equal(begun, expected)


def test_pq_names_the_nearest_centroid() -> None:
    part = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    centroids = np.random.default_rng(1).normal(size=(9, 3)).astype(np.float32)
    apart = ((part[:, None] - centroids) ** 2).sum(axis=2)
    assert np.array_equal(nearest(part, centroids), apart.argmin(axis=1))


def test_only_pq_depends_on_the_width(make: Make) -> None:
    assert make("svd", dim=8).fingerprint == make("svd", dim=16).fingerprint
    assert make("pq", dim=8).fingerprint != make("pq", dim=16).fingerprint


def test_svd_gives_neighbours_in_the_log_nearby_codes(split: Split, tmp_path: Path) -> None:
    config = CodesConfig(num_splits=4, num_sub_ids=16)
    codes = make_codes(config, split, 0, tmp_path / "codes", dim=8).item_codes.astype(int)
    next_item = np.abs(codes - np.roll(codes, 1, axis=0)).sum(axis=1).mean()
    far_item = np.abs(codes - np.roll(codes, 20, axis=0)).sum(axis=1).mean()
    assert next_item < far_item / 2


def test_a_log_too_small_for_the_splits_is_refused(split: Split, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"codes\.num_splits is 64; .* the 60 users and 40 items"):
        make_codes(CodesConfig(num_splits=64), split, 0, tmp_path / "codes", dim=8)
    assert not (tmp_path / "codes").exists()
