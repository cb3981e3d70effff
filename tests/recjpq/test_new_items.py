"""Codes for new items: votes, likelihood, and what is refused."""

from itertools import product

import numpy as np
import pytest

from recjpq.errors import NewItemError
from recjpq.new_items import codes_from_contexts, codes_from_similar, log_partitions

CODES = np.array([[1, 7], [1, 8], [2, 8], [3, 9]], dtype=np.uint8)


def test_each_split_takes_its_own_majority() -> None:
    codes = codes_from_similar(CODES, np.array([0, 1, 2]))
    assert codes.tolist() == [1, 8]
    assert codes.dtype == np.uint8


def test_ties_go_to_the_item_named_first_and_weights_decide() -> None:
    assert codes_from_similar(CODES, np.array([3, 0])).tolist() == [3, 9]
    assert codes_from_similar(CODES, np.array([3, 0]), np.array([1.0, 1.5])).tolist() == [1, 7]
    assert codes_from_similar(CODES, np.array([0, 3, 3])).tolist() == [3, 9]


def test_any_number_of_items_may_vote() -> None:
    """Their votes are counted, not compared in pairs."""
    rng = np.random.default_rng(5)
    item_codes = rng.integers(0, 256, (300, 4), dtype=np.uint8)
    similar, weights = rng.integers(0, 300, 300_000), rng.integers(1, 5, 300_000).astype(float)
    codes = codes_from_similar(item_codes, similar, weights)
    for split, sub_ids in enumerate(item_codes[similar].T):
        votes = [weights[sub_ids == sub_id].sum() for sub_id in range(256)]
        assert votes[codes[split]] == max(votes)


@pytest.mark.parametrize(
    ("similar", "weights", "message"),
    [
        ([], None, r"similar items have shape \(0,\)"),
        ([4], None, "from 4 to 4, expected 0 to 3"),
        ([-1], None, "from -1 to -1"),
        ([0, 1], [1.0], "expected 2 finite numbers"),
        ([0], [-1.0], "none negative"),
        ([0], [np.nan], "finite"),
    ],
)
def test_votes_that_are_none_are_refused(
    similar: list[int], weights: list[float] | None, message: str
) -> None:
    with pytest.raises(NewItemError, match=message):
        codes_from_similar(
            CODES, np.array(similar, dtype=np.int64), None if weights is None else np.array(weights)
        )


def likelihood(codes, chosen, contexts, log_partition, rate):
    splits = np.arange(len(chosen))
    scores = contexts[:, splits, codes].sum(axis=1)
    return chosen[splits, codes].sum() - np.log1p(np.exp(scores - log_partition)).mean() / rate


@pytest.mark.parametrize("seed", range(5))
def test_the_codes_are_likelier_than_any_that_differ_in_one_split(seed: int) -> None:
    rng = np.random.default_rng(seed)
    contexts = rng.normal(size=(30, 3, 5)).astype(np.float32)
    chosen = contexts[:4].mean(axis=0)
    log_partition = rng.normal(3.0, 0.5, size=30)
    codes = codes_from_contexts(chosen, contexts, log_partition, 0.1)
    best = likelihood(codes, chosen, contexts, log_partition, 0.1)
    for split, sub_id in product(range(3), range(5)):
        other = codes.copy()
        other[split] = sub_id
        assert likelihood(other, chosen, contexts, log_partition, 0.1) <= best + 1e-6


def test_a_rare_item_does_not_get_the_codes_that_score_high_everywhere() -> None:
    contexts = np.zeros((4, 1, 3), dtype=np.float32)
    contexts[:, 0, 0] = 5.0  # popular
    contexts[0, 0, 1] = 4.0  # where the item was chosen, and only there
    codes = {rate: codes_from_contexts(contexts[0], contexts, np.full(4, 5.0), rate) for rate in (0.05, 1.0)}
    assert codes[0.05].tolist() == [1]
    assert codes[1.0].tolist() == [0]


def test_the_partition_is_the_sum_over_the_catalogue() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 5, size=(20, 3), dtype=np.uint8)
    contexts = rng.normal(size=(4, 3, 5))
    scores = contexts[:, np.arange(3), codes].sum(axis=2)
    np.testing.assert_allclose(log_partitions(contexts, codes), np.log(np.exp(scores).sum(axis=1)))


def test_tables_that_do_not_fit_are_refused() -> None:
    contexts = np.zeros((2, 3, 4))
    with pytest.raises(NewItemError, match=r"tables \(3, 5\)"):
        codes_from_contexts(np.zeros((3, 5)), contexts, np.zeros(2), 0.5)
    with pytest.raises(NewItemError, match="rate 0"):
        codes_from_contexts(contexts[0], contexts, np.zeros(2), 0)
    with pytest.raises(NewItemError, match="finite"):
        codes_from_contexts(contexts[0] * np.nan, contexts, np.zeros(2), 0.5)
