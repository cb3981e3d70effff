"""The GPU scorer: validated against the NumPy specification, then timed against reading the codes once.

    python -m benchmarks.gpu_scoring [--items 1000000] [--output runs/bench/gpu-scoring.json]

Random codes and Gaussian tables. For every size of catalogue, batch and k: the median time of a call by the
wall clock, from NumPy arrays to NumPy arrays; and the device's time, by CUDA events around the kernels of
one call, queued many times while the device is busy with something else, so that it never waits for the host.
`ratio` is the device's time over that of reading the codes once at the bandwidth of a copy, measured first.
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
from unittest import mock

import numpy as np
import numpy.typing as npt

from benchmarks.machine import machine, today, versions
from benchmarks.validate import DisagreementError, same_bits
from recjpq.errors import BackendUnavailableError
from recjpq.scoring import TopK
from recjpq.scoring.cuda import CudaScorer
from recjpq.scoring.cuda.driver import CudaDevice, CudaQueue
from recjpq.scoring.cuda.plan import Tuning
from recjpq.scoring.numpy_scorer import NumpyScorer

ITEMS = (100_000, 1_000_000, 10_000_000)
BATCHES = (1, 16, 64, 256)
KS = (10, 100, 1000)
BUSY_S = 0.02  # longer than the host needs to queue what is timed

Work = Callable[[CudaQueue], None]
Launch = tuple[Any, ...]
NUM_SPLITS, NUM_SUB_IDS = 8, 256


def main() -> int:
    """Validate, measure, print and write; 1 if an answer is wrong, 2 without a GPU."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=ITEMS)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--ks", type=int, nargs="+", default=KS)
    parser.add_argument("--calls", type=int, default=50, help="timed calls of each case")
    parser.add_argument(
        "--copy-mib", type=int, default=1024, help="size of the copy that gives the bandwidth"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/bench/gpu-scoring.json"))
    options = parser.parse_args()
    try:
        device = CudaDevice()
    except BackendUnavailableError as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 2
    bandwidth, busy = measure_copy(device, options.copy_mib * 2**20)
    print(f"{device.name} ({device.architecture}): a copy reads and writes {bandwidth / 1e9:.0f} GB/s")
    results = []
    try:
        for num_items in options.items:
            cases = [(batch, k) for batch in options.batches for k in options.ks]
            results += measure_catalogue(device, num_items, cases, options.calls, bandwidth, busy)
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
    cases: Sequence[tuple[int, int]],
    calls: int,
    bandwidth: float,
    busy: Work,
) -> list[dict[str, Any]]:
    """Validate and time one catalogue.

    Raises:
        DisagreementError: an answer is not the specification's.
    """
    rng = np.random.default_rng(num_items)
    item_codes = rng.integers(NUM_SUB_IDS, size=(num_items, NUM_SPLITS), dtype=np.uint8)
    tables = rng.standard_normal((max(batch for batch, _ in cases), NUM_SPLITS, NUM_SUB_IDS)).astype(
        np.float32
    )
    # One search at a time, so that all work is on the queue that the events are put on.
    scorer = CudaScorer(item_codes, device, tuning=Tuning(searches=1))
    validate(scorer, item_codes, tables, cases)
    print(f"\n{num_items:,} items, {NUM_SPLITS} splits: answers are the specification's\n")
    print("| batch | k | wall, us | device, us | reading the codes, us | ratio |")
    print("|---:|---:|---:|---:|---:|---:|")
    reading_us = item_codes.nbytes / bandwidth * 1e6
    results = []
    for batch, k in cases:
        wall_us, device_us = time_calls(device, scorer, tables[:batch], k, calls, busy)
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
    cases: Sequence[tuple[int, int]],
) -> None:
    """Compare the first, a middle and the last row of every batch, at every k.

    Raises:
        DisagreementError: naming batch, row and k.
    """
    specification = NumpyScorer(item_codes)
    expected: dict[int, TopK] = {}
    largest = max(k for _, k in cases)
    for batch, k in cases:
        found = scorer.top_k(tables[:batch], k)
        for row in {0, batch // 2, batch - 1}:
            if row not in expected:
                expected[row] = specification.top_k(tables[row : row + 1], largest)[0]
            wanted = TopK(expected[row].ids[:k], expected[row].scores[:k])
            if fault := same_bits(found[row], wanted):
                raise DisagreementError(f"batch {batch}, row {row}, k={k}: {fault}")


def time_calls(
    device: CudaDevice, scorer: CudaScorer, tables: npt.NDArray[np.float32], k: int, calls: int, busy: Work
) -> tuple[float, float]:
    """Return the microseconds of a call: the median by the wall clock, the mean of its kernels by events."""
    wall = []
    for _ in range(calls + 5):  # the first five warm up
        start = time.perf_counter()
        scorer.top_k(tables, k)
        wall.append((time.perf_counter() - start) * 1e6)
    launches = record(scorer, tables, k)
    queue = device.queue()

    def replay() -> None:
        for _ in range(calls):
            for launch in launches:
                queue.launch(*launch)

    busy(queue)
    return statistics.median(wall[5:]), device.time(queue, replay) * 1e6 / calls


def record(scorer: CudaScorer, tables: npt.NDArray[np.float32], k: int) -> list[Launch]:
    """Return the launches of one call; they may be repeated until the scorer is used again."""
    launches: list[Launch] = []
    with scorer._workspaces.borrow() as workspace:
        queue = workspace.queue
    launch = queue.launch

    def noting(*arguments: Any) -> None:
        launches.append(arguments)
        launch(*arguments)

    with mock.patch.object(queue, "launch", noting):
        scorer.top_k(tables, k)
    return launches


def measure_copy(device: CudaDevice, size_bytes: int) -> tuple[float, Work]:
    """Return the bytes a second that a copy reads and writes together, and what keeps the device busy."""
    source, target, queue = device.allocate(size_bytes), device.allocate(size_bytes), device.queue()

    def copy() -> None:
        queue.copy(source, target, size_bytes)

    copy()
    seconds = min(device.time(queue, copy) for _ in range(10))

    def busy(other: CudaQueue) -> None:
        for _ in range(max(1, round(BUSY_S / seconds))):
            other.copy(source, target, size_bytes)

    return 2 * size_bytes / seconds, busy


if __name__ == "__main__":
    sys.exit(main())
