"""Evaluation, against ranks counted by hand."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from recjpq.scoring import load_scorer
from training.baselines import popularity
from training.config import EvaluationConfig
from training.dataset import Dataset
from training.evaluate import rank_targets, torch_encoder
from training.metrics import metrics_at
from training.report_text import format_report
from training.run import Run
from training.split import Split


def test_metrics_of_known_ranks() -> None:
    found = metrics_at(np.array([1.0, 3.0, 11.0, math.inf]), [1, 10])
    assert found["recall@1"] == 0.25
    assert found["recall@10"] == 0.5
    assert found["ndcg@10"] == pytest.approx((1 + 1 / math.log2(4)) / 4)
    assert found["mrr@10"] == pytest.approx((1 + 1 / 3) / 4)


@pytest.fixture
def split() -> Split:
    """One-split codes make item i's score the table's entry i. Histories: 3 | 0 1 | 0 1 0."""
    items = np.array([3, 2, 0, 1, 4, 0, 1, 0, 1], dtype=np.int32)
    offsets = np.array([0, 2, 5, 9])
    dataset = Dataset(Path(), items, offsets, 5, {"fingerprint": "x"})
    return Split(dataset, offsets[1:] - 1, np.array([], dtype=np.int64))


def _encode(items: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    table = np.array([5, 4, 3, 2, 1], dtype=np.float32)  # item 0 is always the best
    return np.broadcast_to(table, (len(items), 1, 5)).copy()


@pytest.mark.parametrize(
    ("exclude_seen", "expected"), [(False, [3, 5, 2]), (True, [3, 3, math.inf])], ids=["kept", "removed"]
)
def test_targets_are_ranked_among_all_items(split: Split, exclude_seen: bool, expected: list[float]) -> None:
    scorer = load_scorer(np.arange(5, dtype=np.uint8)[:, None])
    config = EvaluationConfig(ks=(5,), exclude_seen=exclude_seen, batch_size=2)
    ranks = rank_targets(_encode, scorer, split.test_cases(), 10, config)
    assert ranks.tolist() == expected
    shallow = EvaluationConfig(ks=(2,), exclude_seen=False)
    assert rank_targets(_encode, scorer, split.test_cases(), 10, shallow).tolist() == [math.inf, math.inf, 2]


@pytest.mark.parametrize(
    ("exclude_seen", "expected"), [(False, [4, 5, 2]), (True, [3, 3, math.inf])], ids=["kept", "removed"]
)
def test_popularity_counts_training_interactions_only(
    split: Split, exclude_seen: bool, expected: list[float]
) -> None:
    # Training counts: item 0 three times, item 1 twice, item 3 once; 2 and 4 only ever tested.
    found = popularity(split, split.test_cases(), 2, exclude_seen=exclude_seen)
    assert found.ranks.tolist() == expected


def test_ranks_through_the_scorer_are_those_of_sorting_every_score(trained: Run) -> None:
    model, split = trained._model, trained.split
    encode = torch_encoder(model)
    cases = split.test_cases()
    config = EvaluationConfig(ks=(40,), exclude_seen=True)
    found = rank_targets(encode, load_scorer(trained._codes.item_codes), cases, 6, config)
    for case in range(len(cases)):
        window = cases.history(case)[-6:].astype(np.int64)[None]
        table = encode(window, np.array([window.shape[1]]))[0]
        scores = table[np.arange(4), trained._codes.item_codes].sum(axis=1)
        scores[cases.history(case)] = -np.inf
        assert found[case] == 1 + (scores > scores[cases.targets[case]]).sum()


def test_the_report_says_its_protocol_and_that_the_model_beats_popularity(trained: Run) -> None:
    report = trained.evaluate()
    assert report["protocol"]["ranking"] == "full, over all 40 items"
    assert report["protocol"]["cases"] == 60
    assert report["protocol"]["targets_in_history"] == 0
    assert report["model"]["ndcg@10"] > 2 * report["popularity"]["ndcg@10"]
    text = format_report(report)
    assert "seen items: removed" in text
    assert "leave-one-out" in text
    assert "ndcg@10 less that of markov: " in text


def test_lists_hold_the_best_items_of_every_case(split: Split) -> None:
    scorer = load_scorer(np.arange(5, dtype=np.uint8)[:, None])
    lists = np.full((3, 4), -1, dtype=np.int32)
    config = EvaluationConfig(ks=(4,), exclude_seen=True, batch_size=2)
    rank_targets(_encode, scorer, split.test_cases(), 10, config, lists=lists)
    assert lists.tolist() == [[0, 1, 2, 4], [2, 3, 4, -1], [2, 3, 4, -1]]


def test_ranks_are_kept_for_later_comparisons(trained: Run) -> None:
    report = trained.evaluate()
    cases = trained.split.test_cases()
    with np.load(trained.config.run.directory / "ranks.npz") as kept:
        assert kept["targets"].tolist() == cases.targets.tolist()
        assert trained.split.dataset.items[kept["positions"]].tolist() == cases.targets.tolist()
        for name in ("model", "popularity", "markov"):
            assert metrics_at(kept[name], [1, 10]) == pytest.approx(report[name])
