"""What every measured method offers."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.data import Workload
from recjpq.scoring import TopK

Query = Callable[[int, int], TopK]
"""``query(q, k)``: the best k items of the workload's query q."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method made ready for one workload.

    Attributes:
        query: answers one query.
        num_scored: how many items the last query scored, or None where that is always all of them.
    """

    query: Query
    num_scored: Callable[[], int] | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A method that can be made ready.

    Attributes:
        name: in results. label: for readers.
        build: makes it ready; timed as its build time. Raises ImportError when its library is missing.
        same_bits: it adds in the contract's order from the same tables and breaks ties by index, so its
            answers must equal the specification's bit for bit; others are held to a tolerance.
        why_not: says why it cannot run on a workload, or returns None.
    """

    name: str
    label: str
    build: Callable[[Workload], Method]
    same_bits: bool
    why_not: Callable[[Workload], str | None] = lambda _: None
