"""This project's own scorers as measured methods."""

import inspect
from typing import Any

from benchmarks.data import Codes, Workload
from benchmarks.method import Candidate, Method
from recjpq.scoring import Scorer, TopK, load_scorer
from recjpq.scoring.cpu_scorer import CpuScorer

PLAIN_SCAN = {"plain": True, "scan_only": True, "prune": False, "skip": False, "skip_blocks": False}
"""Arguments by which the CPU scorer may offer its scan alone, without what gains from skew."""


def plain_scan_argument() -> dict[str, bool] | None:
    """Return the argument of `CpuScorer` that leaves only the scan, or None when it has none."""
    offered = inspect.signature(CpuScorer.__init__).parameters
    return next(({name: value} for name, value in PLAIN_SCAN.items() if name in offered), None)


def threads_argument(scorer: Scorer) -> bool:
    """Say whether a scorer spreads a call over several threads itself."""
    return "threads" in inspect.signature(scorer.top_k).parameters


def plain_scorer(codes: Codes) -> Scorer:
    """Return the CPU scorer with its scan alone; only where it is offered."""
    arguments: dict[str, Any] = plain_scan_argument() or {}
    return CpuScorer(codes, **arguments)


def _method(workload: Workload, scorer: Scorer) -> Method:
    def query(index: int, k: int) -> TopK:
        return scorer.top_k(workload.tables[index : index + 1], k)[0]

    return Method(query)


def _no_plain_scan(_: Workload) -> str | None:
    return None if plain_scan_argument() else "the CPU scorer does not offer its scan alone"


SPECIFICATION = Candidate(
    "numpy", "NumPy (the specification)", lambda w: _method(w, load_scorer(w.codes, "numpy")), True
)
OURS = (
    Candidate("cpu", "this project, CPU", lambda w: _method(w, load_scorer(w.codes, "cpu")), True),
    Candidate(
        "cpu-scan",
        "this project, scan only",
        lambda w: _method(w, plain_scorer(w.codes)),
        True,
        _no_plain_scan,
    ),
)
