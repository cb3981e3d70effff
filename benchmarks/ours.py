"""This project's own scorers as measured methods."""

import inspect
from typing import Any

from benchmarks.data import Codes, Workload
from benchmarks.method import Candidate, Method
from recjpq import _native
from recjpq.scoring import Scorer, TopK, load_scorer
from recjpq.scoring.cpu_scorer import CpuScorer

LARGEST_FOR_NUMPY = 2_000_000


def spreads_calls() -> bool:
    """Say whether the CPU scorer can put several threads on one call."""
    return "threads" in inspect.signature(load_scorer).parameters


def threaded_scorer(codes: Codes, threads: int) -> Scorer:
    """Return the CPU scorer with these threads, where it has such an argument."""
    arguments: dict[str, Any] = {"threads": threads} if spreads_calls() else {}
    return load_scorer(codes, "cpu", **arguments)


def _avx2_scorer(codes: Codes) -> Scorer:
    arguments: dict[str, Any] = {"instruction_set": "avx2"}
    return CpuScorer(codes, **arguments)


def _method(workload: Workload, scorer: Scorer) -> Method:
    def query(index: int, k: int) -> TopK:
        return scorer.top_k(workload.tables[index : index + 1], k)[0]

    return Method(query)


def _no_separate_avx2(_: Workload) -> str | None:
    """Say why the kernel of most desktop and older server processors cannot be shown beside the fastest."""
    if "instruction_set" not in inspect.signature(CpuScorer.__init__).parameters:
        return "the CPU scorer has no choice of instruction sets"
    sets: list[str] = getattr(_native, "instruction_sets", list)()
    others = [name for name in sets if name.startswith("avx512")]
    return None if "avx2" in sets and others else "this processor has no more, or less, than AVX2"


def _takes_seconds(workload: Workload) -> str | None:
    if workload.num_items <= LARGEST_FOR_NUMPY:
        return None
    return "it takes seconds there; the answers are still compared with its own"


SPECIFICATION = Candidate(
    "numpy",
    "NumPy (the specification)",
    lambda w: _method(w, load_scorer(w.codes, "numpy")),
    True,
    _takes_seconds,
)
OURS = (
    Candidate("cpu", "this project", lambda w: _method(w, load_scorer(w.codes, "cpu")), True),
    Candidate(
        "cpu-avx2",
        "this project, AVX2 only",
        lambda w: _method(w, _avx2_scorer(w.codes)),
        True,
        _no_separate_avx2,
    ),
    Candidate(
        "cpu-scan",
        "this project, plain scan",
        lambda w: _method(w, CpuScorer(w.codes, plain_scan=True)),
        True,
    ),
)
