"""The worst case: no query may take much longer than looking at every item would."""

from collections.abc import Callable
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

    A query's ratio is that of two medians of several calls, which take turns. Times are the thread's own, so
    that what else the machine does counts less. Half of the queries are left out if all would take too long.
    """
    pair = [methods["cpu"].query, methods["cpu-scan"].query]
    num_queries = len(workload.tables)
    estimate_s = num_queries * sum(min(_own_s(call, 0, k) for _ in range(3)) for call in pair)
    rounds = int(np.clip(seconds / estimate_s, FEWEST_ROUNDS, MOST_ROUNDS))
    ratios = []
    for query in range(0, num_queries, 2 if rounds * estimate_s > 2 * seconds else 1):
        taken = np.array([[_own_s(call, query, k) for call in pair] for _ in range(rounds)])  # (rounds, 2)
        ours_s, scan_s = np.median(taken, axis=0)
        ratios.append(ours_s / scan_s)
    p50, p99, largest = (round(float(np.percentile(ratios, percent)), 4) for percent in (50, 99, 100))
    return {"workload": workload.name, "k": k, "queries": len(ratios), "rounds": rounds,
            "ratio_p50": p50, "ratio_p99": p99, "ratio_max": largest}  # fmt: skip


def _own_s(call: Callable[[int, int], object], query: int, k: int) -> float:
    return timed(lambda: call(query, k))[1]
