"""Truncated SVDs of the interaction matrix: exact for M components, randomised for D."""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import svds
from tqdm import tqdm

from training.codes.matrix import item_mass
from training.codes.quantile import quantile_codes
from training.config import CodesConfig
from training.errors import DataError

OVERSAMPLING = 10
POWER_ITERATIONS = 5
CHUNK = 65_536


def svd_codes(config: CodesConfig, matrix: sp.csr_array, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Quantile codes of the item vectors of an SVD with M components (RecJPQ, WSDM 2024, section 4.2)."""
    refuse_too_small(matrix, config.num_splits, "codes.num_splits")
    start = rng.normal(size=min(matrix.shape))
    _, values, components = svds(matrix, k=config.num_splits, v0=start, which="LM")
    vectors = components[np.argsort(-values)].T  # (N, M), the strongest component first
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])  # an SVD leaves signs open
    return quantile_codes(vectors, config.num_sub_ids, rng, item_mass(config, matrix))


def refuse_too_small(matrix: sp.csr_array, components: int, setting: str) -> None:
    """Raise DataError when a matrix does not have so many components."""
    if components >= min(matrix.shape):
        raise DataError(
            f"{setting} is {components}; an SVD with so many components needs more than "
            f"the {matrix.shape[0]} users and {matrix.shape[1]} items of this log"
        )


def randomised_svd(
    matrix: sp.csr_array, components: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Approximate the strongest right singular vectors by subspace iteration (Halko et al., 2011, Alg. 4.4).

    The peak is one matrix of items and one of users, each with a few columns more than asked for.

    Args:
        matrix: float32 (U, N).
        components: how many, at most min(U, N).
        rng: of the start.

    Returns:
        Vectors float32 (N, components) and singular values float32 (components,), strongest first.
    """
    width = min(components + OVERSAMPLING, *matrix.shape)
    basis = rng.standard_normal((matrix.shape[1], width), dtype=np.float32)
    transposed = matrix.T
    for _ in tqdm(range(POWER_ITERATIONS), desc="SVD", unit="iteration", disable=None, leave=False):
        users = matrix @ basis
        del basis
        basis = transposed @ users
        del users
        _orthonormalise(basis)
    squares, rotation = np.linalg.eigh(_gram(matrix @ basis))  # ascending
    rotation = rotation[:, ::-1][:, :components].astype(np.float32)
    values = np.sqrt(np.maximum(squares[::-1][:components], 0.0)).astype(np.float32)
    for begin in range(0, len(basis), CHUNK):
        basis[begin : begin + CHUNK, :components] = basis[begin : begin + CHUNK] @ rotation
    return basis[:, :components], values


def _orthonormalise(basis: npt.NDArray[np.float32]) -> None:
    """Make the columns orthonormal in place; what lies outside their numerical rank becomes zero."""
    squares, rotation = np.linalg.eigh(_gram(basis))
    kept = squares > squares[-1] * 1e-12
    scale = np.where(kept, 1.0 / np.sqrt(np.where(kept, squares, 1.0)), 0.0)
    transform = (rotation * scale).astype(np.float32)
    for begin in range(0, len(basis), CHUNK):
        basis[begin : begin + CHUNK] = basis[begin : begin + CHUNK] @ transform


def _gram(tall: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return ``tall.T @ tall``, added up in float64."""
    gram = np.zeros((tall.shape[1], tall.shape[1]))
    for begin in range(0, len(tall), CHUNK):
        chunk = tall[begin : begin + CHUNK].astype(np.float64)
        gram += chunk.T @ chunk
    return gram
