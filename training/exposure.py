"""What a recommender's lists show of the catalogue: coverage, and the pull towards popular items."""

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from training.split import Cases, Indices

TOP_SHARE = 0.01


def exposure(lists: npt.NDArray[np.int32], counts: Indices) -> dict[str, float]:
    """Describe lists of K items for every case.

    Args:
        lists: int32 (C, K), -1 where there is no item.
        counts: training interactions of every item, int64 (N,).

    Returns:
        length: K. coverage: the share of the catalogue that is recommended to anyone; coverage_trained: the
        same of the items with training interactions. average_popularity: mean training interactions of a
        recommended item (ARP); popularity_percentile: its mean percentile by them, 0 to 100, ties at their
        middle. top_items_share: share of all recommendations that goes to the most popular hundredth of the
        items. gini: of recommendations over items, 0 for equal shares and 1 for one item.
    """
    shown = np.bincount(lists[lists >= 0], minlength=len(counts))
    most_popular = np.argsort(-counts, kind="stable")[: max(1, round(TOP_SHARE * len(counts)))]
    trained = counts > 0
    return {
        "length": lists.shape[1],
        "coverage": float(np.mean(shown > 0)),
        "coverage_trained": float(np.mean(shown[trained] > 0)),
        **_popularity(shown, counts),
        "top_items_share": float(shown[most_popular].sum() / shown.sum()),
        "gini": _gini(shown),
    }


def history_popularity(cases: Cases, counts: Indices) -> dict[str, float]:
    """Return the popularity of the histories' items, as `exposure` does of recommended ones."""
    edges = np.zeros(len(cases.items) + 1, dtype=np.int64)
    np.add.at(edges, cases.starts, 1)
    np.add.at(edges, cases.ends, -1)
    inside = np.cumsum(edges[:-1]) > 0  # histories of different users never overlap
    return _popularity(np.bincount(np.asarray(cases.items)[inside], minlength=len(counts)), counts)


def _popularity(shown: Indices, counts: Indices) -> dict[str, float]:
    percentiles = (rankdata(counts) - 0.5) / len(counts) * 100
    return {
        "average_popularity": float(np.average(counts, weights=shown)),
        "popularity_percentile": float(np.average(percentiles, weights=shown)),
    }


def _gini(shown: Indices) -> float:
    """Return ``sum_i (2 i - N - 1) x_i / (N sum x)`` over x ascending, i from 1."""
    number = len(shown)
    weights = 2.0 * np.arange(1, number + 1) - number - 1
    return float(weights @ np.sort(shown) / (number * shown.sum()))
