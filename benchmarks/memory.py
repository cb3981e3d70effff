"""What a method keeps in memory, measured in a fresh process so that nothing freed earlier is used again."""

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import Workload
from benchmarks.machine import peak_bytes, private_bytes, reset_peak
from benchmarks.measure import one_core, timed
from benchmarks.methods import CANDIDATES
from benchmarks.peers import limit_threads

ARRAYS = ("codes", "sub_embeddings", "queries", "tables")


def measure_memory(workload: Workload, names: list[str]) -> list[dict[str, Any]]:
    """Return each method's private memory after building, and while answering.

    The codes are a memory map there, which all processes share: a method that keeps none of its own costs
    nothing per item. `peak_with_codes_bytes` is the most that was resident while building, and not
    before; there the codes do count, for nothing of the map has been read before.
    """
    context = multiprocessing.get_context("spawn")
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for name in ARRAYS:
            np.save(Path(directory) / f"{name}.npy", getattr(workload, name))
        for name in names:
            with ProcessPoolExecutor(1, context) as process:
                taken = process.submit(_measure, Path(directory), workload.name, name).result()
            per_item = round(taken["private_bytes"] / workload.num_items, 2)
            rows.append({"workload": workload.name, "items": workload.num_items, "method": name}
                        | taken | {"private_bytes_per_item": per_item})  # fmt: skip
    return rows


def _measure(directory: Path, workload_name: str, name: str) -> dict[str, Any]:
    arrays = {array: np.load(directory / f"{array}.npy", mmap_mode="r" if array == "codes" else None)
              for array in ARRAYS}  # fmt: skip
    assert {field.name for field in fields(Workload)} == {"name", "kind", *ARRAYS}
    workload = Workload(workload_name, "", **arrays)
    candidate = next(candidate for candidate in CANDIDATES if candidate.name == name)
    candidate.build(_small(workload)).query(0, 1)  # the memory that its library takes is not the method's
    limit_threads(1)
    with one_core():
        before = private_bytes()
        resident = reset_peak()
        built = []
        seconds, _ = timed(lambda: built.append(candidate.build(workload)))
        peak = peak_bytes() - resident
        after = private_bytes()
        built[0].query(0, 10)
        return {
            "build_s": round(seconds, 4),
            "private_bytes": after - before,
            "private_bytes_after_query": private_bytes() - before,
            "codes_bytes": workload.codes.nbytes,
            "peak_with_codes_bytes": peak,
        }


def _small(workload: Workload) -> Workload:
    return Workload("", "", workload.codes[:1000], workload.sub_embeddings, workload.queries, workload.tables)
