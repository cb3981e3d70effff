"""Latency of `POST /recommend`: one client, one request after the other, against a running service.

    make demo                                # in one terminal
    python -m benchmarks.serving             # in another

Histories are random items of the catalogue; a request is counted only if it was answered by the model.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import httpx
import numpy as np

from benchmarks.machine import machine
from recjpq.artifact import find_artifact, load_artifact


def main() -> int:
    """Measure, print a line, write JSON; returns 1 if an answer is not the model's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--artifacts", type=Path, default=Path("runs/demo/artifacts"), help="what is served")
    parser.add_argument("--length", type=int, default=20, help="items of each history")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--output", type=Path, default=Path("runs/bench/serving.json"))
    options = parser.parse_args()
    catalogue = load_artifact(find_artifact(options.artifacts)).catalogue
    rng = np.random.default_rng(0)
    times = []
    with httpx.Client(base_url=options.url) as client:
        for request in range(options.requests + 20):  # the first 20 warm up
            items = rng.integers(0, catalogue.num_items, size=options.length, dtype=np.int32)
            body = {"history": catalogue.ids_of(items), "k": 10}
            start = time.perf_counter()
            answer = client.post("/recommend", json=body)
            elapsed_ms = (time.perf_counter() - start) * 1e3
            if answer.status_code != 200 or answer.json()["strategy"] != "model":
                print(f"not the model's answer: {answer.status_code} {answer.text[:300]}", file=sys.stderr)
                return 1
            if request >= 20:
                times.append(elapsed_ms)
    p50, p99 = statistics.median(times), float(np.percentile(times, 99))
    result = {"items": catalogue.num_items, "history": options.length, "median_ms": p50, "p99_ms": p99}
    print(
        f"N={catalogue.num_items}, history of {options.length}, k=10: median {p50:.2f} ms, p99 {p99:.2f} ms"
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"machine": machine(), "results": [result]}, indent=2) + "\n")
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
