"""The most popular items: what is recommended to a history that says nothing."""

from typing import Any

import numpy as np
import numpy.typing as npt

from recjpq.attributes import Filters
from recjpq.catalogue import POPULAR
from recjpq.growing_catalogue import GrowingCatalogue
from recjpq.scoring import ItemIndices, TopK


def popular(catalogue: GrowingCatalogue, k: int, exclude: ItemIndices) -> TopK:
    """Return the k items with most interactions, with those counts as scores."""
    unwanted = np.unique(exclude)
    candidates = catalogue.most_popular(k + len(unwanted))  # enough if every unwanted one is among them
    ids = candidates[~np.isin(candidates, unwanted)][:k]
    return TopK(ids, catalogue.counts[ids].astype(np.float32))


def popular_among(
    catalogue: GrowingCatalogue,
    k: int,
    exclude: ItemIndices,
    candidates: ItemIndices | None,
    filters: Filters | None,
) -> TopK:
    """Return the k of some items with most interactions, ties to the lower index, as `popular` does."""
    allowed = catalogue.allowed(filters) if filters else None
    if candidates is None and allowed is not None:  # most conditions hold for k of the popular ones
        first = catalogue.most_popular(max(0, POPULAR - catalogue.num_retired))  # as many as are kept
        first = first[first < len(allowed)]  # an item may have come between
        first = first[allowed[first]]
        first = first[~np.isin(first, exclude)][:k]
        if len(first) == k:
            return TopK(first, catalogue.counts[first].astype(np.float32))
    eligible: npt.NDArray[np.integer[Any]]
    if candidates is not None:
        eligible = np.unique(candidates)
        eligible = eligible if allowed is None else eligible[allowed[eligible]]
    else:
        eligible = np.arange(catalogue.num_items) if allowed is None else np.flatnonzero(allowed)
    eligible = eligible[catalogue.is_offered(eligible)]
    if len(exclude):  # by a mask: to sort the whole catalogue takes seconds
        wanted = np.ones(catalogue.num_items, dtype=np.bool_)
        wanted[exclude] = False
        eligible = eligible[wanted[eligible]]
    counts: npt.NDArray[np.integer[Any]] = catalogue.counts[eligible]
    if len(eligible) > k:
        least = np.partition(counts, len(counts) - k)[len(counts) - k]
        kept = np.flatnonzero(counts >= least)
        eligible, counts = eligible[kept], counts[kept]
    order = np.argsort(-counts, kind="stable")[:k]
    return TopK(eligible[order].astype(np.int32), counts[order].astype(np.float32))
