"""Bootstrap confidence intervals over cases (Efron, 1979), percentile method."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.metrics import Ranks, names_at, values_at

RESAMPLES = 1000
LEVEL = 0.95
_AT_ONCE = 1 << 22  # counts in memory

Intervals = dict[str, tuple[float, float]]


def intervals(ranks: Ranks, ks: Sequence[int], seed: int) -> Intervals:
    """Return the 95% interval of every metric's mean over cases."""
    reached, counts = np.unique(_within(ranks, ks), return_counts=True)
    return _intervals(values_at(reached, ks), counts, ks, seed)


def paired_difference(
    ranks: Ranks, other: Ranks, ks: Sequence[int], seed: int
) -> tuple[dict[str, float], Intervals]:
    """Return the mean of every metric less that of `other` on the same cases, with its 95% interval."""
    pairs = np.stack([_within(ranks, ks), _within(other, ks)], axis=1)
    reached, counts = np.unique(pairs, axis=0, return_counts=True)
    differences = values_at(reached[:, 0], ks) - values_at(reached[:, 1], ks)
    means = (counts @ differences / counts.sum()).tolist()
    return dict(zip(names_at(ks), means, strict=True)), _intervals(differences, counts, ks, seed)


def _within(ranks: Ranks, ks: Sequence[int]) -> Ranks:
    return np.where(ranks <= max(ks), ranks, np.inf)


def _intervals(
    values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], ks: Sequence[int], seed: int
) -> Intervals:
    """Resample the cases by how often each distinct outcome is drawn, which is multinomial.

    That is the same distribution as drawing C cases with replacement, at the cost of the distinct outcomes
    (some hundred ranks, some thousand pairs of ranks) in place of the cases.

    Args:
        values: of every distinct outcome, float64 (outcomes, metrics).
        counts: cases of each, int64 (outcomes,).
        ks: names the metrics.
        seed: of the resamples.
    """
    rng = np.random.default_rng([seed, 0xB007])
    cases = counts.sum()
    step = max(1, _AT_ONCE // len(counts))
    means = np.concatenate([
        rng.multinomial(cases, counts / cases, size=min(step, RESAMPLES - start)) @ values / cases
        for start in range(0, RESAMPLES, step)
    ])  # fmt: skip
    tail = (1.0 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1.0 - tail], axis=0).tolist()
    return dict(zip(names_at(ks), zip(low, high, strict=True), strict=True))
