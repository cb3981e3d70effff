"""Where the microseconds of one `POST /recommend` go, layer by layer, with nothing else running.

    python -m benchmarks.profile_service --artifact DIR [--dataset DIR] [--items N]

Each layer is timed alone in this process, one call after the other: medians and means of the calls. The
application is called without a server; what the server, its loop and the sockets add is the difference
between that and the processor time of a request to a real one. The application's call holds the layers before
it.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from starlette.types import Message

from benchmarks import load
from benchmarks.load_process import generator, get
from benchmarks.service_data import Histories, Source, item_ids, make_artifact
from benchmarks.service_measure import measure
from benchmarks.service_process import running_service
from benchmarks.service_traffic import Traffic, fill_store, make_traffic
from service.api.schemas.recommend import RecommendRequest
from service.app import create_app
from service.model import Model, load_model
from service.settings import Settings

REPEATS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile_service",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--items", type=int, default=1_000_000, help="0: those of the artifact")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--directory", type=Path, default=Path("runs/bench"))
    options = parser.parse_args(arguments)
    source = Source.trained(options.artifact, options.dataset, options.requests)
    artifact, histories = make_artifact(
        options.directory / "artifacts", source, options.items or len(source.codes)
    )
    with tempfile.TemporaryDirectory() as directory:
        values: dict[str, Any] = {
            "model_path": artifact,
            "store_url": f"sqlite:///{directory}/store.sqlite3",
            "drain_s": 0,
        }
        if "state_path" in Settings.model_fields:
            values["state_path"] = Path(directory) / "state"
        settings = Settings(**values)
        rows = {**_layers(load_model(settings, artifact), histories), **_application(settings, histories)}
        _print(rows)
        _server(values, histories, options.directory / "profile.log")
    return 0


def _layers(model: Model, histories: Histories) -> dict[str, list[float]]:
    """Time what the application does for one history, step by step, in seconds."""
    catalogue, longest = model.catalogue, model.description.max_length
    ids = [item_ids(history) for history in histories]
    bodies = [json.dumps({"history": entry, "k": 10}).encode() for entry in ids]
    codes = [catalogue.item_codes[history[-longest:]][None] for history in histories]  # (1, L, M) each
    lengths = [np.array([entry.shape[1]], dtype=np.int64) for entry in codes]
    tables = [model.encoder.encode(*pair) for pair in zip(codes, lengths, strict=True)]
    best = [model.scorer.top_k(table, 10, exclude=[history])[0]
            for table, history in zip(tables, histories, strict=True)]  # fmt: skip
    number = len(histories)
    return {
        "parse and check the body": _timed(lambda i: RecommendRequest.model_validate_json(bodies[i]), number),
        "look the ids up": _timed(lambda i: catalogue.indices_of(ids[i]), number),
        "gather the history's codes": _timed(
            lambda i: catalogue.item_codes[histories[i][-longest:]][None], number
        ),
        "encode": _timed(lambda i: model.encoder.encode(codes[i], lengths[i]), number),
        "score": _timed(lambda i: model.scorer.top_k(tables[i], 10, exclude=[histories[i]]), number),
        "ids and metadata of the best": _timed(
            lambda i: (catalogue.ids_of(best[i].ids), catalogue.metadata_of(best[i].ids)), number
        ),
    }


def _application(settings: Settings, histories: Histories) -> dict[str, list[float]]:
    """Time whole calls of the application, without a server."""
    app = create_app(settings)
    bodies = [json.dumps({"history": item_ids(history), "k": 10}).encode() for history in histories]

    async def call(method: str, path: str, body: bytes) -> None:
        status = 0

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        await app(scope, receive, send)
        if status != 200:
            raise RuntimeError(f"{method} {path} was answered {status}")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        try:
            number = len(bodies)
            return {
                "application: GET /livez": _timed(lambda _: runner.run(call("GET", "/livez", b"")), number),
                "application: POST /recommend": _timed(
                    lambda i: runner.run(call("POST", "/recommend", bodies[i])), number
                ),
                "(an empty run of the loop, part of both)": _timed(
                    lambda _: runner.run(asyncio.sleep(0)), number
                ),
            }
        finally:
            runner.run(lifespan.__aexit__(None, None, None))


def _server(settings: dict[str, object], histories: Histories, log: Path) -> None:
    """Print what a request takes of a real service's processor, and what its stages say."""
    traffic = make_traffic(histories, 4 * len(histories))
    with running_service(settings, log) as service, generator() as process:
        process.submit(load.run, fill_store(service.port, traffic)).result()
        for name, requests in (("GET /livez", [get("/livez")]), ("POST /recommend", traffic.requests)):
            due_s = load.all_at_once(5 * len(histories))
            asked = Traffic([], requests)
            measure(service, process, asked, due_s, connections=1)
            run = measure(service, process, asked, due_s, connections=1)
            print(
                f"\nserver: {name}, one at a time: p50 {run['since_sent']['p50_ms'] * 1e3:.0f} microseconds, "
                f"{run['cpu_ms_per_request'] * 1e3:.0f} of processor time"
            )
            for stage, taken in run["stages"].items():
                print(f"    {stage:10} {taken['p50_ms'] * 1e3:8.0f}  (mean {taken['mean_ms'] * 1e3:.0f})")


def _timed(call: Callable[[int], object], number: int) -> list[float]:
    """Return the seconds of each call, the best of a few."""
    for index in range(min(number, 50)):
        call(index)
    taken = np.full((REPEATS, number), np.inf)
    for repeat in range(REPEATS):
        for index in range(number):
            started = time.perf_counter()
            call(index)
            taken[repeat, index] = time.perf_counter() - started
    seconds: list[float] = taken.min(axis=0).tolist()
    return seconds


def _print(rows: dict[str, list[float]]) -> None:
    print(f"{'microseconds':42} {'median':>8} {'mean':>8} {'p90':>8}")
    for name, seconds in rows.items():
        values = (np.median(seconds), np.mean(seconds), np.percentile(seconds, 90))
        print(f"{name:42} " + " ".join(f"{value * 1e6:8.1f}" for value in values))


if __name__ == "__main__":
    sys.exit(main())
