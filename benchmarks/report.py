"""The results as a reader sees them: the tables of README and docs and the plot, made from the JSON file.

python -m benchmarks.report [runs/bench/scoring.json]
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.methods import LABELS
from benchmarks.peers import PEERS
from benchmarks.plot import plot

BEGIN, END = "<!-- scoring:begin -->", "<!-- scoring:end -->"
KINDS = {"gaussian": "random", "trained": "trained", "resampled": "like trained"}
INSTRUCTIONS = {"avx2": "AVX2", "avx512bw": "AVX-512", "avx512vbmi": "AVX-512 VBMI", "asimd": "NEON"}

PEER_NAMES = {candidate.name for candidate in PEERS}

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Renew the tables and the plot from a results' file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path("runs/bench/scoring.json"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--details", type=Path, default=Path("docs/scoring.md"))
    parser.add_argument("--plot", type=Path, default=Path("docs/scoring.svg"))
    options = parser.parse_args(arguments)
    results = json.loads(options.results.read_text())
    plot(results, options.plot)
    print(f"written: {options.plot}")
    try:
        renew(options.readme, BEGIN, END, summary(results))
        renew(options.details, BEGIN, END, details(results))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def renew(readme: Path, begin: str, end: str, content: str) -> None:
    """Write what stands between two marks of a file.

    Raises:
        ValueError: the file lacks the marks.
    """
    text = readme.read_text()
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{readme}: expected one line {begin} and, after it, one line {end}")
    before, after = text[: text.index(begin)], text[text.index(end) :]
    readme.write_text(f"{before}{begin}\n{content}\n{after}")
    print(f"written: {readme}")


def summary(results: Row) -> str:
    """Return what a front page needs: the shortest lists, with where, when and how they were measured."""
    return "\n\n".join([_provenance(results), *_latencies(results, _ks(results)[0], "warm")])


def details(results: Row) -> str:
    """Return every other table."""
    parts = [f"Measured on {results['date']} on {results['machine']['cpu']}, as the README's table."]
    first, *others = _ks(results)
    for k, caches in (*((k, "warm") for k in others), (first, "cold")):
        parts += _latencies(results, k, caches)
    if results.get("worst_case"):
        parts += [
            "The worst case: this project's time over its own plain scan's, which looks at every item, query "
            "by query; median (largest):",
            _worst_case(results),
        ]
    if results["memory"]:
        parts += [
            "What each method costs: its own memory besides the codes, a byte a split, which all processes "
            "share; the most that was resident while building, codes included, over the codes' own size; and "
            f"top-10 throughput in batches of {results['settings']['batch']}:",
            _costs(results),
        ]
    if results["filters"]:
        parts += [
            "Top 10 of a part of the catalogue; milliseconds, median (99th percentile):",
            _filters(results),
        ]
    return "\n\n".join(parts)


def _ks(results: Row) -> list[int]:
    return sorted({row["k"] for row in results["latency"]})


def _latencies(results: Row, k: int, caches: str) -> list[str]:
    return [
        f"Top {k}, one query at a time on one core, {caches}; milliseconds, median (99th percentile):",
        _latency(results, k, caches),
    ]


def _provenance(results: Row) -> str:
    machine, versions = results["machine"], results["versions"]
    instructions = ", ".join(INSTRUCTIONS[name] for name in machine["instructions"])
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    left_out = "; ".join(
        f"{LABELS[row['method']]} on {row['workload']} ({row['reason']})"
        for row in results["skipped"]
        if row["method"] in PEER_NAMES
    )
    return (
        f"Measured on {results['date']} on {machine['cpu']} (family {machine['family']}, model "
        f"{machine['model']}; {instructions or machine['architecture']}; {machine['cores']} cores, load "
        f"{machine['load']} at the start) with {libraries}. "
        "Every method gave the answers of the NumPy specification before it was timed. "
        "The matrix product and FAISS start from the query vector, the others from the score table. "
        "*Random*: Gaussian tables and uniform codes. *Trained*: an encoder's tables of real histories over "
        "its own catalogue. *Like trained*: the same tables over that catalogue's codes, drawn again and "
        "perturbed. *Warm*: after other queries of the same method; *cold*: after so much other data that "
        "nothing of the catalogue is cached." + (f" Left out: {left_out}." if left_out else "")
    )


def _columns(results: Row) -> dict[str, str]:
    """Return the heading of every workload: its kind and size, and its name where others have the same."""
    kinds = [f"{KINDS[entry['kind']]} {size(entry['items'])}" for entry in results["workloads"]]
    return {
        entry["name"]: f"{kind}, {entry['name'].rpartition('-')[0]}" if kinds.count(kind) > 1 else kind
        for entry, kind in zip(results["workloads"], kinds, strict=True)
    }


def _latency(results: Row, k: int, caches: str) -> str:
    rows = [row for row in results["latency"] if row["k"] == k and row["caches"] == caches]
    cells = {(row["method"], row["workload"]): _cell(row) for row in rows}
    return _table("items", _columns(results), _ordered(row["method"] for row in rows), cells)


def _filters(results: Row) -> str:
    headings = _columns(results)
    cells = {(f"{LABELS[row['method']]}, {headings[row['workload']]}", row["filter"]): _cell(row)
             for row in results["filters"]}  # fmt: skip
    columns = {row["filter"]: row["filter"] for row in results["filters"]}
    return _table("", columns, list(dict.fromkeys(name for name, _ in cells)), cells)


def _worst_case(results: Row) -> str:
    cells = {(f"top {row['k']}", row["workload"]): f"{row['ratio_p50']:.3f} ({row['ratio_max']:.2f})"
             for row in results["worst_case"]}  # fmt: skip
    return _table("items", _columns(results), list(dict.fromkeys(name for name, _ in cells)), cells)


def _costs(results: Row) -> str:
    headings = _columns(results)
    cells: dict[tuple[str, str], str] = {}
    for row in results["memory"]:
        name = f"{LABELS[row['method']]}, {headings[row['workload']]}"
        cells[name, "build s"] = f"{row['build_s']:.2f}"
        cells[name, "bytes/item"] = f"{max(0.0, row['private_bytes_per_item']):.1f}"
        if "peak_with_codes_bytes" in row:
            cells[name, "peak/codes"] = f"{row['peak_with_codes_bytes'] / row['codes_bytes']:.2f}"
    for row in results["throughput"]:
        name = f"{LABELS[row['method']]}, {headings[row['workload']]}"
        column = f"queries/s, {row['threads']} {'core' if row['threads'] == 1 else 'cores'}"
        cells[name, column] = f"{row['queries_per_s']:,.0f}"
    columns = {column: column for _, column in cells}
    return _table("", columns, list(dict.fromkeys(name for name, _ in cells)), cells)


def size(items: int) -> str:
    """Return a number of items in few characters."""
    for unit, scale in (("M", 1_000_000), ("k", 1_000)):
        if items >= scale and items % scale == 0:
            return f"{items // scale} {unit}"
    return f"{items:,}"


def _cell(row: Row) -> str:
    return f"{short(row['p50_ms'])} ({short(row['p99_ms'])})"


def short(milliseconds: float) -> str:
    """Return about three significant digits, and no exponent."""
    digits = 0 if milliseconds >= 100 else 1 if milliseconds >= 10 else 2 if milliseconds >= 1 else 3
    return f"{milliseconds:,.{digits}f}"


def _ordered(names: Iterable[str]) -> list[str]:
    present = set(names)
    return [name for name in LABELS if name in present]


def _table(corner: str, columns: dict[str, str], names: list[str], cells: dict[tuple[str, str], str]) -> str:
    lines = [f"| {corner} | {' | '.join(columns.values())} |", f"|---|{'---:|' * len(columns)}"]
    for name in names:
        values = " | ".join(cells.get((name, column), "") for column in columns)
        lines.append(f"| {LABELS.get(name, name)} | {values} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
