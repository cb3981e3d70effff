"""The users x items matrix of training interactions, which every learned code is made from."""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from training.config import CodesConfig
from training.split import Split


def interaction_matrix(split: Split, weights: str) -> sp.csr_array:
    """Return the users x items matrix of training interactions, float32; repeats count once if `binary`.

    Built in place from the sequences, which are rows already: 9 bytes an interaction.
    """
    starts = np.asarray(split.dataset.offsets[:-1])
    offsets = np.concatenate([[0], np.cumsum(split.train_ends - starts)])
    edges = np.zeros(len(split.dataset.items) + 1, dtype=np.int8)  # +1 and -1 around every training sequence
    np.add.at(edges, starts, np.int8(1))
    np.subtract.at(edges, split.train_ends, np.int8(1))
    kept = np.cumsum(edges[:-1], dtype=np.int8, out=edges[:-1]).view(np.bool_)
    items = np.asarray(split.dataset.items)[kept]
    narrow = np.int32 if len(items) < 2**31 else np.int64
    shape = (split.dataset.num_users, split.dataset.num_items)
    matrix = sp.csr_array(
        (np.ones(len(items), dtype=np.float32), items.astype(narrow, copy=False), offsets.astype(narrow)),
        shape=shape,
    )
    matrix.sum_duplicates()
    if weights == "binary":
        matrix.data[:] = 1.0
    return matrix


def item_mass(config: CodesConfig, matrix: sp.csr_array) -> npt.NDArray[np.float32] | None:
    """Return what quantiles should hold alike of: None for items, else the interactions of each (N,)."""
    if config.balance == "items":
        return None
    return np.bincount(matrix.indices, weights=matrix.data, minlength=matrix.shape[1]).astype(np.float32)


def without_cold_items(matrix: sp.csr_array) -> tuple[sp.csr_array, npt.NDArray[np.int64]]:
    """Drop the columns of items that nobody interacted with; return the rest and their item indices."""
    is_warm = np.zeros(matrix.shape[1], dtype=np.bool_)
    is_warm[matrix.indices] = True
    warm = np.flatnonzero(is_warm)
    if len(warm) == matrix.shape[1]:
        return matrix, warm
    column = (np.cumsum(is_warm) - 1).astype(matrix.indices.dtype)
    parts = (matrix.data, column[matrix.indices], matrix.indptr)
    return sp.csr_array(parts, shape=(matrix.shape[0], len(warm))), warm
