"""The scorer's contract, on every back-end: exact, best first, ties to the lower index, never filler."""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjpq.scoring import Scorer, TopK

MakeScorer = Callable[[np.ndarray], Scorer]

SPLITS = (1, 2, 3, 4, 7, 8, 16, 33, 64)
SUB_IDS = (1, 2, 17, 256)
ITEMS = (1, 2, 31, 32, 33, 257, 5000)


def exact_scores(item_codes: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The oracle for tables of small integers: sums in float64, which are exact in any order."""
    return table.astype(np.float64)[np.arange(item_codes.shape[1]), item_codes].sum(axis=1)


def float32_scores(item_codes: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The oracle for any table: running float32 sums from zero, split after split."""
    entries = table[np.arange(item_codes.shape[1]), item_codes]  # (N, M)
    with np.errstate(over="ignore"):
        return np.add.accumulate(np.pad(entries, ((0, 0), (1, 0))), axis=1)[:, -1]


def ranking(scores: np.ndarray, eligible: Iterable[int]) -> list[int]:
    """Best first, ties to the lower index."""
    return sorted(eligible, key=lambda item: (-scores[item], item))


def one_split(*scores: float) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N, 1) and a table (1, 1, N) that give item i the i-th score."""
    item_codes = np.arange(len(scores), dtype=np.uint8)[:, None]
    return item_codes, np.array(scores, dtype=np.float32)[None, None]


def assert_is(best: TopK, ids: list[int], scores: np.ndarray | list[float]) -> None:
    """Compare indices, and scores by their bits."""
    assert best.ids.dtype == np.int32
    assert best.scores.dtype == np.float32
    assert best.ids.tolist() == ids
    assert best.scores.tobytes() == np.asarray(scores, dtype=np.float32).tobytes()


def assert_same(found: list[TopK], expected: list[TopK]) -> None:
    assert len(found) == len(expected)
    for best, wanted in zip(found, expected, strict=True):
        assert_is(best, wanted.ids.tolist(), wanted.scores)


@pytest.mark.parametrize("num_items", ITEMS)
@pytest.mark.parametrize("num_sub_ids", SUB_IDS)
@pytest.mark.parametrize("num_splits", SPLITS)
def test_equals_brute_force(
    make_scorer: MakeScorer, num_splits: int, num_sub_ids: int, num_items: int
) -> None:
    rng = np.random.default_rng([num_splits, num_sub_ids, num_items])
    item_codes = rng.integers(num_sub_ids, size=(num_items, num_splits), dtype=np.uint8)
    tables = rng.integers(-9, 10, size=(2, num_splits, num_sub_ids)).astype(np.float32)
    scorer = make_scorer(item_codes)
    scores = [exact_scores(item_codes, table) for table in tables]
    rankings = [ranking(row, range(num_items)) for row in scores]
    for k in (1, 3, num_items, num_items + 5):
        for row, best in enumerate(scorer.top_k(tables, k)):
            assert_is(best, rankings[row][:k], scores[row][rankings[row][:k]])


@pytest.mark.parametrize("scale", [1.0, 1e-38, 5e37], ids=["normal", "subnormal", "overflowing"])
@pytest.mark.parametrize("num_splits", SPLITS)
def test_bits_of_random_float_tables(make_scorer: MakeScorer, num_splits: int, scale: float) -> None:
    rng = np.random.default_rng(num_splits)
    item_codes = rng.integers(256, size=(1001, num_splits), dtype=np.uint8)
    tables = (rng.standard_normal((3, num_splits, 256)) * scale).astype(np.float32)
    for table, best in zip(tables, make_scorer(item_codes).top_k(tables, 1001), strict=True):
        scores = float32_scores(item_codes, table)
        ids = ranking(scores, range(1001))
        assert_is(best, ids, scores[ids])


def test_sums_are_float32_in_the_order_of_the_splits(make_scorer: MakeScorer) -> None:
    # 1 + 2^-24 rounds to 1 in float32, twice; the two small entries first would make 1 + 2^-23.
    table = np.array([[[1.0], [2.0**-24], [2.0**-24]]], dtype=np.float32)
    scorer = make_scorer(np.zeros((1, 3), dtype=np.uint8))
    assert_is(scorer.top_k(table, 1)[0], [0], [1.0])
    assert_is(scorer.top_k(table[:, ::-1], 1)[0], [0], [1.0 + 2.0**-23])


def test_best_first(make_scorer: MakeScorer) -> None:
    item_codes, tables = one_split(3, -1, 7, 5)
    assert_is(make_scorer(item_codes).top_k(tables, 3)[0], [2, 3, 0], [7, 5, 3])


def test_ties_go_to_the_lower_index(make_scorer: MakeScorer) -> None:
    item_codes, tables = one_split(1, 2, 1, 2, 1, 2)
    assert_is(make_scorer(item_codes).top_k(tables, 5)[0], [1, 3, 5, 0, 2], [2, 2, 2, 1, 1])


@pytest.mark.parametrize("order", sorted(set(itertools.permutations([1, 2, 2, 3]))))
def test_ties_at_the_limit_in_any_order(make_scorer: MakeScorer, order: tuple[int, ...]) -> None:
    item_codes, tables = one_split(*order)
    assert make_scorer(item_codes).top_k(tables, 2)[0].ids.tolist() == [order.index(3), order.index(2)]


@pytest.mark.parametrize("value", [0.0, 0.1, -3e38])
def test_all_equal_tables_give_the_first_items(make_scorer: MakeScorer, value: float) -> None:
    item_codes = np.random.default_rng(0).integers(256, size=(257, 8), dtype=np.uint8)
    tables = np.full((1, 8, 256), value, dtype=np.float32)
    assert make_scorer(item_codes).top_k(tables, 100)[0].ids.tolist() == list(range(100))


@pytest.mark.parametrize("outlier", [3e38, -3e38])
def test_one_huge_entry(make_scorer: MakeScorer, outlier: float) -> None:
    # One item in 1,000 meets the outlier; the order of all others must not suffer from its scale.
    item_codes = np.random.default_rng(0).integers(16, size=(1000, 2), dtype=np.uint8)
    item_codes[:, 0] %= 15
    item_codes[500, 0] = 15
    tables = np.random.default_rng(1).integers(-9, 10, size=(1, 2, 16)).astype(np.float32)
    tables[0, 0, 15] = outlier
    ids = ranking(exact_scores(item_codes, tables[0]), range(1000))
    assert ids.index(500) == (0 if outlier > 0 else 999)
    assert make_scorer(item_codes).top_k(tables, 1000)[0].ids.tolist() == ids


def test_sums_beyond_float32_are_infinite_and_rank_so(make_scorer: MakeScorer) -> None:
    # Item 1 stays infinite although its third entry would bring the true sum back into range.
    item_codes = np.array([[0, 0, 0], [1, 1, 2], [1, 1, 1], [2, 2, 2]], dtype=np.uint8)
    tables = np.tile(np.array([0.0, 3e38, -3e38], dtype=np.float32), (1, 3, 1))
    best = make_scorer(item_codes).top_k(tables, 4)[0]
    assert_is(best, [1, 2, 0, 3], [np.inf, np.inf, 0.0, -np.inf])


def test_negative_zero_ties_with_zero(make_scorer: MakeScorer) -> None:
    # A sum starts at +0, so no score is ever -0.
    item_codes, tables = one_split(-0.0, 0.0, -0.0)
    assert_is(make_scorer(item_codes).top_k(tables, 3)[0], [0, 1, 2], [0.0, 0.0, 0.0])


def test_k_beyond_the_catalogue_gives_a_short_row(make_scorer: MakeScorer) -> None:
    item_codes, tables = one_split(1, 2)
    assert_is(make_scorer(item_codes).top_k(tables, 2**40)[0], [1, 0], [2, 1])


def test_k_may_be_a_numpy_integer(make_scorer: MakeScorer) -> None:
    item_codes, tables = one_split(1, 2)
    assert make_scorer(item_codes).top_k(tables, np.int64(1))[0].ids.tolist() == [1]


def test_an_empty_batch_has_no_results(make_scorer: MakeScorer) -> None:
    scorer = make_scorer(one_split(1, 2)[0])
    assert scorer.top_k(np.zeros((0, 1, 2), np.float32), 3) == []
    assert scorer.top_k(np.zeros((0, 1, 2), np.float32), 3, exclude=[], allow=[]) == []


def test_num_items_is_the_catalogue_size(make_scorer: MakeScorer) -> None:
    assert make_scorer(one_split(1, 2, 3)[0]).num_items == 3


def test_tables_may_have_more_sub_ids_than_the_codes_use(make_scorer: MakeScorer) -> None:
    item_codes = np.array([[0], [1]], dtype=np.uint8)
    tables = np.array([[[1, 2, 99, 99]]], dtype=np.float32)
    assert_is(make_scorer(item_codes).top_k(tables, 2)[0], [1, 0], [2, 1])


# ---------------------------------------------------------------- filters

SCORES = (5, 4, 3, 2, 1)  # item i is the i-th best


def indices(*items: int) -> np.ndarray:
    return np.array(items, dtype=np.int32)


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        (None, [0, 1, 2, 3, 4]),
        (indices(), [0, 1, 2, 3, 4]),
        (indices(0), [1, 2, 3, 4]),
        (indices(4, 0, 2), [1, 3]),
        (indices(1, 1, 3, 1), [0, 2, 4]),
        (indices(0, 1, 2, 3, 4), []),
    ],
    ids=["null", "none", "one", "unsorted", "repeated", "all"],
)
def test_excluded_items_are_never_returned(
    make_scorer: MakeScorer, exclude: np.ndarray | None, expected: list[int]
) -> None:
    item_codes, tables = one_split(*SCORES)
    best = make_scorer(item_codes).top_k(tables, 5, exclude=[exclude])[0]
    assert_is(best, expected, [SCORES[item] for item in expected])


@pytest.mark.parametrize(
    ("allow", "expected"),
    [
        (None, [0, 1, 2, 3, 4]),
        (indices(), []),
        (indices(3), [3]),
        (indices(4, 1), [1, 4]),
        (indices(2, 0, 2, 0), [0, 2]),
    ],
    ids=["null", "none", "one", "unsorted", "repeated"],
)
def test_only_allowed_items_are_returned(
    make_scorer: MakeScorer, allow: np.ndarray | None, expected: list[int]
) -> None:
    item_codes, tables = one_split(*SCORES)
    best = make_scorer(item_codes).top_k(tables, 5, allow=[allow])[0]
    assert_is(best, expected, [SCORES[item] for item in expected])


@pytest.mark.parametrize("allowed", [[], [2], [1, 4], [0, 1, 2, 3, 4]], ids=str)
def test_a_bitmap_allows_for_every_row(make_scorer: MakeScorer, allowed: list[int]) -> None:
    item_codes, table = one_split(*SCORES)
    bitmap = np.isin(np.arange(5), allowed)
    rows = make_scorer(item_codes).top_k(np.concatenate([table, -table]), 5, allow=bitmap)
    assert [row.ids.tolist() for row in rows] == [allowed, allowed[::-1]]


@pytest.mark.parametrize("as_bitmap", [False, True], ids=["indices", "bitmap"])
def test_exclude_applies_within_allow(make_scorer: MakeScorer, as_bitmap: bool) -> None:
    item_codes, tables = one_split(*SCORES)
    allow = np.array([False, True, True, True, False]) if as_bitmap else [indices(1, 2, 3)]
    best = make_scorer(item_codes).top_k(tables, 5, exclude=[indices(2, 4)], allow=allow)[0]
    assert best.ids.tolist() == [1, 3]


def test_rows_are_independent(make_scorer: MakeScorer) -> None:
    item_codes, table = one_split(*SCORES)
    tables = np.concatenate([table, -table, table, table])
    best = make_scorer(item_codes).top_k(
        tables,
        2,
        exclude=[indices(0), None, indices(), indices(3)],
        allow=[None, None, indices(4), indices(3)],
    )
    assert [row.ids.tolist() for row in best] == [[1, 2], [4, 3], [4], []]


def test_a_row_does_not_depend_on_its_batch(make_scorer: MakeScorer) -> None:
    rng = np.random.default_rng(0)
    item_codes = rng.integers(16, size=(257, 8), dtype=np.uint8)
    tables = rng.standard_normal((9, 8, 16)).astype(np.float32)
    scorer = make_scorer(item_codes)
    alone = [scorer.top_k(tables[row : row + 1], 10)[0] for row in range(9)]
    assert_same(scorer.top_k(tables, 10), alone)


# ---------------------------------------------------------------- memory


def test_strided_and_transposed_inputs(make_scorer: MakeScorer) -> None:
    rng = np.random.default_rng(0)
    item_codes = rng.integers(16, size=(257, 4), dtype=np.uint8)
    tables = rng.integers(-9, 10, size=(3, 4, 16)).astype(np.float32)
    scores = [exact_scores(item_codes, table) for table in tables]
    expected = [ranking(row, range(257))[:10] for row in scores]
    wide_codes = np.repeat(item_codes, 2, axis=1)[:, ::2]
    wide_tables = np.repeat(tables, 2, axis=2)[:, :, ::2]
    for codes in (np.asfortranarray(item_codes), wide_codes, item_codes[::-1].copy()[::-1]):
        for given_tables in (tables, np.asfortranarray(tables), wide_tables, tables[::-1].copy()[::-1]):
            best = make_scorer(codes).top_k(given_tables, 10)
            assert [row.ids.tolist() for row in best] == expected


def test_strided_filters(make_scorer: MakeScorer) -> None:
    item_codes, tables = one_split(*SCORES)
    scorer = make_scorer(item_codes)
    bitmap = np.array([True, False, False, False, True, False, False, False, True, False])[::2]
    assert scorer.top_k(tables, 5, allow=bitmap)[0].ids.tolist() == [0, 2, 4]
    every_other = indices(1, 9, 3, 9)[::2]
    assert scorer.top_k(tables, 5, allow=[every_other])[0].ids.tolist() == [1, 3]
    assert scorer.top_k(tables, 5, exclude=[every_other])[0].ids.tolist() == [0, 2, 4]


def test_memory_mapped_read_only_inputs(make_scorer: MakeScorer, tmp_path: Path) -> None:
    item_codes, tables = one_split(*SCORES)
    np.save(tmp_path / "codes.npy", item_codes)
    np.save(tmp_path / "tables.npy", tables)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    mapped_tables = np.load(tmp_path / "tables.npy", mmap_mode="r")
    assert not mapped.flags.writeable
    assert make_scorer(mapped).top_k(mapped_tables, 2)[0].ids.tolist() == [0, 1]


def test_arguments_are_not_changed(make_scorer: MakeScorer) -> None:
    item_codes, tables = one_split(*SCORES)
    exclude, allow, bitmap = indices(3, 1, 3), indices(4, 3, 0), np.array([True, False, True, True, True])
    given_arrays = [item_codes, tables, exclude, allow, bitmap]
    before = [array.copy() for array in given_arrays]
    scorer = make_scorer(item_codes)
    scorer.top_k(tables, 2, exclude=[exclude], allow=[allow])
    scorer.top_k(tables, 2, exclude=[exclude], allow=bitmap)
    assert all(np.array_equal(*pair) for pair in zip(given_arrays, before, strict=True))


# ---------------------------------------------------------------- law


@st.composite
def tables_and_codes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Tables (B, M, V) of few distinct values, so that ties are common, and codes (N, M)."""
    batch, num_items = draw(st.integers(0, 3)), draw(st.integers(1, 70))
    num_splits, num_sub_ids = (
        draw(st.sampled_from([1, 2, 3, 4, 8, 9, 16])),
        draw(st.sampled_from([1, 2, 5, 256])),
    )
    values = draw(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=6)
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tables = rng.choice(np.array(values, dtype=np.float32), size=(batch, num_splits, num_sub_ids))
    return tables, rng.integers(num_sub_ids, size=(num_items, num_splits), dtype=np.uint8)


@settings(max_examples=400, derandomize=True, database=None, deadline=None)
@given(arrays=tables_and_codes(), data=st.data())
def test_any_call_equals_brute_force(
    make_scorer: MakeScorer, arrays: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    tables, item_codes = arrays
    batch, num_items = len(tables), len(item_codes)
    everything = set(range(num_items))
    k = data.draw(st.integers(1, num_items + 3), label="k")
    some = st.lists(st.integers(0, num_items - 1), max_size=2 * num_items)
    rows = st.lists(st.none() | some, min_size=batch, max_size=batch)
    exclude = data.draw(rows, label="exclude")
    allow = data.draw(rows | some.map(set), label="allow")  # a set becomes a bitmap for all rows

    best = make_scorer(item_codes).top_k(
        tables,
        k,
        exclude=[None if row is None else indices(*row) for row in exclude],
        allow=np.isin(np.arange(num_items), list(allow))
        if isinstance(allow, set)
        else [None if row is None else indices(*row) for row in allow],
    )

    assert len(best) == batch
    for row in range(batch):
        allowed = allow if isinstance(allow, set) else everything if allow[row] is None else allow[row]
        scores = float32_scores(item_codes, tables[row])
        ids = ranking(scores, set(allowed) - set(exclude[row] or []))[:k]
        assert_is(best[row], ids, scores[ids])
