"""One run of the load against one running service, and what is said of it."""

import math
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from benchmarks import load
from benchmarks.load import Answers, Floats
from benchmarks.service_process import RunningService
from benchmarks.service_traffic import EXPECTED, Traffic

PERCENTILES = (50, 90, 99, 99.9)
BUCKETS_PER_DECADE = 200
"""Of the kept histograms: neighbouring buckets differ by 1.16%."""
TARGET_P90_MS = 50.0
KEEPS_UP = 0.97
"""A rate is carried if the answers come at this share of it at least."""


def measure(
    service: RunningService,
    generator: ProcessPoolExecutor,
    traffic: Traffic,
    due_s: Floats,
    *,
    connections: int = 256,
) -> dict[str, Any]:
    """Send requests at their times; return latencies, processor time, stages, and the memory afterwards."""
    plan = load.Plan(service.port, traffic.requests, due_s, connections, expected=EXPECTED)
    before_s = service.cpu_s()
    answers: Answers = generator.submit(load.run, plan).result()
    cpu_s = service.cpu_s() - before_s
    return describe(answers) | {
        "cpu_ms_per_request": round(cpu_s / len(due_s) * 1e3, 4),
        "generator_cpu_ms_per_request": round(answers.cpu_s / len(due_s) * 1e3, 4),
        "memory": service.memory(),
    }


def describe(answers: Answers) -> dict[str, Any]:
    """Return statistics of a run, with its latencies in fine buckets."""
    total, ok = len(answers.status), answers.status == 200
    latency_ms = answers.latency_s[ok] * 1e3
    statuses = Counter(answers.status.tolist())
    return {
        "requests": total,
        "wall_s": round(answers.wall_s, 3),
        "achieved_per_s": round(float(ok.sum()) / answers.wall_s, 1),
        "statuses": {str(status) if status else "none": count for status, count in sorted(statuses.items())},
        "refused": statuses[503] + statuses[429],
        "not_by_model": answers.unexpected,  # degraded, for example: the store did not answer in time
        "failed": total - statuses[200] - statuses[503] - statuses[429],
        "latency": percentiles(latency_ms),
        "since_sent": percentiles((answers.latency_s - answers.late_s)[ok] * 1e3),
        "sent_late": percentiles(answers.late_s[np.isfinite(answers.late_s)] * 1e3),
        "stages": stages([timing for timing, good in zip(answers.timings, ok, strict=True) if good]),
        "histogram": histogram(latency_ms),
    }


def percentiles(milliseconds: Floats) -> dict[str, float]:
    """Return percentiles and mean, in milliseconds; nothing of nothing."""
    if not len(milliseconds):
        return {}
    values = {f"p{percent:g}_ms": float(np.percentile(milliseconds, percent)) for percent in PERCENTILES}
    values |= {"mean_ms": float(milliseconds.mean()), "max_ms": float(milliseconds.max())}
    return {name: round(value, 4) for name, value in values.items()}


def stages(timings: list[bytes]) -> dict[str, dict[str, float]]:
    """Return each stage's percentiles from `Server-Timing` headers, over the answers that have the stage."""
    taken: dict[str, list[float]] = {}
    for timing in timings:
        for entry in timing.decode().split(","):
            name, _, duration = entry.strip().partition(";dur=")
            if duration:
                taken.setdefault(name, []).append(float(duration))
    return {name: percentiles(np.array(values)) | {"answers": len(values)} for name, values in taken.items()}


def histogram(milliseconds: Floats) -> list[list[float]]:
    """Return [upper edge in ms, count] of the buckets that hold any: the raw latencies, to 1.16%."""
    buckets = Counter(
        math.ceil(math.log10(max(value, 1e-3)) * BUCKETS_PER_DECADE) for value in milliseconds.tolist()
    )
    return [
        [round(10 ** (bucket / BUCKETS_PER_DECADE), 5), count] for bucket, count in sorted(buckets.items())
    ]


def carried(run: dict[str, Any], rate: float, target_ms: float = TARGET_P90_MS) -> bool:
    """Say whether a run kept its rate with p90 at most `target_ms`, every request answered, by the model."""
    whole = run["statuses"].keys() == {"200"} and not run["not_by_model"]
    return whole and run["latency"]["p90_ms"] <= target_ms and run["achieved_per_s"] >= KEEPS_UP * rate


def highest_rate(
    service: RunningService,
    generator: ProcessPoolExecutor,
    traffic: Traffic,
    *,
    seconds: float,
    steps: int = 6,
) -> dict[str, Any]:
    """Search the highest Poisson rate that is carried: from a closed loop's throughput, by bisection.

    Returns:
        The run at the highest rate found, with `rate`, and `tried`: every [rate, carried] on the way.
    """
    closed = measure(service, generator, traffic, load.all_at_once(400), connections=4)
    low, high = 0.0, 1.3 * closed["achieved_per_s"]
    best: dict[str, Any] = {"rate": 0.0}
    rate, tried = 0.8 * closed["achieved_per_s"], []
    for step in range(steps):
        # At the end the latencies of the last requests would be missing from the achieved rate.
        run = measure(service, generator, traffic, load.poisson(rate, seconds, seed=step))
        good = carried(run, min(rate, run["requests"] / seconds))
        tried.append([round(rate, 1), good])
        if good:
            low, best = rate, run | {"rate": round(rate, 1)}
        else:
            high = rate
        rate = math.sqrt(low * high) if low else rate / 2
    return best | {"tried": tried, "closed_loop_per_s": closed["achieved_per_s"]}
