"""What restricting the results costs: a bitmap over the catalogue, and items to leave out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.data import Workload
from benchmarks.measure import warm
from benchmarks.method import Method
from benchmarks.prune import RecJPQPrune, bits
from benchmarks.validate import DisagreementError, same_bits
from recjpq.scoring import Scorer, TopK, load_scorer

K = 10
BEST_EXCLUDED = 10
"""Lists of exclusions hold the query's own best items, for what a user has seen scores high."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One restriction per query: items to leave out, or one bitmap of those allowed."""

    name: str
    exclude: list[npt.NDArray[np.int32]] | None = None
    allow: npt.NDArray[np.bool_] | None = None

    def top_k(self, scorer: Scorer, workload: Workload, query: int) -> TopK:
        """Answer a query under this restriction."""
        exclude = None if self.exclude is None else [self.exclude[query]]
        table = workload.tables[query : query + 1]
        return scorer.top_k(table, K, exclude=exclude, allow=self.allow)[0]

    def barred(self, num_items: int, query: int) -> npt.NDArray[np.uint64]:
        """Return a bit per item that must not be returned."""
        flags = np.zeros(num_items, dtype=np.bool_) if self.allow is None else ~self.allow
        if self.exclude is not None:
            flags[self.exclude[query]] = True
        return bits(flags)


def filters(workload: Workload, sizes: tuple[int, ...] = (10, 1000, 10_000), seed: int = 0) -> list[Filter]:
    """Return no restriction, a bitmap of half the catalogue, and lists of exclusions."""
    rng = np.random.default_rng(seed)
    best = load_scorer(workload.codes, "cpu").top_k(workload.tables, BEST_EXCLUDED)

    def excluded(size: int) -> list[npt.NDArray[np.int32]]:
        random = rng.integers(0, workload.num_items, size=(len(best), size), dtype=np.int32)
        return [np.concatenate((row.ids, others))[:size] for row, others in zip(best, random, strict=True)]

    half = Filter("allow half (bitmap)", allow=rng.random(workload.num_items) < 0.5)
    lists = [Filter(f"exclude {size}", exclude=excluded(size)) for size in sizes if size < workload.num_items]
    return [Filter("none"), half, *lists]


def measure_filters(
    workload: Workload, *, validated: int, num_queries: int, seconds: float
) -> list[dict[str, Any]]:
    """Validate and time our kernel and RecJPQPrune under every filter, k=10, warm.

    RecJPQPrune finds excluded items marked as visited already, and the marks are made outside its time.

    Raises:
        DisagreementError: an answer is not the specification's.
    """
    specification, ours = load_scorer(workload.codes, "numpy"), load_scorer(workload.codes, "cpu")
    index = RecJPQPrune(workload.codes, workload.tables.shape[2])
    rows = []
    for restriction in filters(workload):
        methods = _methods(workload, restriction, ours, index, num_queries)
        for query in range(validated):
            expected = restriction.top_k(specification, workload, query)
            for name, method in methods.items():
                if fault := same_bits(method.query(query, K), expected):
                    raise DisagreementError(f"{name}, {workload.name}, {restriction.name}, {query}: {fault}")
        for name, taken in warm(methods, num_queries, K, seconds=seconds).items():
            rows.append(
                {"workload": workload.name, "filter": restriction.name, "method": name, "k": K} | taken
            )
    return rows


def _methods(
    workload: Workload, restriction: Filter, ours: Scorer, index: RecJPQPrune, num_queries: int
) -> dict[str, Method]:
    # N bits per query would not fit for large catalogues, and a bitmap is the same for all.
    shared = restriction.exclude is None
    barred = [restriction.barred(workload.num_items, query) for query in range(1 if shared else num_queries)]

    def prune(query: int, k: int) -> TopK:
        marks = None if restriction.name == "none" else barred[0 if shared else query]
        return index.top_k(workload.tables[query], k, marks)

    return {
        "cpu": Method(lambda query, _: restriction.top_k(ours, workload, query)),
        "recjpqprune": Method(prune, lambda: index.num_scored),
    }
