"""The stage `evaluate`: full ranking of every case through the scorer that serves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from training.backbone import Backbone
from training.baselines import BASELINES, training_counts
from training.batches import histories
from training.config import EvaluationConfig
from training.errors import DataError
from training.measure import list_length, measure
from training.metrics import Ranking, Ranks
from training.ranker import Ranker
from training.split import Cases, Split

Encode = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.float32]]
"""``encode(items int64 (B, L), lengths int64 (B,)) -> score_tables float32 (B, M, V)``."""


def torch_encoder(model: Backbone) -> Encode:
    """Return the PyTorch model as an encoder; it is left in evaluation mode."""

    def encode(items: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        model.eval()
        with torch.inference_mode():
            codes = model.embedding.item_codes[torch.from_numpy(items).to(model.device)]
            tables: npt.NDArray[np.float32] = (
                model.encode(codes, torch.from_numpy(lengths).to(model.device)).cpu().numpy()
            )
        return tables

    return encode


def rank_targets(
    encode: Encode,
    scorer: Ranker,
    cases: Cases,
    max_length: int,
    config: EvaluationConfig,
    *,
    depth: int | None = None,
    lists: npt.NDArray[np.int32] | None = None,
    progress: bool = False,
) -> Ranks:
    """Rank every case's target among all items, down to `depth` (the largest k by default).

    Items of the whole history, also those before the last L, are removed where the protocol says so; a
    target that is itself among them is a miss. `lists`, int32 (C, K) with K <= depth, is given the best K
    items of every case, and kept as it is where there are fewer.
    """
    depth = depth or max(config.ks)
    ranks = np.full(len(cases), np.inf)
    starts = range(0, len(cases), config.batch_size)
    for start in tqdm(starts, desc="evaluate", unit="batch", disable=None if progress else True):
        chosen = slice(start, min(start + config.batch_size, len(cases)))
        tables = encode(*histories(cases, chosen, max_length))
        indices = range(chosen.start, chosen.stop)
        seen = [cases.history(case) for case in indices] if config.exclude_seen else None
        for case, best in zip(indices, scorer.top_k(tables, depth, exclude=seen), strict=True):
            hits = np.flatnonzero(best.ids == cases.targets[case])
            if hits.size:
                ranks[case] = hits[0] + 1
            if lists is not None:
                shown = best.ids[: lists.shape[1]]
                lists[case, : len(shown)] = shown
    return ranks


def evaluate(
    encode: Encode, scorer: Ranker, split: Split, max_length: int, config: EvaluationConfig, seed: int = 0
) -> tuple[dict[str, Any], dict[str, Ranks]]:
    """Return the report of the test cases, ready for JSON, and the ranks that it was made from.

    Args:
        encode: the model.
        scorer: over its codes.
        split: whose test cases and training interactions.
        max_length: L.
        config: how it is measured.
        seed: of the bootstrap.
    """
    cases, counts = split.test_cases(), training_counts(split)
    if not len(cases):
        raise DataError("found no user with a history and an item to test, expected at least one")
    top = list_length(config.ks)
    lists = np.full((len(cases), top), -1, dtype=np.int32)
    ranks = rank_targets(encode, scorer, cases, max_length, config, lists=lists, progress=True)
    rankings = {"model": Ranking(ranks, lists)} | {
        name: baseline(split, cases, top, exclude_seen=config.exclude_seen)
        for name, baseline in BASELINES.items()
    }
    protocol = split.protocol | {
        "ranking": f"full, over all {split.dataset.num_items} items",
        "seen_items": "removed" if config.exclude_seen else "kept",
        "users": split.dataset.num_users,
        "cases": len(cases),
        "targets_unseen_in_training": int((counts[cases.targets] == 0).sum()),
        "targets_in_history": sum(cases.targets[case] in cases.history(case) for case in range(len(cases))),
        "items_unseen_in_training": int((counts == 0).sum()),
        "validation_users": len(split.validation_users),
    }
    report = {"protocol": protocol} | measure(rankings, cases, counts, config.ks, seed)
    return report, {name: ranking.ranks for name, ranking in rankings.items()}
