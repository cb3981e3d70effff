"""Codes by product quantisation of SVD vectors; its centroids begin the training (RecJPQ-HC, 2026)."""

import warnings

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.cluster import KMeans
from tqdm import tqdm

from training.codes.svd import CHUNK, randomised_svd, refuse_too_small
from training.config import CodesConfig

KMEANS_ITERATIONS = 25
ROWS_PER_CENTROID = 256
INITIAL_STD = 0.05 / 3**0.5  # of the uniform numbers that sub-embeddings begin from otherwise

Vectors = npt.NDArray[np.float32]


def pq_codes(
    config: CodesConfig, matrix: sp.csr_array, dim: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], Vectors]:
    """Quantise an SVD with D components, scaled by the singular values, by k-means in each split.

    Splits are runs of components, the strongest first: balanced splits reconstruct worse (docs/log.md).

    Returns:
        Codes uint8 (N, M) and the centroids as initial sub-embeddings, float32 (M, V, D/M). One factor for
        all of them gives their entries the root mean square of RecJPQ's uniform numbers, so that
        distances keep their proportions and training begins at its usual size.
    """
    refuse_too_small(matrix, dim, "model.dim")
    vectors, values = randomised_svd(matrix, dim, rng)
    vectors *= values
    damp_norms(vectors, config.pq_norm_power)
    width = dim // config.num_splits
    item_codes = np.empty((len(vectors), config.num_splits), dtype=np.uint8)
    centroids = np.empty((config.num_splits, config.num_sub_ids, width), dtype=np.float32)
    for split in tqdm(range(config.num_splits), desc="k-means", unit="split", disable=None, leave=False):
        part = np.ascontiguousarray(vectors[:, split * width : (split + 1) * width])
        centroids[split] = _centroids(part, config.num_sub_ids, rng)
        item_codes[:, split] = nearest(part, centroids[split])
    return item_codes, centroids * np.float32(INITIAL_STD / np.sqrt((centroids**2).mean()))


def damp_norms(vectors: Vectors, power: float) -> None:
    """Raise each vector's norm to a power, in place: (N, D); its direction stays."""
    for begin in range(0, len(vectors), CHUNK):
        chunk = vectors[begin : begin + CHUNK]
        norms = np.linalg.norm(chunk, axis=1, keepdims=True)
        chunk *= np.where(norms > 0, norms, 1.0) ** np.float32(power - 1.0)


def _centroids(part: Vectors, num_sub_ids: int, rng: np.random.Generator) -> Vectors:
    """Return V centroids (V, D/M) of a split's vectors (N, D/M), fitted to a sample where they are many."""
    rows = min(len(part), ROWS_PER_CENTROID * num_sub_ids)
    sample = part[np.sort(rng.choice(len(part), size=rows, replace=False))]
    distinct, counts = np.unique(sample, axis=0, return_counts=True)
    if len(distinct) <= num_sub_ids:  # each its own centroid; nothing is nearest to the ones to spare
        spare = rng.choice(len(distinct), size=num_sub_ids - len(distinct))
        spread = part.std(axis=0) + np.finfo(np.float32).eps
        noise = rng.standard_normal((len(spare), part.shape[1]), dtype=np.float32) * spread
        return np.concatenate([distinct, distinct[spare] + noise])
    kmeans = KMeans(num_sub_ids, n_init=1, max_iter=KMEANS_ITERATIONS, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        # Where lscpu tells nothing joblib warns that it takes the logical cores: nothing to act on.
        warnings.filterwarnings("ignore", "Could not find the number of physical cores")
        kmeans.fit(distinct, sample_weight=counts)
    centroids: Vectors = kmeans.cluster_centers_.astype(np.float32)
    return centroids


def nearest(part: Vectors, centroids: Vectors) -> npt.NDArray[np.uint8]:
    """Return each vector's nearest centroid: (N, D/M), (V, D/M) -> uint8 (N,), ties to the lower sub-id."""
    codes = np.empty(len(part), dtype=np.uint8)
    norms = (centroids**2).sum(axis=1)
    for begin in range(0, len(part), CHUNK):
        chunk = part[begin : begin + CHUNK]
        codes[begin : begin + CHUNK] = (norms - 2 * chunk @ centroids.T).argmin(axis=1)
    return codes
