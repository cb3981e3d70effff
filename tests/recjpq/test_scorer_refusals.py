"""Calls that cannot be answered: every back-end refuses them by one error that says what it found."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from recjpq.errors import RecJPQError, ScoringError
from recjpq.scoring import Scorer

MakeScorer = Callable[[np.ndarray], Scorer]

ITEM_CODES = np.array([[0, 1], [2, 0], [1, 1]], dtype=np.uint8)  # N=3, M=2, largest sub-id 2
TABLES = np.zeros((2, 2, 4), dtype=np.float32)  # B=2, V=4


def table_with(value: float) -> np.ndarray:
    tables = TABLES.copy()
    tables[1, 0, 3] = value
    return tables


def indices(*items: int, dtype: Any = np.int32) -> np.ndarray:
    return np.array(items, dtype=dtype)


def refusal(scorer: Scorer, score_tables: Any = TABLES, k: Any = 1, **filters: Any) -> str:
    """The message with which a call is refused."""
    with pytest.raises(ScoringError) as raised:
        scorer.top_k(score_tables, k, **filters)
    return str(raised.value)


def test_a_scoring_error_is_also_a_value_error() -> None:
    assert issubclass(ScoringError, ValueError)
    assert issubclass(ScoringError, RecJPQError)


@pytest.mark.parametrize(
    ("score_tables", "message"),
    [
        ([[[0.0]]], "score_tables: found list of 1, expected float32 (B, M, V)"),
        (None, "score_tables: found NoneType, expected float32 (B, M, V)"),
        (TABLES.astype(np.float64), "score_tables: found float64 (2, 2, 4), expected float32 (B, M, V)"),
        (TABLES.astype(np.float16), "score_tables: found float16 (2, 2, 4), expected float32 (B, M, V)"),
        (TABLES.astype(">f4"), "score_tables: found >f4 (2, 2, 4), expected float32 (B, M, V)"),
        (TABLES[0], "score_tables: found shape (2, 4), expected (B, 2, V)"),
        (TABLES[None], "score_tables: found shape (1, 2, 2, 4), expected (B, 2, V)"),
        (TABLES[:, :1], "score_tables: found shape (2, 1, 4), expected (B, 2, V)"),
        (np.zeros((2, 3, 4), np.float32), "score_tables: found shape (2, 3, 4), expected (B, 2, V)"),
        (np.zeros((0, 3, 4), np.float32), "score_tables: found shape (0, 3, 4), expected (B, 2, V)"),
        (TABLES[:, :, :2], "score_tables: found V=2, expected 3 to 256: the catalogue's codes go up to 2"),
        (TABLES[:, :, :0], "score_tables: found V=0, expected 3 to 256: the catalogue's codes go up to 2"),
        (
            np.zeros((2, 2, 257), np.float32),
            "score_tables: found V=257, expected 3 to 256: the catalogue's codes go up to 2",
        ),
        (table_with(np.nan), "score_tables: row 1 holds NaN or infinity, expected finite scores"),
        (table_with(np.inf), "score_tables: row 1 holds NaN or infinity, expected finite scores"),
        (table_with(-np.inf), "score_tables: row 1 holds NaN or infinity, expected finite scores"),
    ],
)
def test_bad_score_tables(make_scorer: MakeScorer, score_tables: Any, message: str) -> None:
    assert refusal(make_scorer(ITEM_CODES), score_tables) == message


@pytest.mark.parametrize("k", [0, -1, True, 1.5, 1.0, np.float32(1), np.True_, None, "1"], ids=repr)
def test_bad_k(make_scorer: MakeScorer, k: Any) -> None:
    assert refusal(make_scorer(ITEM_CODES), k=k) == f"k: found {k!r}, expected an integer of at least 1"


ROW = "expected a sequence of 2 entries, one per row, each int32 item indices or None"
ONE_DIMENSION = "expected int32 item indices of one dimension"


@pytest.mark.parametrize("name", ["exclude", "allow"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([None], f"found list of 1, {ROW}"),
        ([None, None, None], f"found list of 3, {ROW}"),
        (iter([None, None]), f"found list_iterator, {ROW}"),
        (5, f"found int, {ROW}"),
        ([None, indices(3)], "found item index 3, expected 0 to 2"),
        ([None, indices(0, 2**31 - 1)], "found item index 2147483647, expected 0 to 2"),
        ([indices(0, -1), None], "found item index -1, expected 0 to 2"),
        ([indices(0, dtype=np.int64), None], f"found int64 (1,), {ONE_DIMENSION}"),
        ([indices(0, dtype=np.uint8), None], f"found uint8 (1,), {ONE_DIMENSION}"),
        ([indices(0.0, dtype=np.float32), None], f"found float32 (1,), {ONE_DIMENSION}"),
        ([indices(0, 1, 1, dtype=np.bool_), None], f"found bool (3,), {ONE_DIMENSION}"),
        ([indices(0)[None], None], f"found int32 (1, 1), {ONE_DIMENSION}"),
        ([[0], None], f"found list of 1, {ONE_DIMENSION}"),
        ([0, None], f"found int, {ONE_DIMENSION}"),
        ("ab", f"found str, {ONE_DIMENSION}"),
    ],
)
def test_bad_rows_of_a_filter(make_scorer: MakeScorer, name: str, rows: Any, message: str) -> None:
    assert refusal(make_scorer(ITEM_CODES), **{name: rows}) == f"{name}: {message}"


def test_exclude_is_never_a_bitmap(make_scorer: MakeScorer) -> None:
    message = refusal(make_scorer(ITEM_CODES), exclude=np.array([True, False, True]))
    assert message == f"exclude: found bool (3,), {ROW}"


@pytest.mark.parametrize(
    "allow",
    [
        np.array([True, False]),
        np.array([True, False, True, True]),
        np.array([], dtype=np.bool_),
        np.array([[True, False, True]] * 2),
        np.array([1, 0, 1], dtype=np.uint8),
        indices(0, 1),
    ],
    ids=["short", "long", "empty", "per-row", "bytes", "indices"],
)
def test_bad_bitmap(make_scorer: MakeScorer, allow: np.ndarray) -> None:
    found = f"{allow.dtype} {allow.shape}"
    expected = "expected bool (3,) or a sequence of int32 indices"
    assert refusal(make_scorer(ITEM_CODES), allow=allow) == f"allow: found {found}, {expected}"


def test_one_bad_row_refuses_the_whole_batch_and_the_scorer_stays_usable(make_scorer: MakeScorer) -> None:
    scorer = make_scorer(ITEM_CODES)
    refusal(scorer, table_with(np.nan))
    refusal(scorer, exclude=[None, indices(3)])
    assert [best.ids.tolist() for best in scorer.top_k(TABLES, 3)] == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("item_codes", "message"),
    [
        ([[0, 1]], "item_codes: found list of 1, expected uint8 (N, M)"),
        (ITEM_CODES.astype(np.int64), "item_codes: found int64 (3, 2), expected uint8 (N, M)"),
        (ITEM_CODES.astype(np.int8), "item_codes: found int8 (3, 2), expected uint8 (N, M)"),
        (ITEM_CODES[0], "item_codes: found uint8 (2,), expected uint8 (N, M)"),
        (ITEM_CODES[None], "item_codes: found uint8 (1, 3, 2), expected uint8 (N, M)"),
        (ITEM_CODES[:, :0], "item_codes: found M=0 splits, expected 1 to 64"),
        (np.zeros((3, 65), np.uint8), "item_codes: found M=65 splits, expected 1 to 64"),
        (ITEM_CODES[:0], "item_codes: found N=0 items, expected 1 to 2147483647"),
    ],
)
def test_bad_codes(make_scorer: MakeScorer, item_codes: Any, message: str) -> None:
    with pytest.raises(ScoringError) as raised:
        make_scorer(item_codes)
    assert str(raised.value) == message


def test_too_many_items_are_refused_without_reading_them(make_scorer: MakeScorer) -> None:
    endless = np.broadcast_to(np.zeros((1, 1), np.uint8), (2**31, 1))
    with pytest.raises(ScoringError, match="found N=2147483648 items, expected 1 to 2147483647"):
        make_scorer(endless)
