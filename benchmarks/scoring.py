"""Exact top-k: our CPU kernel beside the NumPy specification, in one process, validated before it is timed.

    python -m benchmarks.scoring [--items 100000 1000000] [--queries 50] [--output runs/bench/scoring.json]

Score tables are random Gaussian and codes uniform: no skew that a method could exploit.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from recjpq.scoring import Scorer, load_scorer

NUM_SPLITS, NUM_SUB_IDS = 8, 256
BACKENDS = ("numpy", "cpu")
VALIDATED_QUERIES = 5


def main() -> int:
    """Validate, measure, print a table, write JSON; returns 1 if a method is not exact."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000], metavar="N")
    parser.add_argument("--k", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--queries", type=int, default=50, help="timed queries of each method")
    parser.add_argument("--output", type=Path, default=Path("runs/bench/scoring.json"))
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    tables = rng.standard_normal((options.queries, 1, NUM_SPLITS, NUM_SUB_IDS)).astype(np.float32)
    results = []
    print(f"{'N':>10} {'k':>5} {'method':>8} {'median ms':>10} {'p99 ms':>8}   exact")
    for num_items in options.items:
        codes = rng.integers(0, NUM_SUB_IDS, size=(num_items, NUM_SPLITS), dtype=np.uint8)
        scorers = {name: load_scorer(codes, name) for name in BACKENDS}
        for k in options.k:
            if not _exact(scorers, tables[:VALIDATED_QUERIES], k):
                print(f"N={num_items}, k={k}: the methods disagree; nothing is timed", file=sys.stderr)
                return 1
            for name, scorer in scorers.items():
                result = {"items": num_items, "k": k, "method": name} | _time(scorer, tables, k)
                results.append(result)
                median, p99 = result["median_ms"], result["p99_ms"]
                print(f"{num_items:>10} {k:>5} {name:>8} {median:>10.3f} {p99:>8.3f}   yes")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"machine": machine(), "results": results}, indent=2) + "\n")
    print(f"written: {options.output}")
    return 0


def machine() -> dict[str, Any]:
    """Return what a reader needs to know of where the figures come from."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
    }


def _exact(scorers: dict[str, Scorer], tables: np.ndarray[Any, np.dtype[np.float32]], k: int) -> bool:
    for table in tables:
        (expected,) = scorers["numpy"].top_k(table, k)
        for scorer in scorers.values():
            (found,) = scorer.top_k(table, k)
            if not (
                np.array_equal(found.ids, expected.ids) and np.array_equal(found.scores, expected.scores)
            ):
                return False
    return True


def _time(scorer: Scorer, tables: np.ndarray[Any, np.dtype[np.float32]], k: int) -> dict[str, float]:
    scorer.top_k(tables[0], k)  # warm the caches
    times = []
    for query in range(len(tables)):
        start = time.perf_counter()
        scorer.top_k(tables[query], k)
        times.append((time.perf_counter() - start) * 1e3)
    return {"median_ms": statistics.median(times), "p99_ms": float(np.percentile(times, 99))}


if __name__ == "__main__":
    sys.exit(main())
