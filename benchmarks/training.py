"""Training steps of the same SASRec on the same sequences: this project's beside RecTools'.

    python3 -m venv PEER && PEER/bin/pip install 'rectools[torch]'
    python -m benchmarks.training --peer-python PEER/bin/python

RecTools wants another NumPy than this project, hence a Python of its own. Every measurement is a fresh
process with the same number of threads: some steps to warm up, then those that count. Equal are sequences,
width, length, blocks, heads, dropout, batch, loss and negatives for each position. What differs: RecTools
has a row for every item where RecJPQ has M sub-embeddings, and pads every batch to the length L where this
project sorts sequences by length; interactions are counted without padding on both sides. A second row of
ours has the loss meant for large catalogues, with negatives that the whole batch shares, which RecTools does
not have.

Data are drawn: items by Zipf's law, each at least once, in sequences of lognormal lengths up to L + 1.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine, today, versions
from training.dataset import ITEMS, OFFSETS, Dataset
from training.split import Split

SCHEMA_VERSION = 1
SEED = 42
OURS, PEER = "benchmarks.training_ours", "benchmarks.training_rectools"


@dataclass(frozen=True, slots=True)
class Workload:
    """A catalogue and its users, and how they are trained on."""

    name: str
    items: int
    users: int
    mean_length: int
    max_length: int
    losses: tuple[tuple[str, str, int | None], ...]
    """Module, loss, negatives."""
    dim: int = 128
    blocks: int = 2
    dropout: float = 0.2
    batch_size: int = 32


WORKLOADS = (
    Workload("ml-1m", 3_416, 6_040, 165, 200, ((OURS, "softmax", None), (PEER, "softmax", None))),
    Workload(
        "500k",
        500_000,
        50_000,
        50,
        100,
        ((OURS, "gbce", 256), (OURS, "sampled_softmax", 8192), (PEER, "gbce", 256)),
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    options = _options(arguments)
    results: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "date": today(), "machine": machine(), "versions": versions(),
        "settings": {"threads": options.threads, "warm_up": options.warm_up, "steps": options.steps,
                     "seed": SEED},
        "workloads": [], "training": [],
    }  # fmt: skip
    for workload in WORKLOADS:
        if workload.name in options.workloads:
            results["workloads"].append(asdict(workload))
            with tempfile.TemporaryDirectory() as directory:
                make_data(workload, Path(directory))
                rows = [_measure(workload, side, Path(directory), options) for side in workload.losses]
            results["training"] += rows
            print(table(workload, rows), flush=True)
            options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"written: {options.output}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, names = parser.add_argument, [workload.name for workload in WORKLOADS]
    add("--peer-python", type=Path, required=True, help="a Python that has rectools[torch]")
    add("--workloads", nargs="*", default=names, choices=names)
    add("--threads", type=int, default=1)
    add("--warm-up", type=int, default=3, help="steps before those that count")
    add("--steps", type=int, default=30, help="steps that count")
    add("--output", type=Path, default=Path("training.json"))
    return parser.parse_args(arguments)


def make_data(workload: Workload, directory: Path) -> None:
    """Draw a workload's sequences into `items.npy` and `offsets.npy`, and where training ends in them."""
    rng = np.random.default_rng([SEED, workload.items])
    spread = 0.8  # of the logarithm of a length
    drawn = rng.lognormal(np.log(workload.mean_length) - spread**2 / 2, spread, workload.users)
    lengths = np.clip(drawn.astype(np.int64), 2, workload.max_length + 1) + 2  # two are not trained on
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    popularity = 1.0 / np.arange(1, workload.items + 1)
    items = rng.choice(workload.items, offsets[-1], p=popularity / popularity.sum()).astype(np.int32)
    trained = np.delete(np.arange(len(items)), np.concatenate([offsets[1:] - 1, offsets[1:] - 2]))
    items[rng.choice(trained, workload.items, replace=False)] = rng.permutation(workload.items)
    np.save(directory / ITEMS, items)
    np.save(directory / OFFSETS, offsets)
    split = Split.leave_one_out(Dataset(directory, items, offsets, workload.items, {}), 512, SEED)
    np.save(directory / "train_ends.npy", split.train_ends)


def _measure(
    workload: Workload, side: tuple[str, str, int | None], directory: Path, options: argparse.Namespace
) -> dict[str, Any]:
    module, loss, negatives = side
    specification = asdict(workload) | {
        "directory": str(directory), "loss": loss, "negatives": negatives, "seed": SEED,
        "threads": options.threads, "warm_up": options.warm_up, "steps": options.steps,
    }  # fmt: skip
    # Not resolved: a virtual environment's Python is a link that must be called by its own name.
    python = str(options.peer_python.absolute()) if module == PEER else sys.executable
    command = [python, "-W", "ignore", "-m", module, json.dumps(specification)]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    who = {
        "workload": workload.name,
        "method": module.rpartition("_")[2],
        "loss": loss,
        "negatives": negatives,
    }
    return who | measured


def table(workload: Workload, rows: list[dict[str, Any]]) -> str:
    """Return the rows of a workload as Markdown."""
    lines = [
        f"{workload.name}: {workload.items:,} items, L={workload.max_length}, D={workload.dim}, "
        f"batch {workload.batch_size}",
        "| | loss | parameters | interactions a CPU second | a wall second | CPU s a step "
        "| peak MB | beyond the data |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        loss = row["loss"] + (f", {row['negatives']:,}" if row["negatives"] else "")
        lines.append(
            f"| {row['method']} | {loss} | {row['parameters']:,} | {row['interactions_per_cpu_s']:,.0f} "
            f"| {row['interactions_per_wall_s']:,.0f} | {row['cpu_s_per_step']:.3f} "
            f"| {row['peak_bytes'] / 1e6:,.0f} | {row['peak_bytes_beyond_data'] / 1e6:,.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
