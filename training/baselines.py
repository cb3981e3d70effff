"""Baselines that every report has: popularity, and the transitions from item to item (Markov chains).

Both rank the whole catalogue exactly. Items are numbered by popularity here ("positions": 0 for the item of
most training interactions, ties to the lower item index), so that the order of columns breaks ties.
"""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from tqdm import tqdm

from training.metrics import Ranking, Ranks
from training.split import Cases, Indices, Split

MARKOV_ITEMS = 3
"""How many of a history's last items vote for their successors, each half as much as the one after it.

Of 1, 2, 3 and 5, by counts and by probabilities, three by probabilities were the strongest or nearly so on
every log that was tried, and clearly stronger than the last item alone (docs/log.md).
"""

CHUNK = 1 << 22
"""Scores and history items that are in memory at once."""


def popularity(split: Split, cases: Cases, top: int, *, exclude_seen: bool) -> Ranking:
    """Rank by training interactions, ties to the lower item index; a seen target that is removed is a miss.

    Args:
        split: whose training interactions count.
        cases: C of them.
        top: K, length of the lists that are kept.
        exclude_seen: whether the items of a history are candidates.
    """
    nothing = sp.csr_array((split.dataset.num_items,) * 2, dtype=np.float64)
    return _rank(split, cases, nothing, top, exclude_seen=exclude_seen, name="popularity")


def markov(split: Split, cases: Cases, top: int, *, exclude_seen: bool) -> Ranking:
    """Rank by the probability of coming right after the history's last items, then by popularity.

    An item's score is ``P(item | last) + P(item | last but one) / 2 + ...``, where P is the share of the
    training transitions from one item that led to the other. Ties, and the items that never followed, are in
    the order of popularity; arguments as for `popularity`.
    """
    transitions = _transitions(split, _positions(split))
    return _rank(split, cases, transitions, top, exclude_seen=exclude_seen, name="markov")


BASELINES = {"popularity": popularity, "markov": markov}


def training_counts(split: Split) -> Indices:
    """Return every item's number of training interactions, int64 (N,)."""
    _, items = split.training_interactions()
    return np.bincount(items, minlength=split.dataset.num_items)


def _positions(split: Split) -> Indices:
    counts = training_counts(split)
    positions = np.empty(len(counts), dtype=np.int64)
    positions[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return positions


def _transitions(split: Split, positions: Indices) -> sp.csr_array:
    """Return the share of row's training transitions that led to column, float64 (N, N), by position."""
    users, items = split.training_interactions()
    follows = users[1:] == users[:-1]
    at = positions[items]
    pairs = (at[:-1][follows], at[1:][follows])
    matrix = sp.coo_array((np.ones(len(pairs[0])), pairs), shape=(len(positions),) * 2).tocsr()
    matrix.sum_duplicates()
    matrix.data /= np.repeat(matrix.sum(axis=1), np.diff(matrix.indptr))
    return matrix


def _rank(
    split: Split, cases: Cases, transitions: sp.csr_array, top: int, *, exclude_seen: bool, name: str
) -> Ranking:
    positions = _positions(split)
    items = np.argsort(positions)
    ranking = Ranking(np.full(len(cases), np.inf), np.full((len(cases), top), -1, dtype=np.int32))
    with tqdm(total=len(cases), desc=name, unit="case", disable=None) as bar:
        for chosen in _chunks(cases, np.diff(transitions.indptr), positions):
            targets = positions[cases.targets[chosen]]
            scores = _votes(cases, chosen, positions) @ transitions
            scores.data = scores.data.astype(np.float32)  # sums that differ by rounding alone are ties
            scores.sort_indices()
            seen = _seen(cases, chosen, positions) if exclude_seen else np.empty((2, 0), dtype=np.int64)
            _remove(scores, seen)
            ranking.ranks[chosen] = _ranks(scores, seen, targets)
            best = _lists(scores, seen, min(top, len(positions)))
            ranking.lists[chosen, : best.shape[1]] = np.where(best >= 0, items[best], -1)
            bar.update(len(targets))
    return ranking


def _chunks(cases: Cases, successors: Indices, positions: Indices) -> Iterator[slice]:
    """Cut the cases so that their scores and histories together stay below CHUNK, one case at the least."""
    size = cases.ends - cases.starts
    for back in range(1, MARKOV_ITEMS + 1):
        there = np.flatnonzero(size >= back)
        last = positions[cases.items[cases.ends[there] - back]]
        size = size + np.bincount(there, successors[last], len(size)).astype(np.int64)
    ends = np.cumsum(size)
    start = 0
    while start < len(cases):
        limit = CHUNK + (ends[start - 1] if start else 0)
        stop = max(start + 1, int(np.searchsorted(ends, limit, side="right")))
        yield slice(start, stop)
        start = stop


def _votes(cases: Cases, chosen: slice, positions: Indices) -> sp.csr_array:
    """Return the weights of each history's last items, float64 (B, N)."""
    starts, ends = cases.starts[chosen], cases.ends[chosen]
    rows, columns, weights = [], [], []
    for back in range(1, MARKOV_ITEMS + 1):
        there = np.flatnonzero(ends - starts >= back)
        rows.append(there)
        columns.append(positions[cases.items[ends[there] - back]])
        weights.append(np.full(len(there), 0.5 ** (back - 1)))
    where = (np.concatenate(rows), np.concatenate(columns))
    return sp.coo_array((np.concatenate(weights), where), shape=(len(starts), len(positions))).tocsr()


def _seen(cases: Cases, chosen: slice, positions: Indices) -> Indices:
    """Return row and position of every item of the histories, each once, in order: int64 (2, S)."""
    starts, lengths = cases.starts[chosen], cases.ends[chosen] - cases.starts[chosen]
    rows = np.repeat(np.arange(len(starts)), lengths)
    inside = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    seen = positions[cases.items[np.repeat(starts, lengths) + inside]]
    keys = np.sort(rows * len(positions) + seen)  # np.unique hashes, which takes five times as long
    return np.stack(np.divmod(keys[np.append(True, keys[1:] != keys[:-1])], len(positions)))


def _keys(scores: sp.csr_array) -> Indices:
    rows = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
    keys: Indices = rows * scores.shape[1] + scores.indices
    return keys


def _remove(scores: sp.csr_array, seen: Indices) -> None:
    """Drop the scores of seen items, in place."""
    keys, unwanted = _keys(scores), seen[0] * scores.shape[1] + seen[1]
    at = np.searchsorted(keys, unwanted)
    inside = at < len(keys)
    at, unwanted = at[inside], unwanted[inside]
    scores.data[at[keys[at] == unwanted]] = 0.0
    scores.eliminate_zeros()


def _ranks(scores: sp.csr_array, seen: Indices, targets: Indices) -> Ranks:
    """Return the targets' ranks: by score, then by position; infinite where the target is seen."""
    number = len(targets)
    rows = np.repeat(np.arange(number), np.diff(scores.indptr))
    hit = scores.indices == targets[rows]
    own = np.zeros(number, dtype=scores.dtype)
    own[rows[hit]] = scores.data[hit]
    before = scores.indices < targets[rows]
    better = (scores.data > own[rows]) | ((scores.data == own[rows]) & before)
    ranks: Ranks = np.ones(number) + np.bincount(rows[better], minlength=number)
    # A target without a score comes after all scored items, among the rest by position.
    rest = targets - np.bincount(rows[before], minlength=number)
    rest -= np.bincount(seen[0][seen[1] < targets[seen[0]]], minlength=number)
    ranks = np.where(own > 0, ranks, ranks + rest)
    ranks[seen[0][seen[1] == targets[seen[0]]]] = np.inf
    return ranks


def _lists(scores: sp.csr_array, seen: Indices, top: int) -> Indices:
    """Return the positions of the best `top` items a row, int64 (B, top); -1 where too few are left."""
    number = scores.shape[0]
    best = np.full((number, top), -1, dtype=np.int64)
    filled = np.minimum(np.diff(scores.indptr), top)
    for row in np.flatnonzero(filled):
        part = slice(scores.indptr[row], scores.indptr[row + 1])
        values, columns = scores.data[part], scores.indices[part]
        if len(values) > top:
            enough = values >= np.partition(values, -top)[-top]
            values, columns = values[enough], columns[enough]
        best[row, : filled[row]] = columns[np.argsort(-values, kind="stable")[:top]]
    short = np.flatnonzero(filled < top)
    popular = _most_popular(scores, seen, short, top)
    slots = np.arange(top) - filled[short, None]  # (short, top): which of the popular ones comes there
    best[short] = np.where(slots < 0, best[short], np.take_along_axis(popular, np.maximum(slots, 0), axis=1))
    return best


def _most_popular(scores: sp.csr_array, seen: Indices, rows: Indices, top: int) -> Indices:
    """Return the first `top` positions that are neither seen nor scored, of some rows; -1 where too few."""
    slot = np.full(scores.shape[0], -1)
    slot[rows] = np.arange(len(rows))
    taken_rows = np.concatenate([seen[0], np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))])
    taken = np.concatenate([seen[1], scores.indices])
    keep = slot[taken_rows] >= 0
    taken_rows, taken = slot[taken_rows[keep]], taken[keep]
    width = min(4 * top, scores.shape[1])
    while True:
        free = np.ones((len(rows), width), dtype=np.bool_)
        inside = taken < width
        free[taken_rows[inside], taken[inside]] = False
        if width == scores.shape[1] or (free.sum(axis=1) >= top).all():
            break
        width = min(2 * width, scores.shape[1])
    nth = np.cumsum(free, axis=1)
    wanted = free & (nth <= top)
    found = np.full((len(rows), top), -1, dtype=np.int64)
    where = np.nonzero(wanted)
    found[where[0], nth[where] - 1] = where[1]
    return found
