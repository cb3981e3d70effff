"""The methods of others, each in the strongest form that its library offers for a single query.

Preparing inputs, such as wrapping a query in a tensor, is not part of what is timed.
"""

import importlib
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.data import Floats, Workload
from benchmarks.method import Candidate, Method
from benchmarks.prune import RecJPQPrune
from recjpq.scoring import TopK

EMBEDDING_SHARE = 0.5
"""A matrix of item embeddings may take this share of the memory that is available."""
BYTE_SUB_IDS = 256
ROWS_AT_ONCE = 100_000

LIBRARIES = {"torch": "set_num_threads", "faiss": "omp_set_num_threads"}
"""With the functions that say how many threads to use."""

BatchSearch = Callable[[Floats, int], tuple[npt.NDArray[np.int64], Floats]]
"""``search(queries (B, M, W), k) -> ids (B, k), scores (B, k)``"""


def embeddings_search(workload: Workload) -> BatchSearch:
    """Score by a product with every item's whole embedding, as models without RecJPQ do."""
    import torch  # noqa: PLC0415  # a peer that is not installed is left out

    items = torch.from_numpy(_embeddings(workload))  # (N, D)

    def search(queries: Floats, k: int) -> tuple[npt.NDArray[np.int64], Floats]:
        states = torch.from_numpy(queries).flatten(1)  # (B, D)
        scores = torch.mv(items, states[0])[None] if len(states) == 1 else states @ items.T  # (B, N)
        best, ids = torch.topk(scores, min(k, len(items)))
        return ids.numpy(), best.numpy()

    return search


def faiss_search(workload: Workload) -> BatchSearch:
    """FAISS's `IndexPQ` for inner products, given our codes and sub-embeddings; makes the tables itself."""
    import faiss  # noqa: PLC0415

    M, V, W = workload.sub_embeddings.shape
    index = faiss.IndexPQ(M * W, M, 8, faiss.METRIC_INNER_PRODUCT)
    centroids = np.zeros(
        (M, BYTE_SUB_IDS, W), dtype=np.float32
    )  # it has no V below 256 that uses whole bytes
    centroids[:, :V] = workload.sub_embeddings
    faiss.copy_array_to_vector(centroids.ravel(), index.pq.centroids)
    faiss.copy_array_to_vector(np.ascontiguousarray(workload.codes).ravel(), index.codes)
    index.ntotal, index.is_trained = workload.num_items, True

    def search(queries: Floats, k: int) -> tuple[npt.NDArray[np.int64], Floats]:
        whole = np.broadcast_to(queries, (len(queries), M, W)).reshape(len(queries), -1)
        scores, ids = index.search(whole, min(k, index.ntotal))
        return ids, scores

    return search


def _single(make: Callable[[Workload], BatchSearch]) -> Callable[[Workload], Method]:
    def build(workload: Workload) -> Method:
        search = make(workload)

        def query(index: int, k: int) -> TopK:
            ids, scores = search(workload.queries[index : index + 1], k)
            return TopK(ids[0].astype(np.int32), scores[0])

        return Method(query)

    return build


def _pq_top_k(workload: Workload) -> Method:
    """PQTopK (RecSys 2024, arXiv 2408.09992, Alg. 1): gather each split's entries, add, select."""
    import torch  # noqa: PLC0415

    columns = torch.from_numpy(workload.codes.T.astype(np.int32))  # (M, N)
    tables = torch.from_numpy(workload.tables)

    def query(index: int, k: int) -> TopK:
        scores = tables[index, 0].index_select(0, columns[0])
        for split in range(1, len(columns)):
            scores += tables[index, split].index_select(0, columns[split])
        best, ids = torch.topk(scores, min(k, workload.num_items))
        return TopK(ids.numpy().astype(np.int32), best.numpy())

    return Method(query)


def _prune(workload: Workload) -> Method:
    index = RecJPQPrune(workload.codes, workload.tables.shape[2])

    def query(number: int, k: int) -> TopK:
        return index.top_k(workload.tables[number], k)

    return Method(query, lambda: index.num_scored)


def _embeddings(workload: Workload) -> Floats:
    """Return every item's embedding, (N, D)."""
    N, (M, _, W) = workload.num_items, workload.sub_embeddings.shape
    items = np.empty((N, workload.dim), dtype=np.float32)
    for start in range(0, N, ROWS_AT_ONCE):
        codes = workload.codes[start : start + ROWS_AT_ONCE]
        parts = workload.sub_embeddings[np.arange(M), codes]  # (rows, M, W)
        items[start : start + ROWS_AT_ONCE] = parts.sum(1) if workload.dim == W else parts.reshape(-1, M * W)
    return items


def _too_large(workload: Workload) -> str | None:
    needed, available = workload.num_items * workload.dim * 4, available_bytes()
    if needed <= EMBEDDING_SHARE * available:
        return None
    return f"embeddings of {needed / 1e9:.1f} GB, {available / 1e9:.1f} GB of memory available"


def available_bytes() -> int:
    """Return how much memory this machine can still give; a lot where that is not known."""
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), 2**62)


def limit_threads(threads: int) -> None:
    """Tell the libraries that are loaded how many threads to use."""
    for library, setter in LIBRARIES.items():
        if library in sys.modules:
            getattr(sys.modules[library], setter)(threads)


def load_libraries() -> None:
    """Import the peers' libraries, so that no build time holds it; those that are missing are passed over."""
    for library in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(library)


PEERS = (
    Candidate("matmul", "matrix product + top-k (torch)", _single(embeddings_search), False, _too_large),
    Candidate("pqtopk", "PQTopK (torch)", _pq_top_k, False),
    Candidate("faiss", "FAISS IndexPQ", _single(faiss_search), False),
    Candidate("recjpqprune", "RecJPQPrune (our C++)", _prune, True),
)
