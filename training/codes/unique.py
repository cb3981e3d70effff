"""Codes of which no two items share all."""

import numpy as np
import numpy.typing as npt

from training.errors import DataError

ItemCodes = npt.NDArray[np.uint8]


def unique_codes(
    item_codes: ItemCodes, distances: npt.NDArray[np.floating], counts: npt.NDArray[np.integer]
) -> ItemCodes:
    """Move items until no two share all M codes, few items and each as near as there is room.

    Splits are settled in order. Items that agree in the first j codes can be told apart by the others as long
    as they are at most V^(M-j); what is over moves in split j to the nearest sub-id with room. So nearly all
    moves are in the last split. The items with the most interactions stay.

    Args:
        item_codes: uint8 (N, M).
        distances: between the sub-ids of each split, (M, V, V).
        counts: interactions of each item, (N,).

    Returns:
        uint8 (N, M), every row different; a function of the arguments.

    Raises:
        DataError: V^M is less than N.
    """
    num_items, num_splits = item_codes.shape
    num_sub_ids = distances.shape[1]
    if num_sub_ids**num_splits < num_items:
        raise DataError(
            f"codes.unique: {num_splits} splits of {num_sub_ids} sub-ids name at most "
            f"{num_sub_ids**num_splits} items, found {num_items}; raise codes.num_splits or codes.num_sub_ids"
        )
    codes = item_codes.copy()
    by_count = np.argsort(-counts, kind="stable")  # who comes first stays
    group = np.zeros(num_items, dtype=np.int64)  # items agreeing in all splits before this one
    for split in range(num_splits):
        room = num_sub_ids ** (num_splits - split - 1)
        if room < num_items:
            for members in _overfull(group * num_sub_ids + codes[:, split], by_count, room, num_sub_ids):
                codes[members, split] = _spread(codes[members, split], distances[split], room)
        group = np.unique(group * num_sub_ids + codes[:, split], return_inverse=True)[1]
    return codes


def _overfull(
    keys: npt.NDArray[np.int64], by_count: npt.NDArray[np.int64], room: int, num_sub_ids: int
) -> list[npt.NDArray[np.int64]]:
    """Return the groups, most interactions first, in which some sub-id has more than `room` items."""
    values, sizes = np.unique(keys, return_counts=True)
    groups = np.unique(values[sizes > room] // num_sub_ids)
    concerned = by_count[np.isin(keys[by_count] // num_sub_ids, groups)]
    concerned = concerned[np.argsort(keys[concerned] // num_sub_ids, kind="stable")]
    starts = np.flatnonzero(np.diff(keys[concerned] // num_sub_ids)) + 1
    return np.split(concerned, starts) if len(concerned) else []


def _spread(sub_ids: ItemCodes, distances: npt.NDArray[np.floating], room: int) -> ItemCodes:
    """Give each of a group's items its sub-id, or the nearest with room: uint8 (items,) -> the same."""
    taken = np.zeros(len(distances), dtype=np.int64)
    placed = sub_ids.copy()
    over = []
    for position, sub_id in enumerate(sub_ids):
        if taken[sub_id] < room:
            taken[sub_id] += 1
        else:
            over.append(position)
    for position in over:
        free = np.where(taken < room, distances[sub_ids[position]], np.inf)
        placed[position] = free.argmin()
        taken[placed[position]] += 1
    return placed
