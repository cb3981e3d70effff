"""Bootstrap intervals, against the distribution that they estimate."""

import math

import numpy as np
import pytest

from training.bootstrap import intervals, paired_difference
from training.metrics import metrics_at


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    ranks = np.where(np.arange(1000) < 300, 1.0, np.inf)  # Recall@1 is 0.3, its standard error 0.0145
    low, high = intervals(ranks, [1], seed=0)["recall@1"]
    error = 1.96 * math.sqrt(0.3 * 0.7 / 1000)
    assert low == pytest.approx(0.3 - error, abs=0.004)
    assert high == pytest.approx(0.3 + error, abs=0.004)


def test_cases_that_agree_leave_nothing_open() -> None:
    assert intervals(np.full(7, 3.0), [1, 5], seed=0)["mrr@5"] == pytest.approx((1 / 3, 1 / 3))
    assert intervals(np.full(7, np.inf), [1, 5], seed=0)["ndcg@5"] == (0.0, 0.0)


def test_a_paired_difference_knows_that_the_cases_are_the_same() -> None:
    rng = np.random.default_rng(0)
    other = rng.integers(1, 30, size=2000).astype(np.float64)
    ranks = np.maximum(other - 1.0, 1.0)  # never worse, on every case
    means, sure = paired_difference(ranks, other, [10], seed=0)
    expected = metrics_at(ranks, [10])["ndcg@10"] - metrics_at(other, [10])["ndcg@10"]
    assert means["ndcg@10"] == pytest.approx(expected)
    low, high = sure["ndcg@10"]
    assert 0 < low < expected < high
    alone = intervals(ranks, [10], seed=0)["ndcg@10"]
    assert high - low < (alone[1] - alone[0]) / 2


def test_resamples_are_drawn_by_the_seed() -> None:
    ranks = np.random.default_rng(0).integers(1, 30, size=300).astype(np.float64)
    assert intervals(ranks, [10], seed=1) == intervals(ranks, [10], seed=1)
    assert intervals(ranks, [10], seed=1) != intervals(ranks, [10], seed=2)


def test_many_distinct_pairs_are_resampled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    ranks, other = rng.integers(1, 90, size=(2, 500)).astype(np.float64)
    whole = paired_difference(ranks, other, [100], seed=0)
    monkeypatch.setattr("training.bootstrap._AT_ONCE", 1)
    _, sure = paired_difference(ranks, other, [100], seed=0)
    for name, ends in sure.items():
        assert ends == pytest.approx(whole[1][name])
