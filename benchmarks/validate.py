"""The judge: no method is timed before it has given the specification's answers."""

from collections.abc import Sequence

import numpy as np

from benchmarks.data import Workload
from benchmarks.method import Candidate, Method, Query
from recjpq.scoring import TopK

TOLERANCE = 1e-5
"""Allowed error of a score, as a share of the largest score that the table could give."""


class DisagreementError(Exception):
    """A method does not give the specification's answer."""


def validate(
    workload: Workload,
    specification: Query,
    methods: Sequence[tuple[Candidate, Method]],
    ks: Sequence[int],
    num_queries: int,
) -> None:
    """Compare all methods with the specification on the first queries.

    Raises:
        DisagreementError: naming method, query and what differs.
    """
    for query in range(min(num_queries, len(workload.tables))):
        best = specification(query, max(ks))  # the best k of every smaller k stand first in it
        for k in ks:
            expected = TopK(best.ids[:k], best.scores[:k])
            for candidate, method in methods:
                found = method.query(query, k)
                fault = (
                    same_bits(found, expected)
                    if candidate.same_bits
                    else near(found, expected, workload, query)
                )
                if fault:
                    raise DisagreementError(
                        f"{candidate.name}, {workload.name}, query {query}, k={k}: {fault}"
                    )


def same_bits(found: TopK, expected: TopK) -> str | None:
    """Say what differs, or return None."""
    if not np.array_equal(found.ids, expected.ids):
        return f"found items {found.ids[:10]}..., expected {expected.ids[:10]}..."
    if not np.array_equal(found.scores, expected.scores):
        return f"found scores {found.scores[:10]}..., expected {expected.scores[:10]}..."
    return None


def near(found: TopK, expected: TopK, workload: Workload, query: int) -> str | None:
    """Say what differs beyond rounding and the order of ties, or return None.

    The found items' true scores must be the expected scores: a missed item would leave a worse one.
    """
    table = workload.tables[query]  # (M, V)
    tolerance = TOLERANCE * float(np.abs(table).max(axis=1).sum())
    if len(found.ids) != len(expected.ids) or len(np.unique(found.ids)) != len(found.ids):
        return f"found {len(np.unique(found.ids))} different items, expected {len(expected.ids)}"
    true = table[np.arange(len(table)), workload.codes[found.ids]].sum(axis=1)
    if (error := float(np.abs(true - found.scores).max())) > tolerance:
        return f"scores differ from those of the items by {error:.3g}, allowed {tolerance:.3g}"
    if (error := float(np.abs(np.sort(true)[::-1] - expected.scores).max())) > tolerance:
        return f"the items' scores differ from the best by {error:.3g}, allowed {tolerance:.3g}"
    return None
