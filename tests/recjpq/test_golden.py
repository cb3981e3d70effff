"""Replaying golden histories: the recorded answers again, or a refusal."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recjpq.artifact import replay
from recjpq.artifact.golden import TABLE_TOLERANCE
from recjpq.errors import ArtifactGoldenError
from recjpq.scoring import Scorer, TopK, load_scorer

MakeScorer = Callable[[np.ndarray], Scorer]


def refusal(golden: Any, item_codes: np.ndarray, encode: Any, scorer: Scorer) -> str:
    with pytest.raises(ArtifactGoldenError) as raised:
        replay(golden, item_codes, encode, scorer)
    return str(raised.value)


def test_the_recorded_answers_pass(tiny: Any, make_scorer: MakeScorer) -> None:
    replay(tiny.golden, tiny.item_codes, tiny.encode, make_scorer(tiny.item_codes))


def test_a_small_difference_of_rounding_passes(tiny: Any) -> None:
    largest = tiny.golden.score_tables.max()

    def encode(item_codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return tiny.encode(item_codes, lengths) + np.float32(0.9 * TABLE_TOLERANCE * largest)

    replay(tiny.golden, tiny.item_codes, encode, load_scorer(tiny.item_codes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tables: tables + np.float32(0.01), "score tables differ by 0.01, expected at most 0.002"),
        (lambda tables: tables * np.float32(1.01), "score tables differ by 0.02, expected at most 0.002"),
        (lambda tables: tables[::-1], "score tables differ by 2, expected at most 0.002"),
        (lambda tables: tables * np.float32(np.nan), "score tables differ by nan, expected at most 0.002"),
        (lambda tables: tables + np.float32(np.inf), "score tables differ by inf, expected at most 0.002"),
        (lambda tables: tables[:1], "tables of float32 (1, 2, 4), expected float32 (2, 2, 4)"),
        (lambda tables: tables[:, :, :3], "tables of float32 (2, 2, 3), expected float32 (2, 2, 4)"),
        (lambda tables: tables.astype(np.float64), "tables of float64 (2, 2, 4), expected float32 (2, 2, 4)"),
    ],
    ids=["shifted", "scaled", "rows swapped", "nan", "infinite", "too few", "other V", "float64"],
)
def test_another_encoder_is_refused(
    tiny: Any, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    def encode(item_codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return change(tiny.encode(item_codes, lengths))

    assert message in refusal(tiny.golden, tiny.item_codes, encode, load_scorer(tiny.item_codes))


def test_one_nan_is_enough(tiny: Any) -> None:
    def encode(item_codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        tables = tiny.encode(item_codes, lengths)
        tables[1, 1, 3] = np.nan
        return tables

    message = refusal(tiny.golden, tiny.item_codes, encode, load_scorer(tiny.item_codes))
    assert "differ by nan" in message


def test_an_encoder_that_ignores_the_lengths_is_refused(tiny: Any) -> None:
    def encode(item_codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return tiny.encode(item_codes, np.full_like(lengths, item_codes.shape[1]))

    message = refusal(tiny.golden, tiny.item_codes, encode, load_scorer(tiny.item_codes))
    assert "the encoder does not compute what was exported" in message


def test_codes_of_another_model_are_refused(tiny: Any) -> None:
    item_codes = tiny.item_codes[::-1].copy()
    message = refusal(tiny.golden, item_codes, tiny.encode, load_scorer(item_codes))
    assert "score tables differ" in message


def test_a_scorer_of_other_codes_is_refused(tiny: Any, make_scorer: MakeScorer) -> None:
    item_codes = tiny.item_codes[[1, 0, 2, 3, 4, 5]]
    item_codes[4] = 2
    scorer = make_scorer(item_codes)
    message = refusal(tiny.golden, tiny.item_codes, tiny.encode, scorer)
    assert f"history 0 gave items [0, 1, 5] from scorer '{scorer.backend}', expected [0, 1, 4]" in message


@pytest.mark.parametrize("wrong", ["ids", "scores"])
def test_a_wrong_scorer_is_refused(tiny: Any, wrong: str) -> None:
    class Wrong:
        backend = "wrong"

        def top_k(self, score_tables: np.ndarray, k: int) -> list[TopK]:
            best = load_scorer(tiny.item_codes).top_k(score_tables, k)
            last = best[1]
            scores = np.nextafter(last.scores, np.float32(9)) if wrong == "scores" else last.scores
            ids = last.ids[[0, 2, 1]] if wrong == "ids" else last.ids
            return [best[0], TopK(ids, scores)]

    message = refusal(tiny.golden, tiny.item_codes, tiny.encode, Wrong())
    assert "history 1 gave items" in message
    assert "from scorer 'wrong', expected [5, 1, 4]" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_recorded_tables_must_be_finite(tiny: Any, value: float) -> None:
    score_tables = tiny.golden.score_tables.copy()
    score_tables[0, 0, 0] = value
    golden = replace(tiny.golden, score_tables=score_tables)
    message = refusal(golden, tiny.item_codes, tiny.encode, load_scorer(tiny.item_codes))
    assert "the recorded score tables hold NaN or infinity" in message


def test_a_wrong_record_is_refused(tiny: Any) -> None:
    golden = replace(tiny.golden, top_ids=tiny.golden.top_ids[:, ::-1].copy())
    message = refusal(golden, tiny.item_codes, tiny.encode, load_scorer(tiny.item_codes))
    assert "gave items [0, 1, 4]" in message
    assert "expected [4, 1, 0]" in message
