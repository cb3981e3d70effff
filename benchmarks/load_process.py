"""The load generator in a process of its own, and what it costs against a server that does nothing.

python -m benchmarks.load_process
"""

import asyncio
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, cast

import uvloop

from benchmarks import load

TRIVIAL_BODY = b'{"items":[' + b'{"item_id":"item-0000001","rank":1,"score":1.0},' * 10 + b"]}"
TRIVIAL_ANSWER = (
    b"HTTP/1.1 200 OK\r\nserver-timing: encode;dur=0.500, score;dur=0.500\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(TRIVIAL_BODY), TRIVIAL_BODY)
)


@contextmanager
def generator() -> Iterator[ProcessPoolExecutor]:
    """Give a fresh process for `submit(load.run, plan)`."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        process.submit(int).result()  # started
        yield process


def post(path: str, body: bytes) -> bytes:
    """Return a whole request with a JSON body."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: service\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def get(path: str) -> bytes:
    """Return a whole request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: service\r\n\r\n".encode()


def measure_generator(rate: float = 1000.0, seconds: float = 5.0) -> dict[str, Any]:
    """Return what a request costs the generator, with a server that answers at once."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=_serve_trivially, args=(theirs,), daemon=True)
    server.start()
    theirs.close()  # so that a server that fails ends the wait for its port
    try:
        port = ours.recv()
        requests = [post("/recommend", b'{"history": ["item-0000001"], "k": 10}')]
        with generator() as process:
            plan = load.Plan(port, requests, load.poisson(rate, seconds, seed=0))
            answers = process.submit(load.run, plan).result()
    finally:
        server.terminate()
        server.join()
    latency_us, late_us = (sorted(times * 1e6) for times in (answers.latency_s, answers.late_s))
    return {
        "rate": rate,
        "requests": len(latency_us),
        "answered": int((answers.status == 200).sum()),
        "cpu_us_per_request": round(answers.cpu_s / len(latency_us) * 1e6, 1),
        "latency_p50_us": round(float(latency_us[len(latency_us) // 2]), 1),
        "sent_late_p50_us": round(float(late_us[len(late_us) // 2]), 1),
    }


def _serve_trivially(parent: Connection) -> None:
    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)

        def data_received(self, data: bytes) -> None:  # noqa: ARG002  # asyncio's signature
            self.transport.write(TRIVIAL_ANSWER)  # requests are small: one is one read

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        parent.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


def main() -> int:
    """Print the generator's own cost."""
    for rate in (500.0, 1000.0, 2000.0):
        print(measure_generator(rate))
    return 0


if __name__ == "__main__":
    sys.exit(main())
