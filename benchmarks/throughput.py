"""Queries per second of whole batches, on one core and on two."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import numpy as np

from benchmarks.data import Floats, Workload
from benchmarks.measure import one_core, timed
from benchmarks.ours import spreads_calls, threaded_scorer
from benchmarks.peers import PEERS, embeddings_search, faiss_search, limit_threads
from benchmarks.prune import RecJPQPrune

K = 10
THREADS = (1, 2)
ROUNDS = 5

Run = Callable[[int], object]
"""``run(threads)`` answers the whole batch."""


def measure_throughput(workload: Workload, *, batch: int, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return queries per second of each method, the median of 5 rounds over one batch."""
    batch = min(batch, len(workload.tables))
    rows = []
    with ThreadPoolExecutor(max(THREADS)) as pool:
        runs = _runs(workload, batch, pool, names)
        for threads in (n for n in THREADS if n <= len(os.sched_getaffinity(0))):
            limit_threads(threads)
            for name, run in runs.items():
                rows.append({"workload": workload.name, "method": name, "k": K, "batch": batch,
                             "threads": threads, "queries_per_s": _rate(run, threads, batch)})  # fmt: skip
    limit_threads(1)
    return rows


def _rate(run: Run, threads: int, batch: int) -> float:
    def rounds() -> list[float]:
        run(threads)
        return [timed(lambda: run(threads))[0] for _ in range(ROUNDS)]

    if threads > 1:
        return round(batch / median(rounds()), 2)
    with one_core():
        return round(batch / median(rounds()), 2)


def _runs(workload: Workload, batch: int, pool: ThreadPoolExecutor, names: Sequence[str]) -> dict[str, Run]:
    tables, queries = workload.tables[:batch], workload.queries[:batch]
    scorers = {threads: threaded_scorer(workload.codes, threads) for threads in THREADS}

    def spread(answer: Callable[[Floats, int], object]) -> Run:
        """Callers' threads, each with its share of the batch, as in a service."""

        def run(threads: int) -> object:
            if threads == 1:
                return answer(tables, 0)
            return list(pool.map(answer, np.array_split(tables, threads), range(threads)))

        return run

    if spreads_calls():
        runs: dict[str, Run] = {"cpu": lambda threads: scorers[threads].top_k(tables, K)}
    else:
        runs = {"cpu": spread(lambda part, _: scorers[1].top_k(part, K))}
    # One index per thread, for each has its own marks.
    indexes = [RecJPQPrune(workload.codes, tables.shape[2]) for _ in THREADS]
    runs["recjpqprune"] = spread(lambda part, thread: [indexes[thread].top_k(table, K) for table in part])
    batched = {"faiss": faiss_search, "matmul": embeddings_search}
    for candidate in PEERS:
        if candidate.name in batched and candidate.name in names and not candidate.why_not(workload):
            runs[candidate.name] = _batched(batched[candidate.name](workload), queries)
    return {name: run for name, run in runs.items() if name in names}


def _batched(search: Callable[[Floats, int], object], queries: Floats) -> Run:
    return lambda _: search(queries, K)  # its library spreads the work over the threads that it was allowed
