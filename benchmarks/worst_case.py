"""The worst case: no query may take much longer than looking at every item would."""

from typing import Any

import numpy as np

from benchmarks.data import Workload
from benchmarks.measure import timed
from benchmarks.method import Method

FEWEST_ROUNDS, MOST_ROUNDS = 5, 15


def measure_worst_case(
    workload: Workload, methods: dict[str, Method], k: int, *, seconds: float
) -> dict[str, Any]:
    """Return the ratio of our time to our own plain scan's: median, p99 and maximum over the queries.

    A query's ratio is that of two medians of several calls, which take turns: both methods answer the query
    right after the other has. Times are the thread's own, so that what else the machine does counts less. At
    most half of the queries are left out to keep to the time.
    """
    both = (methods["cpu"], methods["cpu-scan"])
    a_round = sum(min(_own_s(method, 0, k) for _ in range(3)) for method in both)
    num_queries = len(workload.tables)
    rounds = int(np.clip(seconds / (a_round * num_queries), FEWEST_ROUNDS, MOST_ROUNDS))
    queries = range(0, num_queries, 1 + (rounds * a_round * num_queries > 2 * seconds))
    ratios = []
    for query in queries:
        taken = np.array(
            [[_own_s(method, query, k) for method in both] for _ in range(rounds)]
        )  # (rounds, 2)
        ours_s, scan_s = np.median(taken, axis=0)
        ratios.append(ours_s / scan_s)
    p50, p99, largest = (round(float(np.percentile(ratios, percent)), 4) for percent in (50, 99, 100))
    return {"workload": workload.name, "k": k, "queries": len(ratios), "rounds": rounds,
            "ratio_p50": p50, "ratio_p99": p99, "ratio_max": largest}  # fmt: skip


def _own_s(method: Method, query: int, k: int) -> float:
    """Return the seconds that the thread was running to answer a query."""
    return timed(lambda: method.query(query, k))[1]
