"""Codes for items that appear after training.

The encoder takes codes and the scorer adds table entries, so a row of codes is all that a new item needs
to be recommended, and to be understood in a history, by a model that never saw it.
"""

import numpy as np
import numpy.typing as npt

from recjpq.errors import NewItemError

MAX_SWEEPS = 20


def codes_from_similar(
    item_codes: npt.NDArray[np.uint8],
    similar: npt.NDArray[np.integer],
    weights: npt.NDArray[np.floating] | None = None,
) -> npt.NDArray[np.uint8]:
    """Let similar items vote for each code.

    Args:
        item_codes: of the catalogue, uint8 (N, M).
        similar: item indices, the most similar first, (S,), S at least 1; repeats vote again.
        weights: of their votes, (S,), not negative; 1 each by default.

    Returns:
        uint8 (M,): in each split the sub-id with the most votes, ties to the item named first.

    Raises:
        NewItemError: no similar item, an index outside the catalogue, or weights that are no weights.
    """
    if similar.ndim != 1 or not len(similar):
        raise NewItemError(f"similar items have shape {similar.shape}, expected (S,) with S at least 1")
    if similar.min() < 0 or similar.max() >= len(item_codes):
        raise NewItemError(
            f"similar items go from {similar.min()} to {similar.max()}, expected 0 to {len(item_codes) - 1}"
        )
    weights = np.ones(len(similar)) if weights is None else weights
    if weights.shape != similar.shape or not (np.isfinite(weights) & (weights >= 0)).all():
        raise NewItemError(f"weights {weights}: expected {len(similar)} finite numbers, none negative")
    votes = item_codes[similar]  # (S, M)
    supports = np.stack([np.bincount(split, weights)[split] for split in votes.T], axis=1)  # (S, M)
    codes: npt.NDArray[np.uint8] = np.take_along_axis(votes, supports.argmax(axis=0)[None], axis=0)[0]
    return codes


def codes_from_contexts(
    chosen: npt.NDArray[np.floating],
    contexts: npt.NDArray[np.floating],
    log_partition: npt.NDArray[np.floating],
    rate: float,
    max_sweeps: int = MAX_SWEEPS,
) -> npt.NDArray[np.uint8]:
    """Choose the codes under which a trained model makes a new item's interactions likeliest.

    With score s_x in context x and Z_x the sum of exp(score) over the catalogue, the log-likelihood of a
    softmax over the catalogue and the item is, per interaction with the item and up to a constant,

        mean over its contexts of s_x  -  1/rate * mean over all contexts of log(1 + exp(s_x) / Z_x).

    The first term wants the item where it was chosen, the second nowhere else. Splits are maximised in
    turn until none changes; the first round takes each split's entry above its average.

    Args:
        chosen: mean score table of the contexts in which the item was chosen, (M, V).
        contexts: score tables of contexts as they come, (C, M, V).
        log_partition: log Z of each of these contexts, (C,).
        rate: the item's share of all interactions, above 0.
        max_sweeps: over the splits; 0 leaves it at the first round.

    Returns:
        uint8 (M,).

    Raises:
        NewItemError: shapes that do not fit, numbers that are not finite, or a rate outside (0, 1].
    """
    if contexts.ndim != 3 or contexts.shape[1:] != chosen.shape or log_partition.shape != contexts.shape[:1]:
        raise NewItemError(
            f"tables {chosen.shape}, {contexts.shape} and log_partition {log_partition.shape}: "
            "expected (M, V), (C, M, V) and (C,)"
        )
    if not (0 < rate <= 1 and all(np.isfinite(array).all() for array in (chosen, contexts, log_partition))):
        raise NewItemError(f"rate {rate}: expected above 0, at most 1, and finite tables")
    num_splits = len(chosen)
    splits = np.arange(num_splits)
    codes = (chosen - contexts.mean(axis=0)).argmax(axis=1)  # (M,)
    scores = contexts[:, splits, codes].sum(axis=1) - log_partition  # (C,)
    for _ in range(max_sweeps):
        before = codes.copy()
        for split in splits:
            others = scores - contexts[:, split, codes[split]]
            everywhere = np.logaddexp(0.0, others[:, None] + contexts[:, split]).mean(axis=0)  # (V,)
            codes[split] = (chosen[split] - everywhere / rate).argmax()
            scores = others + contexts[:, split, codes[split]]
        if np.array_equal(codes, before):
            break
    best: npt.NDArray[np.uint8] = codes.astype(np.uint8)
    return best


def log_partitions(
    contexts: npt.NDArray[np.floating], item_codes: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float64]:
    """Return log of the sum over items of exp(score): tables (C, M, V), codes uint8 (N, M) -> (C,)."""
    totals = np.empty(len(contexts))
    for row, table in enumerate(contexts):
        scores = np.zeros(len(item_codes))
        for split, sub_ids in enumerate(item_codes.T):
            scores += table[split][sub_ids]
        highest = scores.max()
        totals[row] = highest + np.log(np.exp(scores - highest).sum())
    return totals
