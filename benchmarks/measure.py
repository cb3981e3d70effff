"""Timing, side by side.

A kernel that reads its codes from the last-level cache is several times as fast as one that waits for memory,
so every method is timed in both states, made on purpose: *warm*, when it has answered other queries just
before, as on a busy server, and *cold*, after so much other data that nothing of it is cached any more.
"""

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.machine import cache_bytes
from benchmarks.method import Method

FEWEST_QUERIES = 10
WARM_BELOW_S = 0.05
"""A slower method reads more than any cache holds, so warming it up changes nothing."""
WARM_CALLS, WARM_BLOCK = 4, 10
"""Untimed calls before so many timed ones: a cache needs several passes to change hands."""
PERCENTILES = (50, 95, 99)


@contextmanager
def one_core(core: int | None = None) -> Iterator[None]:
    """Keep this thread on one core, the last that it may use by default, and off garbage collection."""
    if not hasattr(os, "sched_setaffinity"):
        yield  # macOS: nothing to pin with
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed) if core is None else core})
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        os.sched_setaffinity(0, allowed)


def warm(
    methods: Mapping[str, Method], num_queries: int, k: int, *, seconds: float
) -> dict[str, dict[str, Any]]:
    """Time all methods by turns, ten queries each after a few that are not timed; see `cold` for the rest."""
    samples = _probe(methods, num_queries, k, seconds)
    for block in _blocks(num_queries, WARM_BLOCK):
        for name in _rotated(list(methods), block[0] // WARM_BLOCK):
            queries = [query for query in block if query % samples[name].stride == 0]
            if queries and samples[name].estimate_s < WARM_BELOW_S:
                for before in range(WARM_CALLS):
                    methods[name].query((block[-1] + 1 + before) % num_queries, k)
            for query in queries:
                samples[name].take(methods[name], query, k)
    return {name: taken.summary() for name, taken in samples.items()}


def cold(
    methods: Mapping[str, Method], num_queries: int, k: int, *, seconds: float
) -> dict[str, dict[str, Any]]:
    """Time all methods by turns, query by query, each call after the caches have been filled with other data.

    By turns, so that whatever else the machine does hits all alike.

    Args:
        methods: by name.
        num_queries: of each method, the first of the workload.
        k: how many items.
        seconds: a method that would need longer gets fewer queries, evenly spread, at least 10.

    Returns:
        Per method what `statistics` says, and how many items it scored where that varies.
    """
    samples = _probe(methods, num_queries, k, seconds)
    others_data = np.ones(2 * cache_bytes() // 8)
    for query in range(num_queries):
        for name in _rotated(list(methods), query):
            if query % samples[name].stride == 0:
                others_data.sum()
                samples[name].take(methods[name], query, k)
    return {name: taken.summary() for name, taken in samples.items()}


@dataclass
class _Samples:
    estimate_s: float
    stride: int
    wall_s: list[float]
    cpu_s: list[float]
    scored: list[int]

    @classmethod
    def probe(cls, method: Method, num_queries: int, k: int, seconds: float) -> "_Samples":
        estimate_s = min(timed(lambda: method.query(0, k))[0] for _ in range(2))
        affordable = max(FEWEST_QUERIES, int(seconds / estimate_s))
        return cls(estimate_s, max(1, num_queries // affordable), [], [], [])

    def take(self, method: Method, query: int, k: int) -> None:
        wall_s, cpu_s = timed(lambda: method.query(query, k))
        self.wall_s.append(wall_s)
        self.cpu_s.append(cpu_s)
        if method.num_scored:
            self.scored.append(method.num_scored())

    def summary(self) -> dict[str, Any]:
        summary = statistics(self.wall_s, self.cpu_s)
        if self.scored:
            summary["scored_items_p50"], summary["scored_items_p95"] = (
                float(np.percentile(self.scored, percent)) for percent in (50, 95)
            )
        return summary


def _probe(methods: Mapping[str, Method], num_queries: int, k: int, seconds: float) -> dict[str, _Samples]:
    return {name: _Samples.probe(method, num_queries, k, seconds) for name, method in methods.items()}


def _blocks(num_queries: int, size: int) -> Iterator[list[int]]:
    for start in range(0, num_queries, size):
        yield list(range(start, min(start + size, num_queries)))


def _rotated(names: list[str], turn: int) -> list[str]:
    """Return the names from another one on: no method always runs after the same one."""
    first = turn % len(names)
    return names[first:] + names[:first]


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that a call took, and those that its thread was running."""
    cpu, wall = time.thread_time(), time.perf_counter()
    call()
    return time.perf_counter() - wall, time.thread_time() - cpu


def statistics(wall_s: list[float], cpu_s: list[float]) -> dict[str, Any]:
    """Return percentiles in milliseconds, of elapsed time and of the thread's own."""
    milliseconds = {f"p{percent}_ms": _percentile_ms(wall_s, percent) for percent in PERCENTILES}
    own = {f"cpu_p{percent}_ms": _percentile_ms(cpu_s, percent) for percent in PERCENTILES}
    return {"queries": len(wall_s), **milliseconds, **own, "min_ms": round(min(wall_s) * 1e3, 5)}


def _percentile_ms(seconds: list[float], percent: int) -> float:
    return round(float(np.percentile(seconds, percent)) * 1e3, 5)
