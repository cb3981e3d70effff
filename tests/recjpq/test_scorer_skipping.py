"""Catalogues of many blocks, in which most need not be opened: nothing may be lost to a bound."""

from collections.abc import Callable

import numpy as np
import pytest

from recjpq.scoring import GrowingScorer
from recjpq.scoring.numpy_scorer import NumpyScorer

MakeScorer = Callable[[np.ndarray], GrowingScorer]

NUM_ITEMS = 30_000  # 469 blocks, 8 pages


def clustered_codes(rng: np.random.Generator, num_splits: int, num_sub_ids: int = 256) -> np.ndarray:
    """Codes in 40 clusters, as those of items that are liked together."""
    centres = rng.integers(num_sub_ids, size=(40, num_splits))
    noise = rng.normal(0, num_sub_ids / 40, size=(NUM_ITEMS, num_splits))
    return np.clip(centres[rng.integers(40, size=NUM_ITEMS)] + noise, 0, num_sub_ids - 1).astype(np.uint8)


def smooth(rng: np.random.Generator, num_splits: int) -> np.ndarray:
    """Neighbouring sub-ids have similar scores, as after training."""
    steps = rng.standard_normal((num_splits, 256)) + 0.2 * rng.standard_normal((num_splits, 1))
    return np.cumsum(steps, axis=1)


TABLES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "smooth": smooth,
    "random": lambda rng, m: rng.standard_normal((m, 256)),
    "few distinct sums": lambda rng, m: np.round(smooth(rng, m) / 8),
    "all equal": lambda rng, m: np.full((m, 256), 0.1),
    "one split decides": lambda rng, m: smooth(rng, m) * (np.arange(m) == m // 2)[:, None],
    "rounding decides": lambda rng, m: 2.0**20 + np.round(smooth(rng, m)) / 16,
    "cancelling": lambda rng, m: smooth(rng, m) + 1e6 * (-1.0) ** np.arange(m)[:, None],
    "subnormal": lambda rng, m: smooth(rng, m) * 1e-42,
    "huge": lambda rng, m: smooth(rng, m) * 1e34,
    "overflowing": lambda rng, m: np.clip(smooth(rng, m) * 2e37, -3e38, 3e38),
    "negative zeros": lambda rng, m: np.where(smooth(rng, m) > 0, 0.0, -0.0),
    "one high outlier": lambda rng, m: np.where(rng.random((m, 256)) < 0.001, 1e30, smooth(rng, m)),
    "switched off": lambda rng, m: np.where(rng.random((m, 256)) < 0.3, -1e30, smooth(rng, m)),
    "almost all off": lambda rng, m: np.where(rng.random((m, 256)) < 0.9, -3e38, smooth(rng, m)),
}


@pytest.mark.parametrize("num_splits", [2, 8, 13])
@pytest.mark.parametrize("kind", TABLES)
def test_equals_the_specification(make_scorer: MakeScorer, kind: str, num_splits: int) -> None:
    rng = np.random.default_rng([num_splits, len(kind)])
    item_codes = clustered_codes(rng, num_splits)
    tables = np.stack([TABLES[kind](rng, num_splits) for _ in range(3)]).astype(np.float32)
    bitmap = rng.random(NUM_ITEMS) < 0.5
    rare = rng.random(NUM_ITEMS) < 0.001
    exclude = [rng.integers(NUM_ITEMS, size=size, dtype=np.int32) for size in (0, 5, 10_000)]
    scorer, specification = make_scorer(item_codes), NumpyScorer(item_codes)
    for k in (1, 10, 500):
        for allow in (None, bitmap, rare):
            found = scorer.top_k(tables, k, exclude=exclude, allow=allow)
            for best, expected in zip(
                found, specification.top_k(tables, k, exclude=exclude, allow=allow), strict=True
            ):
                assert np.array_equal(best.ids, expected.ids)
                assert best.scores.tobytes() == expected.scores.tobytes()


@pytest.mark.parametrize("num_sub_ids", [2, 16, 17, 100])
def test_fewer_sub_ids(make_scorer: MakeScorer, num_sub_ids: int) -> None:
    rng = np.random.default_rng(num_sub_ids)
    item_codes = clustered_codes(rng, 8, num_sub_ids)
    tables = np.cumsum(rng.standard_normal((3, 8, num_sub_ids)), axis=2).astype(np.float32)
    expected = NumpyScorer(item_codes).top_k(tables, 10)
    for best, wanted in zip(make_scorer(item_codes).top_k(tables, 10), expected, strict=True):
        assert np.array_equal(best.ids, wanted.ids)
        assert best.scores.tobytes() == wanted.scores.tobytes()


def test_the_best_items_excluded_one_after_another(make_scorer: MakeScorer) -> None:
    # What is excluded must not count towards the score that others have to reach.
    rng = np.random.default_rng(0)
    item_codes = clustered_codes(rng, 8)
    tables = smooth(rng, 8)[None].astype(np.float32)
    ranking = NumpyScorer(item_codes).top_k(tables, 3000)[0].ids
    scorer = make_scorer(item_codes)
    for passed in (1, 10, 100, 2900):
        best = scorer.top_k(tables, 100, exclude=[rng.permutation(ranking[:passed])])[0]
        assert np.array_equal(best.ids, ranking[passed : passed + 100])


@pytest.mark.parametrize("eligible", [0, 1, 9, 10, 11])
def test_exactly_k_if_k_are_eligible(make_scorer: MakeScorer, eligible: int) -> None:
    rng = np.random.default_rng(eligible)
    item_codes = clustered_codes(rng, 8)
    tables = smooth(rng, 8)[None].astype(np.float32)
    chosen = rng.permutation(NUM_ITEMS)[:eligible].astype(np.int32)
    others = np.setdiff1d(np.arange(NUM_ITEMS, dtype=np.int32), chosen)
    bitmap = np.isin(np.arange(NUM_ITEMS), chosen)
    scorer = make_scorer(item_codes)
    expected = NumpyScorer(item_codes).top_k(tables, 10, allow=bitmap)[0].ids.tolist()
    assert len(expected) == min(10, eligible)
    assert scorer.top_k(tables, 10, allow=bitmap)[0].ids.tolist() == expected
    assert scorer.top_k(tables, 10, allow=[chosen])[0].ids.tolist() == expected
    assert scorer.top_k(tables, 10, exclude=[others])[0].ids.tolist() == expected


def test_a_lower_sum_that_rounds_to_the_best_score_ties_with_it(make_scorer: MakeScorer) -> None:
    # 1 + 1.6 ulp and 1 + 1.9 ulp are both 1 + 2 ulp in float32, which is above either exact sum: without room
    # for rounding, item 0 would seem unable to reach the score of item 100.
    ulp = 2.0**-23
    tables = np.array([[[1, 1, 1], [0, 1.6 * ulp, 1.9 * ulp]]], dtype=np.float32)
    item_codes = np.zeros((200, 2), dtype=np.uint8)
    item_codes[0, 1], item_codes[100, 1] = 1, 2
    best = make_scorer(item_codes).top_k(tables, 1)[0]
    assert (best.ids.tolist(), best.scores.tolist()) == ([0], [1 + 2 * ulp])


def test_infinite_sums_tie_however_large(make_scorer: MakeScorer) -> None:
    tables = np.array([[[0, 2e38, 3e38]] * 2], dtype=np.float32)
    item_codes = np.zeros((1000, 2), dtype=np.uint8)
    item_codes[5], item_codes[500] = 1, 2
    assert make_scorer(item_codes).top_k(tables, 1)[0].ids.tolist() == [5]


def test_a_sum_that_overflows_on_the_way_beats_a_larger_one_that_does_not(make_scorer: MakeScorer) -> None:
    tables = np.array([[[0, 3e38, 3.2e38], [0, 3e38, 0], [0, -3e38, 0]]], dtype=np.float32)
    item_codes = np.zeros((1000, 3), dtype=np.uint8)
    item_codes[5, 0] = 2
    scorer = make_scorer(item_codes)
    assert scorer.top_k(tables, 1)[0].ids.tolist() == [5]
    scorer.append(np.array([[1, 1, 1]], dtype=np.uint8))
    assert scorer.top_k(tables, 1)[0].ids.tolist() == [1000]
