"""The stage `evaluate`: full ranking of every case through the scorer that serves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from training.backbone import Backbone
from training.batches import histories
from training.config import EvaluationConfig
from training.metrics import Ranks, metrics_at
from training.ranker import Ranker
from training.split import PROTOCOL, Cases, Split

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
    progress: bool = False,
) -> Ranks:
    """Rank every case's target among all items, down to `depth` (the largest k by default).

    Items of the whole history, also those before the last L, are removed where the protocol says so; a
    target that is itself among them is a miss.
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
    return ranks


def popularity_ranks(split: Split, cases: Cases, exclude_seen: bool) -> Ranks:
    """Rank every case's target by training interactions, ties to the lower item index."""
    _, items = split.training_interactions()
    counts = np.bincount(items, minlength=split.dataset.num_items)
    position = np.empty(len(counts), dtype=np.int64)
    position[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    ranks: Ranks = position[cases.targets].astype(np.float64) + 1.0
    if exclude_seen:
        for case, target in enumerate(cases.targets):
            seen = np.unique(cases.history(case))
            before = position[seen] < position[target]
            ranks[case] = np.inf if target in seen else ranks[case] - before.sum()
    return ranks


def evaluate(
    encode: Encode, scorer: Ranker, split: Split, max_length: int, config: EvaluationConfig
) -> dict[str, Any]:
    """Return the report of the test cases: protocol, model and popularity, ready for JSON."""
    cases = split.test_cases()
    _, trained = split.training_interactions()
    cold = ~np.isin(cases.targets, trained)
    model = rank_targets(encode, scorer, cases, max_length, config, progress=True)
    popularity = popularity_ranks(split, cases, config.exclude_seen)
    return {
        "protocol": {
            "split": PROTOCOL,
            "ranking": f"full, over all {split.dataset.num_items} items",
            "seen_items": "removed" if config.exclude_seen else "kept",
            "cases": len(cases),
            "targets_unseen_in_training": int(cold.sum()),
            "validation_users": len(split.validation_users),
        },
        "model": metrics_at(model, config.ks),
        "popularity": metrics_at(popularity, config.ks),
    }


def format_report(report: dict[str, Any]) -> str:
    """Return the report as a table, the protocol above it."""
    lines = [f"  {name.replace('_', ' ')}: {value}" for name, value in report["protocol"].items()]
    rows = [f"  {'':<12}{'model':>10}{'popularity':>12}"]
    rows += [
        f"  {name:<12}{value:>10.4f}{report['popularity'][name]:>12.4f}"
        for name, value in report["model"].items()
    ]
    return "\n".join(["protocol", *lines, "metrics", *rows])
