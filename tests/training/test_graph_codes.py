"""Codes by communities: what users meet together agrees in most codes, whatever way the whole was cut."""

from pathlib import Path

import numpy as np
import pytest

from training import _native
from training.codes.graph import graph_codes, neighbour_graph
from training.config import CodesConfig
from training.dataset import Dataset
from training.split import Split

GROUPS, GROUP_ITEMS = 12, 10


def _split(sequences: np.ndarray, times: np.ndarray | None = None) -> Split:
    """Users' training sequences (U, L), with their times; a test item follows each."""

    def with_test(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, rows[:, :1]], axis=1).ravel()

    items = with_test(sequences).astype(np.int32)
    offsets = np.arange(len(sequences) + 1) * (sequences.shape[1] + 1)
    found = None if times is None else with_test(times)
    dataset = Dataset(Path(), items, offsets, GROUPS * GROUP_ITEMS, {"fingerprint": "x"}, found)
    return Split(dataset, offsets[1:] - 1, np.array([], dtype=np.int64))


@pytest.fixture
def grouped() -> Split:
    """Every user stays within one group of ten items."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(GROUPS), 20)
    members = rng.integers(GROUP_ITEMS, size=(len(groups), 9))
    return _split(groups[:, None] * GROUP_ITEMS + members)


def test_items_of_a_group_agree_in_their_communities(grouped: Split) -> None:
    config = CodesConfig(method="graph", num_splits=5, num_sub_ids=4)
    codes = graph_codes(config, grouped, np.random.default_rng(1))
    communities = codes[:, :4].reshape(GROUPS, GROUP_ITEMS, 4)
    assert (communities == communities[:, :1]).all()  # groups are not connected: nothing can cut them
    assert len(np.unique(communities[:, 0], axis=0)) > 4  # four cuts of twelve groups tell most of them apart
    for j in range(4):
        assert np.bincount(communities[:, 0, j], minlength=4).max() <= 6


def test_the_last_split_is_popularity(grouped: Split) -> None:
    config = CodesConfig(method="graph", num_splits=3, num_sub_ids=4)
    codes = graph_codes(config, grouped, np.random.default_rng(1))[:, 2].astype(int)
    counts = np.bincount(grouped.training_interactions()[1], minlength=len(codes))
    order = np.argsort(counts, kind="stable")
    assert (np.diff(codes[order])[np.diff(counts[order]) > 0] >= 0).all()
    assert set(codes) == {0, 1, 2, 3}


def test_with_times_the_last_split_is_the_mean_time() -> None:
    items = np.arange(GROUPS * GROUP_ITEMS).reshape(GROUPS, GROUP_ITEMS)
    config = CodesConfig(method="graph", num_splits=3, num_sub_ids=4)
    codes = graph_codes(config, _split(items, 1000 - items), np.random.default_rng(1))
    assert (np.diff(codes[:, 2].astype(int)) <= 0).all()
    assert set(codes[:, 2]) == {0, 1, 2, 3}


def test_neighbours_weigh_by_distance_and_degree() -> None:
    graph = neighbour_graph(_split(np.array([[0, 1, 2]]))).toarray()
    degrees = np.array([1.5, 2.0, 1.5])
    expected = np.array([[0, 1, 0.5], [1, 0, 1], [0.5, 1, 0]]) / np.sqrt(np.outer(degrees, degrees))
    np.testing.assert_allclose(graph[:3, :3], expected, rtol=1e-6)
    assert not graph[3:].any()


def test_a_node_takes_its_neighbours_label_unless_that_is_heavy() -> None:
    # Node 0 lies between node 1, of label 0, and node 2, of label 1 and a little nearer.
    arrays = (np.array([0, 2, 3, 4]), np.array([1, 2, 0, 0], dtype=np.int32))
    weights = np.array([1.0, 1.1, 1.0, 1.1], dtype=np.float32)
    order = np.array([0, 1, 2], dtype=np.int32)
    for heavy, expected in ((1.0, 1), (9.0, 0)):
        labels = np.array([0, 0, 1], dtype=np.uint8)
        mass = np.array([1.0, 1.0, heavy], dtype=np.float32)
        _native.propagate_labels(*arrays, weights, order, mass, 2, 1.0, labels)
        assert labels[0] == expected
