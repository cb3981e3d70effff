"""The GPU scorer: validated against the NumPy specification, then timed against reading the codes once.

    python -m benchmarks.gpu_scoring [--items 1000000] [--output runs/bench/gpu-scoring.json]

Random codes and Gaussian tables. For every size of catalogue, batch and k: the median time of a call by the wall
clock, from NumPy arrays to NumPy arrays, and by CUDA events around the same work on the device, copies included.
`ratio` is the device's time over that of reading the codes once at the bandwidth of a copy measured in this run.
Exit status 2 without a usable GPU.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import machine, today, versions
from benchmarks.validate import DisagreementError, same_bits
from recjpq.errors import BackendUnavailableError
from recjpq.scoring import TopK
from recjpq.scoring.cuda import CudaScorer
from recjpq.scoring.cuda.driver import CudaDevice
from recjpq.scoring.cuda.plan import Tuning
from recjpq.scoring.numpy_scorer import NumpyScorer

ITEMS = (100_000, 1_000_000, 10_000_000)
BATCHES = (1, 16, 64, 256)
KS = (10, 100, 1000)
NUM_SPLITS, NUM_SUB_IDS = 8, 256
VALIDATED_ROWS = 3
COPIED_BYTES = 2**30


def main() -> int:
    """Validate, measure, print and write; 1 if an answer is wrong, 2 without a GPU."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=ITEMS)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--ks", type=int, nargs="+", default=KS)
    parser.add_argument("--calls", type=int, default=50, help="timed calls of each case")
    parser.add_argument("--output", type=Path, default=Path("runs/bench/gpu-scoring.json"))
    options = parser.parse_args()
    try:
        device = CudaDevice()
    except BackendUnavailableError as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 2
    bandwidth = copy_bandwidth(device)
    print(f"{device.name} ({device.architecture}): a copy reads and writes {bandwidth / 1e9:.0f} GB/s")
    results = []
    try:
        for num_items in options.items:
            results += measure_catalogue(
                device, num_items, options.batches, options.ks, options.calls, bandwidth
            )
    except DisagreementError as error:
        print(f"wrong answer: {error}", file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    about = {"gpu": device.name, "architecture": device.architecture, "copy_bytes_per_s": bandwidth}
    document = {"date": today(), "machine": machine() | about, "versions": versions(), "results": results}
    options.output.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written: {options.output}")
    return 0


def measure_catalogue(
    device: CudaDevice,
    num_items: int,
    batches: Sequence[int],
    ks: Sequence[int],
    calls: int,
    bandwidth: float,
) -> list[dict[str, Any]]:
    """Validate and time one catalogue.

    Raises:
        DisagreementError: an answer is not the specification's.
    """
    rng = np.random.default_rng(num_items)
    item_codes = rng.integers(NUM_SUB_IDS, size=(num_items, NUM_SPLITS), dtype=np.uint8)
    tables = rng.standard_normal((max(batches), NUM_SPLITS, NUM_SUB_IDS)).astype(np.float32)
    # One search at a time, so that all work is on the queue that the events are put on.
    scorer = CudaScorer(item_codes, device, tuning=Tuning(searches=1))
    validate(scorer, item_codes, tables, batches, ks)
    print(f"\n{num_items:,} items, {NUM_SPLITS} splits: answers are the specification's\n")
    print(
        "| batch | k | wall, us | device, us | reading the codes, us | ratio |\n|---:|---:|---:|---:|---:|---:|"
    )
    reading_us = item_codes.nbytes / bandwidth * 1e6
    results = []
    for batch in batches:
        for k in ks:
            wall_us, device_us = time_calls(device, scorer, tables[:batch], k, calls)
            ratio = device_us / reading_us
            print(f"| {batch} | {k} | {wall_us:.0f} | {device_us:.0f} | {reading_us:.1f} | {ratio:.1f} |")
            results.append({
                "items": num_items, "batch": batch, "k": k, "wall_us": wall_us, "device_us": device_us,
                "reading_us": reading_us, "ratio": ratio,
            })  # fmt: skip
    return results


def validate(
    scorer: CudaScorer,
    item_codes: npt.NDArray[np.uint8],
    tables: npt.NDArray[np.float32],
    batches: Sequence[int],
    ks: Sequence[int],
) -> None:
    """Compare the first, a middle and the last row of every batch, at every k.

    Raises:
        DisagreementError: naming batch, row and k.
    """
    specification = NumpyScorer(item_codes)
    expected: dict[int, TopK] = {}
    for batch in batches:
        for row in sorted({0, batch // 2, batch - 1})[:VALIDATED_ROWS]:
            if row not in expected:
                expected[row] = specification.top_k(tables[row : row + 1], max(ks))[0]
            for k in ks:
                found = scorer.top_k(tables[:batch], k)[row]
                wanted = TopK(expected[row].ids[:k], expected[row].scores[:k])
                if fault := same_bits(found, wanted):
                    raise DisagreementError(f"batch {batch}, row {row}, k={k}: {fault}")


def time_calls(
    device: CudaDevice, scorer: CudaScorer, tables: npt.NDArray[np.float32], k: int, calls: int
) -> tuple[float, float]:
    """Return the median microseconds of a call: by the wall clock, and by events on its queue."""
    for _ in range(5):
        scorer.top_k(tables, k)
    wall = []
    for _ in range(calls):
        start = time.perf_counter()
        scorer.top_k(tables, k)
        wall.append((time.perf_counter() - start) * 1e6)
    with scorer._workspaces.borrow() as workspace:
        queue = workspace.queue
    on_device = [device.time(queue, lambda: scorer.top_k(tables, k)) * 1e6 for _ in range(calls)]
    return statistics.median(wall), statistics.median(on_device)


def copy_bandwidth(device: CudaDevice) -> float:
    """Return bytes a second that a copy within the device reads and writes together, the best of ten."""
    source, target, queue = device.allocate(COPIED_BYTES), device.allocate(COPIED_BYTES), device.queue()
    copy: Callable[[], None] = lambda: queue.copy(source, target, COPIED_BYTES)  # noqa: E731
    copy()
    return 2 * COPIED_BYTES / min(device.time(queue, copy) for _ in range(10))


if __name__ == "__main__":
    sys.exit(main())
