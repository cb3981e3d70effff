"""Baselines, against sorting every item of every case."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import training.baselines
from training.baselines import MARKOV_ITEMS, markov, popularity
from training.dataset import Dataset
from training.split import Cases, Split

Log = list[list[int]]
logs = st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=9), min_size=1, max_size=8)


def _split(log: Log, num_items: int) -> Split:
    offsets = np.cumsum([0, *(len(user) for user in log)])
    items = np.array([item for user in log for item in user], dtype=np.int32)
    return Split.leave_one_out(Dataset(Path(), items, offsets, num_items, {"fingerprint": "x"}), 1, 0)


def _sequences(split: Split) -> Log:
    starts = split.dataset.offsets[:-1]
    return [split.dataset.items[a:b].tolist() for a, b in zip(starts, split.train_ends, strict=True)]


def _popularity(split: Split) -> list[Fraction]:
    trained = [item for user in _sequences(split) for item in user]
    return [Fraction(trained.count(item)) for item in range(split.dataset.num_items)]


def _markov(split: Split, history: list[int]) -> list[Fraction]:
    pairs = [pair for user in _sequences(split) for pair in pairwise(user)]
    scores = [Fraction(0)] * split.dataset.num_items
    for back, item in enumerate(reversed(history[-MARKOV_ITEMS:])):
        followers = [after for before, after in pairs if before == item]
        for after in followers:
            scores[after] += Fraction(1, 2**back * len(followers))
    return scores


def _brute_force(split: Split, cases: Cases, *, transitions: bool, exclude_seen: bool) -> Log:
    """Every case's items, best first."""
    popular = _popularity(split)
    orders = []
    for case in range(len(cases)):
        history = cases.history(case).tolist()
        scores = _markov(split, history) if transitions else popular
        items = [i for i in range(split.dataset.num_items) if not (exclude_seen and i in history)]
        orders.append(sorted(items, key=lambda i: (-scores[i], -popular[i], i)))
    return orders


@pytest.mark.parametrize("exclude_seen", [False, True], ids=["kept", "removed"])
@pytest.mark.parametrize("transitions", [False, True], ids=["popularity", "markov"])
@settings(max_examples=60, deadline=None)
@given(log=logs, num_items=st.integers(8, 11), top=st.integers(1, 12))
def test_ranks_and_lists_are_those_of_sorting_every_item(
    transitions: bool, exclude_seen: bool, log: Log, num_items: int, top: int
) -> None:
    split = _split(log, num_items)
    cases = split.test_cases()
    found = (markov if transitions else popularity)(split, cases, top, exclude_seen=exclude_seen)
    for case, order in enumerate(
        _brute_force(split, cases, transitions=transitions, exclude_seen=exclude_seen)
    ):
        target = int(cases.targets[case])
        assert found.ranks[case] == (order.index(target) + 1 if target in order else np.inf)
        assert found.lists[case].tolist() == (order + [-1] * top)[:top]


def test_cutting_the_cases_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    split = _split([rng.integers(0, 30, size=rng.integers(2, 20)).tolist() for _ in range(50)], 30)
    whole = markov(split, split.test_cases(), 5, exclude_seen=True)
    monkeypatch.setattr(training.baselines, "CHUNK", 10)
    cut = markov(split, split.test_cases(), 5, exclude_seen=True)
    assert np.array_equal(whole.ranks, cut.ranks)
    assert np.array_equal(whole.lists, cut.lists)


def test_transitions_of_the_last_item_count_most() -> None:
    # In training 0 leads to 1 and 2 leads to 3; 4 is the most popular.
    split = _split([[0, 1, 5], [2, 3, 5], [4, 4, 4, 4, 5], [0, 2, 3]], 6)
    found = markov(split, split.test_cases(), 3, exclude_seen=True)
    assert found.lists[3].tolist()[0] == 3
    assert found.ranks[3] == 1
