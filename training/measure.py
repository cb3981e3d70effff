"""The numbers of a report: what every recommender's ranks and lists come to, and how sure that is."""

from collections.abc import Mapping, Sequence
from typing import Any

from training.bootstrap import LEVEL, RESAMPLES, intervals, paired_difference
from training.breakdown import breakdown, length_bands, popularity_bands
from training.exposure import exposure, history_popularity
from training.metrics import Ranking, metrics_at
from training.split import Cases, Indices


def headline(ks: Sequence[int]) -> str:
    """Return the metric that decides: NDCG at the largest k up to 10, else at the smallest."""
    return f"ndcg@{max((k for k in ks if k <= 10), default=min(ks))}"


def list_length(ks: Sequence[int]) -> int:
    """Return how many items a list shows: the largest k up to 20, else the smallest."""
    return max((k for k in ks if k <= 20), default=min(ks))


def measure(
    rankings: Mapping[str, Ranking], cases: Cases, counts: Indices, ks: Sequence[int], seed: int
) -> dict[str, Any]:
    """Return the report's numbers, ready for JSON.

    Args:
        rankings: `model` and the baselines, of the same cases.
        cases: C of them.
        counts: training interactions of every item, int64 (N,).
        ks: of the metrics.
        seed: of the bootstrap.
    """
    ranks = {name: ranking.ranks for name, ranking in rankings.items()}
    means = {name: metrics_at(values, ks) for name, values in ranks.items()}
    best = max((name for name in means if name != "model"), key=lambda name: means[name][headline(ks)])
    difference, sure = paired_difference(ranks["model"], ranks[best], ks, seed)
    popularity, lengths = counts[cases.targets], cases.ends - cases.starts
    return means | {
        "headline": headline(ks),
        "bootstrap": {"resamples": RESAMPLES, "level": LEVEL, "seed": seed},
        "intervals": {name: intervals(values, ks, seed) for name, values in ranks.items()},
        "difference": {"model_minus": best, "means": difference, "intervals": sure},
        "by_target_popularity": breakdown(popularity, popularity_bands(int(counts.max())), ranks, ks),
        "by_history_length": breakdown(lengths, length_bands(int(lengths.max())), ranks, ks),
        "exposure": {name: exposure(ranking.lists, counts) for name, ranking in rankings.items()}
        | {"histories": history_popularity(cases, counts)},
    }
