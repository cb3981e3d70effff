"""Exact top-k over a catalogue of codes: this project's kernel beside its peers, validated, then timed.

    python -m benchmarks.scoring                               random tables, 100 thousand to 10 million items
    python -m benchmarks.scoring --artifact DIR --dataset DIR  a trained catalogue and larger ones like it too

One process, one core, one thread; methods take turns query by query. Only what has given the answers of the
NumPy specification is timed. Results go to a JSON file; `--docs` also renews the README's table and the plot.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import data, report
from benchmarks.data import Workload
from benchmarks.filters import measure_filters
from benchmarks.machine import machine, today, versions
from benchmarks.measure import cold, one_core, timed, warm
from benchmarks.memory import measure_memory
from benchmarks.method import Candidate, Method
from benchmarks.methods import CANDIDATES
from benchmarks.ours import SPECIFICATION
from benchmarks.peers import limit_threads, load_libraries
from benchmarks.throughput import measure_throughput
from benchmarks.validate import DisagreementError, validate
from benchmarks.worst_case import measure_worst_case

SCHEMA_VERSION = 1
VALIDATED_SECONDS = 10.0
CACHES = {"warm": warm, "cold": cold}
FEWEST_VALIDATED, MOST_VALIDATED = 3, 20
FILTERED_QUERIES = 100
LARGEST_DETAILED = 2_000_000
"""More than latency is measured on trained catalogues and on the largest random one up to this size; above it
only what our index costs."""


class LeftOutError(Exception):
    """A method cannot run on a workload."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns 1 if a method is not exact."""
    options = _options(arguments)
    load_libraries()
    limit_threads(1)
    results: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "date": today(), "machine": machine(), "versions": versions(),
        "settings": {"queries": options.queries, "seconds": options.seconds,
                     "batch": options.batch},
        "workloads": [], "skipped": [], "latency": [], "builds": [],
        "worst_case": [], "filters": [], "throughput": [], "memory": [],
    }  # fmt: skip
    try:
        for workload, detailed in _workloads(options):
            results["workloads"].append(workload.describe())
            _measure(workload, options, results, detailed=detailed)
            _write(options.output, results)  # after each, for a long run may be cut short
    except DisagreementError as error:
        print(f"not exact, so nothing more is timed: {error}", file=sys.stderr)
        return 1
    print(f"written: {options.output}")
    return report.main([str(options.output)]) if options.docs else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scoring",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--items", type=int, nargs="*", default=[100_000, 1_000_000, 10_000_000], metavar="N",
        help="sizes of the random catalogues")  # fmt: skip
    add("--artifact", type=Path, action="append", default=[],
        help="an artifact, or a directory of versions; may be repeated, the first one grows")  # fmt: skip
    add("--dataset", type=Path, help="the prepared dataset that the artifacts were trained on")
    add("--grow", type=int, nargs="*", default=[1_000_000, 3_000_000, 10_000_000], metavar="N",
        help="sizes of the catalogues resampled from the artifact's")  # fmt: skip
    add("--k", type=int, nargs="+", default=[10, 100])
    add("--queries", type=int, default=200, help="timed queries of each method")
    add("--seconds", type=float, default=10.0, help="a slower method gets fewer queries, at least 10")
    add("--batch", type=int, default=64, help="queries answered together, to measure throughput")
    add("--methods", nargs="+", choices=[candidate.name for candidate in CANDIDATES], help="default: all")
    add("--core", type=int, help="the core to run on (default: the last one allowed)")
    add("--latency-only", action="store_true", help="leave out filters, batches and memory")
    add("--output", type=Path, default=Path("runs/bench/scoring.json"))
    add("--docs", action="store_true", help="also write README.md's table and docs/scoring.svg")
    options = parser.parse_args(arguments)
    if bool(options.artifact) != (options.dataset is not None):
        parser.error("--artifact and --dataset go together")
    return options


def _workloads(options: argparse.Namespace) -> Iterator[tuple[Workload, bool]]:
    """Make one catalogue at a time, for they are large; say whether to measure more than latency on it."""
    largest = max((size for size in options.items if size <= LARGEST_DETAILED), default=0)
    for num_items in options.items:
        yield data.gaussian(num_items, options.queries), num_items == largest
    for number, artifact in enumerate(options.artifact):
        real = data.trained(artifact, options.dataset, options.queries)
        yield real, True
        for num_items in options.grow if number == 0 else []:
            yield data.resampled(real, num_items), False


def _measure(
    workload: Workload, options: argparse.Namespace, results: dict[str, Any], *, detailed: bool
) -> None:
    print(f"\n{workload.name}: {workload.num_items:,} items, {len(workload.tables)} queries", flush=True)
    names = _measure_latency(workload, options, results)  # its indexes are gone before the next are built
    if options.latency_only:
        return
    if detailed:
        _measure_details(workload, options, results, names)
    elif workload.num_items >= LARGEST_DETAILED and "cpu" in names:
        _measure_memory(workload, ["cpu"], results)


def _measure_latency(workload: Workload, options: argparse.Namespace, results: dict[str, Any]) -> list[str]:
    """Validate and time what can run on this workload, and return its names."""
    methods = _build(workload, options.methods, results)
    ready = {candidate.name: method for candidate, method in methods}
    with one_core(options.core):
        _validate(workload, methods, options.k)
        for k in options.k:
            for caches, measure in CACHES.items():
                taken = measure(ready, len(workload.tables), k, seconds=options.seconds)
                where = {"workload": workload.name, "k": k, "caches": caches}
                rows = [where | {"method": name} | taken[name] for name in ready]
                results["latency"] += rows
                _print_rows(rows, "caches")
            if {"cpu", "cpu-scan"} <= set(ready):
                found = measure_worst_case(workload, ready, k, seconds=options.seconds)
                results["worst_case"].append(found)
                ratios = ", ".join(f"{name} {found[f'ratio_{name}']:.3f}" for name in ("p50", "p99", "max"))
                print(f"{'cpu':>12}  k={k:<4} over its plain scan, query by query: {ratios}", flush=True)
    return list(ready)


def _measure_details(
    workload: Workload, options: argparse.Namespace, results: dict[str, Any], names: list[str]
) -> None:
    with one_core(options.core):
        rows = measure_filters(
            workload,
            validated=FEWEST_VALIDATED,
            num_queries=min(FILTERED_QUERIES, len(workload.tables)),
            seconds=options.seconds,
        )
    results["filters"] += rows
    _print_rows(rows, "filter")
    rows = measure_throughput(workload, batch=options.batch, names=names)
    results["throughput"] += rows
    for row in rows:
        print(f"{row['method']:>12}  {row['threads']} threads  {row['queries_per_s']:>10,.0f} queries/s")
    _measure_memory(workload, [name for name in names if name != "cpu-scan"], results)


def _measure_memory(workload: Workload, names: list[str], results: dict[str, Any]) -> None:
    rows = measure_memory(workload, names)
    results["memory"] += rows
    for row in rows:
        peak = row["peak_with_codes_bytes"] / row["codes_bytes"]
        print(
            f"{row['method']:>12}  {row['private_bytes_per_item']:>8.2f} private bytes an item, built in "
            f"{row['build_s']:.2f} s; most resident, codes included: {peak:.2f} times the codes",
            flush=True,
        )


def _build(
    workload: Workload, names: Sequence[str] | None, results: dict[str, Any]
) -> list[tuple[Candidate, Method]]:
    """Make ready what can run here; what cannot is stated, never dropped in silence."""
    methods = []
    for candidate in (candidate for candidate in CANDIDATES if not names or candidate.name in names):
        where = {"workload": workload.name, "method": candidate.name}
        try:
            if reason := candidate.why_not(workload):
                raise LeftOutError(reason)
            start = time.perf_counter()
            methods.append((candidate, candidate.build(workload)))
            results["builds"].append(where | {"build_s": round(time.perf_counter() - start, 4)})
        except (LeftOutError, ImportError) as error:
            print(f"{candidate.name} is left out: {error}")
            results["skipped"].append(where | {"reason": str(error)})
    return methods


def _validate(workload: Workload, methods: list[tuple[Candidate, Method]], ks: Sequence[int]) -> None:
    specification = SPECIFICATION.build(workload).query
    seconds, _ = timed(lambda: specification(0, 1))
    affordable = max(FEWEST_VALIDATED, min(MOST_VALIDATED, int(VALIDATED_SECONDS / seconds)))
    others = [(candidate, method) for candidate, method in methods if candidate is not SPECIFICATION]
    validate(workload, specification, others, ks, affordable)


def _print_rows(rows: list[dict[str, Any]], column: str) -> None:
    for row in rows:
        scored = f"  scored {row['scored_items_p50']:,.0f}" if "scored_items_p50" in row else ""
        print(
            f"{row['method']:>12}  k={row['k']:<4} p50 {row['p50_ms']:>10.3f}  p95 {row['p95_ms']:>10.3f}  "
            f"p99 {row['p99_ms']:>10.3f} ms  n={row['queries']:<4} {row[column]}{scored}",
            flush=True,
        )


def _write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
