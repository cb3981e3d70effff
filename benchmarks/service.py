"""The service under open-loop load, as users would meet it: latency, rate, processor time, memory, start.

    python -m benchmarks.service                               a small model, trained first (some minutes)
    python -m benchmarks.service --artifact DIR --dataset DIR  a trained one; larger catalogues are like it
    python -m benchmarks.service --quick                       a smoke run

The service is `python -m service` in processes of its own, the load generator is another, and both share the
machine. Requests arrive by a Poisson schedule that is decided beforehand, and latency counts from when a
request was due. Results, with histograms of every run, go to a JSON file; `--docs` also renews the README's
table.
"""

import argparse
import http.client
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import load, service_report
from benchmarks.load_process import generator, measure_generator
from benchmarks.machine import machine, today, versions
from benchmarks.service_data import Histories, Source, make_artifact, of_full_length, stand_in
from benchmarks.service_measure import highest_rate, measure
from benchmarks.service_process import RunningService, running_redis, running_service
from benchmarks.service_traffic import Traffic, fill_store, make_traffic
from service.settings import Settings

SCHEMA_VERSION = 1
MILLION = 1_000_000
PEER, OURS = "benchmarks.service_peer", "service"
FIXED_RATES = {MILLION: (500.0, 1000.0), 10 * MILLION: (250.0, 500.0)}
"""Requests per second that are asked for on catalogues of a size, whatever the highest rate is."""
OTHER_RATES = (500.0,)
COMPARED = 50


class DisagreementError(Exception):
    """The peer gave other items than the service."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all runs share."""

    options: argparse.Namespace
    generator: ProcessPoolExecutor
    results: dict[str, Any]

    @property
    def seconds(self) -> float:
        """Of one run."""
        seconds: float = self.options.seconds
        return seconds

    def keep(self, kind: str, row: dict[str, Any]) -> None:
        """Add a result and write the file: a long run may be cut short."""
        self.results[kind].append(row)
        output: Path = self.options.output
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(self.results) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns 1 if the peer's answers are others."""
    options = _options(arguments)
    results: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "date": today(), "machine": machine(), "versions": versions(),
        "settings": {"seconds": options.seconds, "users": options.users, "k": options.k},
        "generator": measure_generator(seconds=min(5.0, options.seconds)),
        "services": [], "peer": [], "single": [],
    }  # fmt: skip
    print(f"generator: {results['generator']}", flush=True)
    trained = _source(options)
    with generator() as process:
        bench = Bench(options, process, results)
        try:
            for source, num_items in _catalogues(options, trained):
                _measure_catalogue(bench, source, num_items)
            if options.peer:
                _measure_peer(bench, trained, options.peer)
            if options.single:
                _measure_single(bench, options.single)
        except DisagreementError as error:
            print(error, file=sys.stderr)
            return 1
    print(f"written: {options.output}")
    return service_report.main([str(options.output)]) if options.docs else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.service",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--artifact",
        type=Path,
        help="an artifact, or a directory of versions; by default a stand-in is trained",
    )
    add("--dataset", type=Path, help="what it was trained on: its users ask; by default made-up ones do")
    add("--items", type=int, nargs="*", default=[10_000, 100_000, MILLION, 10 * MILLION], metavar="N",
        help="sizes of the catalogues like the trained one")  # fmt: skip
    add("--random", type=int, nargs="*", default=[MILLION], metavar="N",
        help="sizes of the catalogues of uniform codes under an encoder that was never trained")  # fmt: skip
    add("--stores", nargs="+", choices=["sqlite", "redis"], default=["sqlite", "redis"])
    add("--workers", type=int, nargs="+", default=[1, 2])
    add("--rates", type=float, nargs="*", help="requests per second beside the highest (default: by size)")
    add("--seconds", type=float, default=10.0, help="of each run")
    add("--steps", type=int, default=6, help="runs of the search for the highest rate")
    add("--users", type=int, default=5000, help="with a stored history")
    add("--k", type=int, default=10)
    add("--peer", type=int, default=MILLION, metavar="N", help="the catalogue of the comparison; 0: none")
    add("--single", type=int, default=MILLION, metavar="N",
        help="the catalogue of one user's requests with d=512, L=200; 0: none")  # fmt: skip
    add("--quick", action="store_true", help="a smoke run: small, short, its numbers mean nothing")
    add("--directory", type=Path, default=Path("runs/bench"), help="where artifacts are kept")
    add("--output", type=Path, default=Path("runs/bench/service.json"))
    add("--docs", action="store_true", help="also write README.md's table")
    options = parser.parse_args(arguments)
    if options.quick:
        vars(options).update(
            items=[], random=[], stores=["sqlite"], rates=[20.0], seconds=0.5, steps=2, users=20, single=0,
            workers=[1], peer=0 if options.peer == 0 else -1,
        )  # fmt: skip
    return options


def _source(options: argparse.Namespace) -> Source:
    artifact, dataset = options.artifact, options.dataset
    if artifact is None:
        artifact, dataset = stand_in(options.directory, quick=options.quick)
    return Source.trained(artifact, dataset, options.users)


def _catalogues(options: argparse.Namespace, trained: Source) -> Iterator[tuple[Source, int]]:
    yield trained, len(trained.codes)
    for num_items in options.items:
        yield trained, num_items
    if options.random:
        source = Source.random(options.directory, dim=128, max_length=50, users=options.users)
        for num_items in options.random:
            yield source, num_items


def _measure_catalogue(bench: Bench, source: Source, num_items: int) -> None:
    options = bench.options
    artifact, histories = make_artifact(options.directory / "artifacts", source, num_items)
    rates = FIXED_RATES.get(num_items, OTHER_RATES) if options.rates is None else options.rates
    supported = [workers for workers in options.workers if workers == 1 or "workers" in Settings.model_fields]
    for store in options.stores:
        for workers in supported:
            about = {"kind": source.kind, "items": num_items, "store": store, "workers": workers}
            print(f"\n{about}", flush=True)
            with _ready(bench, artifact, histories, store, workers) as (service, traffic):
                about |= {"ready_s": round(service.ready_s, 3), "memory": service.memory()}
                bench.keep("services", about | _measure_service(bench, service, traffic, rates))


def _measure_service(
    bench: Bench, service: RunningService, traffic: Traffic, rates: Sequence[float]
) -> dict[str, Any]:
    idle = _idle(bench, service, traffic)
    print(f"ready after {service.ready_s:.2f} s, {service.memory()['rss_bytes'] / 2**20:,.0f} MiB")
    print(f"one at a time: p50 {idle['since_sent']['p50_ms']:.2f} ms", flush=True)
    fixed = []
    for rate in rates:
        due_s = load.poisson(rate, bench.seconds, seed=0)
        run = measure(service, bench.generator, traffic, due_s) | {"rate": rate, "arrivals": "poisson"}
        print(f"{rate:.0f}/s: {_line(run)}", flush=True)
        fixed.append(run)
    best = highest_rate(service, bench.generator, traffic, seconds=bench.seconds, steps=bench.options.steps)
    print(
        f"highest with p90 <= 50 ms: {best['rate']:.0f}/s, {_line(best) if best['rate'] else ''}", flush=True
    )
    return {"idle": idle, "fixed": fixed, "highest": best}


def _measure_peer(bench: Bench, source: Source, num_items: int) -> None:
    """Compare with the peer on one catalogue (-1: the real one), once both gave the same items."""
    num_items = num_items if num_items > 0 else len(source.codes)
    artifact, histories = make_artifact(bench.options.directory / "artifacts", source, num_items)
    answers: dict[str, list[Any]] = {}
    for module in (OURS, PEER):
        print(f"\n{module}, {num_items:,} items", flush=True)
        with _ready(bench, artifact, histories, "sqlite", 1, module) as (service, traffic):
            answers[module] = _answers(service, traffic)
            if answers[module] != answers[OURS]:
                raise DisagreementError(f"{module} gave other items than {OURS}, so it is not measured")
            row = {"module": module, "items": num_items, "memory": service.memory()}
            bench.keep("peer", row | _measure_service(bench, service, traffic, []))


def _measure_single(bench: Bench, num_items: int) -> None:
    """One user at a time with the widest model of the published comparisons; nothing of it is trained."""
    directory = bench.options.directory
    source = of_full_length(Source.random(directory, dim=512, max_length=200, users=1), users=50)
    artifact, histories = make_artifact(directory / "artifacts", source, num_items)
    for threads in (1, 2):
        print(f"\nd=512, L=200, {num_items:,} items, {threads} encoder threads", flush=True)
        settings: dict[str, object] = {"encoder_threads": threads}
        with _ready(bench, artifact, histories, "sqlite", 1, settings=settings) as (service, traffic):
            idle = _idle(bench, service, traffic)
            print(f"one at a time: {idle['since_sent']}", flush=True)
            row = {"dim": 512, "max_length": 200, "items": num_items, "encoder_threads": threads}
            bench.keep("single", row | {"idle": idle})


@contextmanager
def _ready(
    bench: Bench,
    artifact: Path,
    histories: Histories,
    store: str,
    workers: int,
    module: str = OURS,
    settings: dict[str, object] | None = None,
) -> Iterator[tuple[RunningService, Traffic]]:
    """Start a service, store the users' histories and warm it up."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(running_redis()) if store == "redis" else None
        values: dict[str, object] = {
            "model_path": artifact, "drain_s": 0,
            "store_url": redis or f"sqlite:///{directory}/store.sqlite3",
        } | (settings or {})  # fmt: skip
        if "state_path" in Settings.model_fields:
            values["state_path"] = directory / "state"
        if workers > 1:
            values["workers"] = workers
        service = stack.enter_context(
            running_service(values, bench.options.directory / "service.log", module)
        )
        traffic = make_traffic(histories, min(20_000, 50 * len(histories)), k=bench.options.k)
        filled = bench.generator.submit(load.run, fill_store(service.port, traffic)).result()
        if filled.unexpected or set(filled.status.tolist()) != {200}:
            raise RuntimeError(f"the store could not be filled: {filled.example[:500]!r}")
        measure(service, bench.generator, traffic, load.all_at_once(100), connections=2)  # warm
        yield service, traffic


def _idle(bench: Bench, service: RunningService, traffic: Traffic) -> dict[str, Any]:
    """Ask one request after the other, for a tenth of a run's length or so."""
    requests = max(20, int(bench.seconds * 50))
    return measure(service, bench.generator, traffic, load.all_at_once(requests), connections=1)


def _answers(service: RunningService, traffic: Traffic) -> list[Any]:
    """Return the item ids that some requests are answered with."""
    connection, found = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60), []
    for request in traffic.requests[:COMPARED]:
        body = request.partition(load.HEAD_END)[2]
        connection.request("POST", "/recommend", body)
        found.append([item["item_id"] for item in json.loads(connection.getresponse().read())["items"]])
    connection.close()
    return found


def _line(run: dict[str, Any]) -> str:
    latency = ", ".join(
        f"{name[:-3]} {run['latency'].get(name, 0):.1f}" for name in ("p50_ms", "p90_ms", "p99_ms")
    )
    wrong = f"{run['refused']} refused, {run['failed']} failed, {run['not_by_model']} not by the model"
    return (
        f"{latency} ms; {run['achieved_per_s']:.0f}/s; {wrong}; {run['cpu_ms_per_request']:.2f} ms CPU each"
    )


if __name__ == "__main__":
    sys.exit(main())
