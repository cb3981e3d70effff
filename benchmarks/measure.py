"""Timing, and what a reader needs to know of the machine."""

import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.method import Method

WARM_BELOW_S = 0.02
"""Below this, each timed call follows one on another query; slower methods find nothing cached anyway."""
FEWEST_QUERIES = 10
PERCENTILES = (50, 95, 99)
LIBRARIES = ("recjpq", "numpy", "torch", "faiss-cpu", "onnxruntime")


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


def interleaved(
    methods: Mapping[str, Method], num_queries: int, k: int, *, seconds: float, warm: bool = True
) -> dict[str, dict[str, Any]]:
    """Time all methods side by side, query by query, so that whatever else the machine does hits all alike.

    Args:
        methods: by name.
        num_queries: of each method, the first of the workload.
        k: how many items.
        seconds: a method that would need longer gets fewer queries, evenly spread, at least 10.
        warm: precede a fast method's call by one on another query, as in a busy service. Otherwise every
            call finds the caches as the previous method left them.

    Returns:
        Per method: what `statistics` says, and the share of the catalogue scored where it varies.
    """
    samples = {name: _Samples.probe(method, num_queries, k, seconds) for name, method in methods.items()}
    names = list(methods)
    for query in range(num_queries):
        first = query % len(names)  # no method always runs after the same one
        for name in names[first:] + names[:first]:
            if query % samples[name].stride == 0:
                samples[name].take(methods[name], query, (query or num_queries) - 1, k, warm=warm)
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
        estimate = min(timed(lambda: method.query(0, k))[0] for _ in range(2))
        affordable = max(FEWEST_QUERIES, int(seconds / estimate))
        return cls(estimate, max(1, num_queries // affordable), [], [], [])

    def take(self, method: Method, query: int, other: int, k: int, *, warm: bool) -> None:
        if warm and self.estimate_s < WARM_BELOW_S:
            method.query(other, k)
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


def private_bytes() -> int:
    """Return the memory of this process that no other can share, after giving back what is free."""
    gc.collect()
    with suppress(AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def machine() -> dict[str, Any]:
    """Return what a reader needs to know of where the figures come from."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    pairs = (line.partition(":") for line in lines)
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    flags = fields.get("flags", "").split()
    return {
        "cpu": fields.get("model name", platform.processor()),
        "family": fields.get("cpu family"),
        "model": fields.get("model"),
        "instructions": [name for name in ("avx2", "avx512bw", "avx512vbmi", "asimd") if name in flags],
        "cache": fields.get("cache size"),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "load": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the libraries measured; None for one that is missing."""
    return {"python": platform.python_version()} | {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def today() -> str:
    """Return the date, in UTC."""
    return datetime.now(UTC).date().isoformat()
