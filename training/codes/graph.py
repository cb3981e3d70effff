"""Codes from communities of items that are met one after the other."""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from tqdm import tqdm

from training import _native
from training.codes.quantile import quantile_codes
from training.config import CodesConfig
from training.split import Split

WINDOW = 2  # how far apart in a sequence items are still neighbours
PASSES = 5
BALANCE = 1.0

ItemCodes = npt.NDArray[np.uint8]


def graph_codes(config: CodesConfig, split: Split, rng: np.random.Generator) -> ItemCodes:
    """Let each split be a division of the items into V communities that users move within.

    Items that follow one another in users' sequences are neighbours. Labels spread over that graph from a
    random start, another one for each split (label propagation, held to communities of about equal mass):
    what belongs together agrees in most codes, whichever way chance has cut the whole. What is then left
    is to tell the members of a tight community apart: the last splits are quantiles of popularity and,
    where the log has times, of the mean time of an item's interactions.

    Returns:
        uint8 (N, M). Sub-ids of communities that users move between have neighbouring numbers.
    """
    items = split.training_interactions()[1]
    mass = np.bincount(items, minlength=split.dataset.num_items).astype(np.float32)
    attributes = _attributes(split, items, mass)[: config.num_splits - 1]
    graph = neighbour_graph(split)
    codes = np.empty((len(mass), config.num_splits), dtype=np.uint8)
    communities = range(config.num_splits - len(attributes))
    for j in tqdm(communities, desc="communities", unit="split", disable=None, leave=False):
        codes[:, j] = _communities(graph, np.maximum(mass, 1e-3), config.num_sub_ids, rng)
    for j, attribute in enumerate(attributes, start=len(communities)):
        codes[:, j] = quantile_codes(attribute[:, None], config.num_sub_ids, rng, mass)[:, 0]
    return codes


def neighbour_graph(split: Split) -> sp.csr_array:
    """Return how near items are in training sequences: symmetric, normalised by both degrees, float32 (N, N).

    Items d places apart add 1/d, up to `WINDOW`.
    """
    users, items = split.training_interactions()
    size = (split.dataset.num_items,) * 2
    graph = sp.csr_array(size, dtype=np.float32)
    for apart in range(1, WINDOW + 1):
        pairs = (users[apart:] == users[:-apart]) & (items[apart:] != items[:-apart])
        weights = np.full(int(pairs.sum()), 1.0 / apart, dtype=np.float32)
        ends = (items[:-apart][pairs], items[apart:][pairs])
        graph += sp.coo_array((weights, ends), shape=size).tocsr()
    graph = (graph + graph.T).tocsr()
    degrees = np.asarray(graph.sum(axis=1)).ravel()
    scale = (1.0 / np.sqrt(np.maximum(degrees, 1e-9))).astype(np.float32)
    graph.data *= np.repeat(scale, np.diff(graph.indptr))
    graph.data *= scale[graph.indices]
    return graph


def _communities(
    graph: sp.csr_array, mass: npt.NDArray[np.float32], num_sub_ids: int, rng: np.random.Generator
) -> ItemCodes:
    num_items = graph.shape[0]
    labels = rng.integers(num_sub_ids, size=num_items, dtype=np.uint8, endpoint=False)
    arrays = (graph.indptr.astype(np.int64), graph.indices.astype(np.int32, copy=False), graph.data)
    for _ in range(PASSES):
        order = rng.permutation(num_items).astype(np.int32)
        _native.propagate_labels(*arrays, order, mass, num_sub_ids, BALANCE, labels)
    return _in_order(graph, labels, num_sub_ids)


def _in_order(graph: sp.csr_array, labels: ItemCodes, num_sub_ids: int) -> ItemCodes:
    """Number communities by the second eigenvector of their graph's Laplacian: neighbours are close to it."""
    member = sp.csr_array(
        (np.ones(len(labels), dtype=np.float32), labels, np.arange(len(labels) + 1)),
        shape=(len(labels), num_sub_ids),
    )
    between = (member.T @ (graph @ member)).toarray().astype(np.float64)  # (V, V)
    scale = 1.0 / np.sqrt(np.maximum(between.sum(axis=1), 1e-9))
    vectors = np.linalg.eigh(scale[:, None] * between * scale)[1]  # ascending: the last is trivial
    numbers = np.empty(num_sub_ids, dtype=np.uint8)
    numbers[np.argsort(vectors[:, -2] * scale, kind="stable")] = np.arange(num_sub_ids)
    return numbers[labels]


def _attributes(
    split: Split, items: npt.NDArray[np.int32], mass: npt.NDArray[np.float32]
) -> list[npt.NDArray[np.float64]]:
    """Return popularity and, if the log has times, each item's mean time of interactions, float64 (N,)."""
    attributes = [np.log1p(mass.astype(np.float64))]
    if (times := split.training_times()) is not None:
        total = np.bincount(items, weights=times, minlength=len(mass))
        attributes.append(np.where(mass > 0, total / np.maximum(mass, 1), times.mean()))
    return attributes
