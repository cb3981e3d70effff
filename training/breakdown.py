"""Where the metrics come from: cases by their target's popularity and by the length of their history."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from training.metrics import Ranks, metrics_at


def popularity_bands(highest: int) -> list[int]:
    """Return the lower bounds of the bands of training counts: 0 (cold), 1, 3, 10, 30, and so on."""
    return [0, *_ladder((1, 3), highest)]


def length_bands(highest: int) -> list[int]:
    """Return the lower bounds of the bands of history lengths: 1, 2, 5, 10, 20, and so on."""
    return _ladder((1, 2, 5), highest)


def breakdown(
    values: npt.NDArray[np.int64], bounds: Sequence[int], rankings: Mapping[str, Ranks], ks: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the metrics of the cases of each band that has any; their mean by cases is the whole's.

    Args:
        values: what is banded, int64 (C,), none below the first bound.
        bounds: lower bounds, ascending; the last band is open.
        rankings: every recommender's ranks, each (C,).
        ks: of the metrics.
    """
    bands = np.searchsorted(bounds, values, side="right") - 1
    uppers = [bound - 1 for bound in bounds[1:]] + [None]
    rows = []
    for band in np.unique(bands):
        inside = bands == band
        row: dict[str, Any] = {"from": bounds[band], "to": uppers[band], "cases": int(inside.sum())}
        rows.append(row | {name: metrics_at(ranks[inside], ks) for name, ranks in rankings.items()})
    return rows


def _ladder(steps: Sequence[int], highest: int) -> list[int]:
    decades = range(len(str(max(highest, 1))))
    return [step * 10**decade for decade in decades for step in steps if step * 10**decade <= max(highest, 1)]
