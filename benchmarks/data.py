"""What is scored: catalogues of codes with queries, random or of a trained model.

Every query exists in two equal forms, because the methods differ in what they take: a score table, and the
query vectors and sub-embeddings whose products are that table.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recjpq.artifact import Artifact, find_artifact, load_artifact

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

NUM_SPLITS, NUM_SUB_IDS, WIDTH = 8, 256, 64  # RecJPQ's usual M and V; with D=512 a width of 64 each
TABLE_TOLERANCE = 1e-5
"""Largest error of a reproduced table entry, as a share of the largest entry."""
PERTURBED_SHARE, NEAREST = 0.25, 8
ENCODED_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class Workload:
    """A catalogue with Q queries: ``tables[q, j] = sub_embeddings[j] @ queries[q, j]``.

    Attributes:
        name: unique in a run. kind: `gaussian`, `trained` or `resampled`.
        codes: uint8 (N, M).
        sub_embeddings: float32 (M, V, W).
        queries: float32 (Q, M, W), or (Q, 1, W) where an item's embedding is the sum of its
            sub-embeddings, so that one vector meets them all.
        tables: float32 (Q, M, V).
    """

    name: str
    kind: str
    codes: Codes
    sub_embeddings: Floats
    queries: Floats
    tables: Floats

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.codes)

    @property
    def dim(self) -> int:
        """D, the width of a whole item embedding."""
        _, parts, W = self.queries.shape
        dim: int = parts * W
        return dim

    def describe(self) -> dict[str, Any]:
        """Return its sizes for the results' file."""
        M, V, _ = self.sub_embeddings.shape
        return {"name": self.name, "kind": self.kind, "items": self.num_items, "splits": M, "sub_ids": V,
                "dim": self.dim, "queries": len(self.tables)}  # fmt: skip


def gaussian(num_items: int, num_queries: int, seed: int = 0) -> Workload:
    """Return uniform codes and tables of unit variance: no skew that a method could exploit."""
    rng = np.random.default_rng([seed, num_items])
    sub_embeddings = rng.standard_normal((NUM_SPLITS, NUM_SUB_IDS, WIDTH), dtype=np.float32)
    queries = rng.standard_normal((num_queries, NUM_SPLITS, WIDTH), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=2, keepdims=True)
    codes = rng.integers(0, NUM_SUB_IDS, size=(num_items, NUM_SPLITS), dtype=np.uint8)
    tables = _product(queries, sub_embeddings)
    return Workload(f"gaussian-{num_items}", "gaussian", codes, sub_embeddings, queries, tables)


def trained(path: Path, dataset: Path, num_queries: int, seed: int = 0) -> Workload:
    """Return an artifact's codes and its encoder's tables of real histories.

    Args:
        path: the artifact, or a directory of versions.
        dataset: what `recjpq-train prepare` made for it: `items.npy`, `offsets.npy`, `dataset.json`.
        num_queries: Q, users drawn at random; their last interaction is held out as in the evaluation.
        seed: of that draw.

    Raises:
        ArtifactError: the artifact cannot be loaded.
        ValueError: the dataset is another one, or the tables are not of the manifest's width.
    """
    artifact = load_artifact(find_artifact(path))
    made_from, given = artifact.manifest.model.data, json.loads((dataset / "dataset.json").read_text())
    if made_from.get("fingerprint") != given["fingerprint"]:
        raise ValueError(f"{dataset}: not the dataset that {artifact.path} was trained on")
    codes = np.array(artifact.catalogue.item_codes)
    tables = encode(artifact.encoder_path, codes, _histories(artifact, dataset, num_queries, seed))
    model = artifact.manifest.model
    if model.training_config.get("model", {}).get("composition") == "additive":
        whole, queries = factorise(tables.reshape(len(tables), 1, -1), model.dim)
        sub_embeddings = whole.reshape(*tables.shape[1:], -1)
    else:
        sub_embeddings, queries = factorise(tables, model.dim // codes.shape[1])
    name = f"{artifact.manifest.model.name}-{len(codes)}"
    return Workload(name, "trained", codes, sub_embeddings, queries, tables)


def resampled(real: Workload, num_items: int, seed: int = 0) -> Workload:
    """Return a catalogue of another size whose codes look like a real one's.

    Items are drawn from the real ones with replacement; then a quarter of all codes move to one of the 8
    sub-ids that the real queries score most alike. The queries stay.
    """
    rng = np.random.default_rng([seed, num_items])
    codes = resample(real.codes, real.tables, num_items, rng)
    name = f"{real.name}-resampled-{num_items}"
    return Workload(name, "resampled", codes, real.sub_embeddings, real.queries, real.tables)


def resample(codes: Codes, tables: Floats, num_items: int, rng: np.random.Generator) -> Codes:
    """Draw codes (num_items, M) from real ones (N, M) and perturb them; see `resampled`."""
    N, M = codes.shape
    drawn: Codes = codes[rng.integers(0, N, size=num_items)]
    for split in range(M):
        near = _nearest(tables[:, split])  # (V, NEAREST)
        moved = np.flatnonzero(rng.random(num_items) < PERTURBED_SHARE)
        drawn[moved, split] = near[drawn[moved, split], rng.integers(0, near.shape[1], size=len(moved))]
    return drawn


def factorise(tables: Floats, width: int) -> tuple[Floats, Floats]:
    """Return sub-embeddings (M, V, W) and queries (Q, M, W) whose products are the tables (Q, M, V).

    A split's tables are linear in W numbers, so their singular vectors span the sub-embeddings: any linear
    map of these serves as well as the model's own, and no graph needs to be read.

    Raises:
        ValueError: the tables are not of that rank.
    """
    _, M, V = tables.shape
    sub_embeddings = np.empty((M, V, min(width, len(tables), V)), dtype=np.float32)
    queries = np.empty((len(tables), M, sub_embeddings.shape[2]), dtype=np.float32)
    for split in range(M):
        entries = tables[:, split].astype(np.float64)  # (Q, V)
        basis = np.linalg.svd(entries, full_matrices=False)[2][: sub_embeddings.shape[2]]  # (W, V)
        sub_embeddings[split] = basis.T
        queries[:, split] = entries @ basis.T
    error = float(np.abs(_product(queries, sub_embeddings) - tables).max() / np.abs(tables).max())
    if not error <= TABLE_TOLERANCE:
        raise ValueError(f"tables are not of rank {width} per split: largest relative error {error:.2g}")
    return sub_embeddings, queries


def _product(queries: Floats, sub_embeddings: Floats) -> Floats:
    product: Floats = np.einsum("qmw,mvw->qmv", queries, sub_embeddings, optimize=True)
    return np.ascontiguousarray(product)


def _histories(artifact: Artifact, dataset: Path, num_queries: int, seed: int) -> list[npt.NDArray[np.int32]]:
    items, offsets = (np.load(dataset / f"{name}.npy", mmap_mode="r") for name in ("items", "offsets"))
    able = np.flatnonzero(np.diff(offsets) >= 2)
    users = np.random.default_rng(seed).choice(able, size=min(num_queries, len(able)), replace=False)
    longest = artifact.manifest.model.max_length
    return [
        np.array(items[max(offsets[u], offsets[u + 1] - 1 - longest) : offsets[u + 1] - 1]) for u in users
    ]


def encode(encoder: Path, codes: Codes, histories: list[npt.NDArray[np.int32]]) -> Floats:
    """Return an encoder graph's score tables (B, M, V) of histories of item indices."""
    import onnxruntime  # noqa: PLC0415  # random workloads do without

    session = onnxruntime.InferenceSession(str(encoder), providers=["CPUExecutionProvider"])
    tables = []
    for start in range(0, len(histories), ENCODED_TOGETHER):
        batch = histories[start : start + ENCODED_TOGETHER]
        lengths = np.array([len(history) for history in batch])
        padded = np.zeros((len(batch), lengths.max()), dtype=np.int32)  # (B, L)
        for row, history in enumerate(batch):
            padded[row, : len(history)] = history
        tables.append(session.run(["score_tables"], {"item_codes": codes[padded], "lengths": lengths})[0])
    return np.ascontiguousarray(np.concatenate(tables))


def _nearest(entries: Floats) -> Codes:
    """Return the sub-ids scored most like each: (Q, V) -> (V, NEAREST), itself not among them."""
    squared = (entries**2).sum(axis=0)
    distances = squared[:, None] + squared - 2 * entries.T @ entries  # (V, V)
    np.fill_diagonal(distances, np.inf)
    nearest: Codes = np.argsort(distances, axis=1)[:, :NEAREST].astype(np.uint8)
    return nearest
