"""Bands and lists, on cases that can be counted by hand."""

from pathlib import Path

import numpy as np
import pytest

from training.breakdown import breakdown, length_bands, popularity_bands
from training.dataset import Dataset
from training.exposure import exposure, history_popularity
from training.metrics import metrics_at
from training.split import Split


def test_bands_begin_with_cold_items_and_with_one_event() -> None:
    assert popularity_bands(0) == [0, 1]
    assert popularity_bands(120) == [0, 1, 3, 10, 30, 100]
    assert length_bands(50) == [1, 2, 5, 10, 20, 50]


def test_the_parts_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    values, ranks = rng.integers(0, 200, size=500), rng.integers(1, 30, size=500).astype(np.float64)
    rows = breakdown(values, popularity_bands(200), {"model": ranks}, [1, 10])
    assert sum(row["cases"] for row in rows) == 500
    for name, whole in metrics_at(ranks, [1, 10]).items():
        assert sum(row["cases"] * row["model"][name] for row in rows) / 500 == pytest.approx(whole)
    for row in rows:
        inside = (values >= row["from"]) & (values <= (row["to"] if row["to"] is not None else 10**9))
        assert row["cases"] == inside.sum()


def test_exposure_of_known_lists() -> None:
    lists = np.array([[0, 1], [0, -1]], dtype=np.int32)
    found = exposure(lists, np.array([8, 2, 1, 0]))
    assert (found["length"], found["coverage"], found["coverage_trained"]) == (2, 0.5, pytest.approx(2 / 3))
    assert found["average_popularity"] == pytest.approx((8 + 8 + 2) / 3)
    assert found["popularity_percentile"] == pytest.approx((87.5 + 87.5 + 62.5) / 3)
    assert found["top_items_share"] == pytest.approx(2 / 3)  # a hundredth of four items: item 0
    assert found["gini"] == pytest.approx((-1 * 0 + -3 * 0 + 1 * 1 + 3 * 2) / (4 * 3))


def test_equal_shares_have_a_gini_of_zero() -> None:
    assert exposure(np.array([[0, 1, 2]], dtype=np.int32), np.ones(3, dtype=np.int64))["gini"] == 0.0


def test_the_popularity_of_histories_leaves_the_targets_out() -> None:
    items = np.array([0, 1, 2, 0, 3], dtype=np.int32)  # histories 0 1 | 0, targets 2 and 3
    dataset = Dataset(Path(), items, np.array([0, 3, 5]), 4, {"fingerprint": "x"})
    cases = Split.leave_one_out(dataset, 0, 0).test_cases()
    found = history_popularity(cases, np.array([10, 4, 0, 0]))
    assert found["average_popularity"] == pytest.approx((10 + 4 + 10) / 3)
