"""The service's results as a reader sees them: the tables of README and docs, made from the JSON file.

python -m benchmarks.service_report [runs/bench/service.json]
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import renew, short, size

BEGIN, END = "<!-- service:begin -->", "<!-- service:end -->"
STAGES = ("store", "queue", "encode", "score", "respond")

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Renew the tables from a results' file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service_report", description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path("runs/bench/service.json"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--details", type=Path, default=Path("docs/operations.md"))
    options = parser.parse_args(arguments)
    results = json.loads(options.results.read_text())
    try:
        renew(options.readme, BEGIN, END, summary(results))
        renew(options.details, BEGIN, END, details(results))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def summary(results: Row) -> str:
    """Return what a front page needs: the highest rates, with where, when and how they were measured."""
    parts = [_provenance(results), _table(_HEADINGS, [_service(row) for row in results["services"]])]
    if results["peer"]:
        parts += [_peer(results["peer"])]
    if results["single"]:
        parts += [_single(results["single"])]
    return "\n\n".join(parts)


def details(results: Row) -> str:
    """Return the tables at given rates and of the stages."""
    parts = [f"Measured on {results['date']} on {results['machine']['cpu']}, as the README's table."]
    if fixed := [cells for row in results["services"] for cells in _fixed(row)]:
        parts += ["At given rates, whatever comes of it:", _table(_FIXED_HEADINGS, fixed)]
    parts += [
        "Where a request's milliseconds go, one at a time (medians by the answers' `Server-Timing`; "
        "processor time is the whole service's, per request):",
        _table(
            ("catalogue", *STAGES, "sent to answered", "CPU ms"),
            [_stages(row) for row in results["services"]],
        ),
    ]
    return "\n\n".join(parts)


_HEADINGS = ("catalogue", "one at a time, p50 ms", "highest rate /s", "p50", "p90", "p99", "p99.9",
             "CPU ms", "RSS MiB", "PSS MiB", "ready s")  # fmt: skip
_FIXED_HEADINGS = ("catalogue", "asked /s", "answered /s", "p50", "p90", "p99", "p99.9", "refused", "failed",
                   "not by the model")  # fmt: skip


def _provenance(results: Row) -> str:
    machine, settings, generator = results["machine"], results["settings"], results["generator"]
    return (
        f"Measured on {results['date']} on {machine['cpu']} ({machine['cores']} cores for service, store and "
        f"load generator together; load {machine['load']} at the start). SASRec, d=128, L=50, M=8, top "
        f"{settings['k']}, {settings['users']:,} users; half of the requests name a user, half bring their "
        f"history. Poisson arrivals, runs of {settings['seconds']:g} s; latency in ms from when a request "
        "was due. *Highest rate*: the highest tried with p90 at most 50 ms, nothing refused, every answer "
        f"the model's. The generator itself takes {generator['cpu_us_per_request']:.0f} µs a request. "
        "*Random*: uniform codes and an untrained encoder, which no bound can prune."
    )


def _name(row: Row) -> str:
    workers = f", {row['workers']} workers" if row["workers"] > 1 else ""
    return f"{row['kind']} {size(row['items'])}, {row['store']}{workers}"


def _service(row: Row) -> list[str]:
    best, memory = row["highest"], row["highest"].get("memory", row["memory"])
    return [
        _name(row), short(row["idle"]["since_sent"]["p50_ms"]), f"{best['rate']:,.0f}", *_latencies(best),
        short(best.get("cpu_ms_per_request", 0)), f"{memory['rss_bytes'] / 2**20:,.0f}",
        f"{memory['pss_bytes'] / 2**20:,.0f}", f"{row['ready_s']:.1f}",
    ]  # fmt: skip


def _fixed(row: Row) -> list[list[str]]:
    return [
        [_name(row), f"{run['rate']:,.0f}", f"{run['achieved_per_s']:,.0f}", *_latencies(run),
         f"{run['refused']:,}", f"{run['failed']:,}", f"{run['not_by_model']:,}"]
        for run in row["fixed"]
    ]  # fmt: skip


def _stages(row: Row) -> list[str]:
    idle = row["idle"]
    times = [short(idle["stages"][stage]["p50_ms"]) if stage in idle["stages"] else "" for stage in STAGES]
    return [_name(row), *times, short(idle["since_sent"]["p50_ms"]), short(idle["cpu_ms_per_request"])]


def _peer(rows: list[Row]) -> str:
    ours, peer = rows[0], rows[-1]
    our_rate, peer_rate = ours["highest"]["rate"], peer["highest"]["rate"]
    our_ms, peer_ms = ours["idle"]["since_sent"]["p50_ms"], peer["idle"]["since_sent"]["p50_ms"]
    rates = (
        f"{our_rate:,.0f}/s to {peer_rate:,.0f}/s ({our_rate / peer_rate:.1f}x)"
        if peer_rate
        else f"{our_rate:,.0f}/s, and no rate at which the graph's p90 is 50 ms"
    )
    return (
        f"Against the same encoder and server with the scoring inside the ONNX graph (`recommender.onnx`), "
        f"{size(ours['items'])} items, same answers: {rates}; one at a time {short(our_ms)} to "
        f"{short(peer_ms)} ms ({peer_ms / our_ms:.0f}x)."
    )


def _single(rows: list[Row]) -> str:
    times = ", ".join(
        f"{short(row['idle']['since_sent']['p50_ms'])} ms with {row['encoder_threads']} encoder "
        f"thread{'s' * (row['encoder_threads'] > 1)}"
        for row in rows
    )
    return f"One user's requests, d=512, L=200, {size(rows[0]['items'])} items, end to end, p50: {times}."


def _latencies(run: Row) -> list[str]:
    latency = run.get("latency", {})
    return [
        short(latency[name]) if name in latency else "" for name in ("p50_ms", "p90_ms", "p99_ms", "p99.9_ms")
    ]


def _table(headings: Sequence[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(headings)} |", f"|---|{'---:|' * (len(headings) - 1)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


if __name__ == "__main__":
    sys.exit(main())
