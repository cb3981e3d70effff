"""A client that closes its connection while its request waits costs nothing more."""

import asyncio
import json
import socket
import threading
from dataclasses import replace
from typing import Any

import uvicorn

from service.app import create_app
from service.model import load_model


class Gate:
    """An encoder that waits until it may go on, and remembers the lengths that it was asked for."""

    providers = ["CPUExecutionProvider"]  # noqa: RUF012

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.open = threading.Event()
        self.open.set()  # for the warm-up
        self.calls: list[list[int]] = []

    def encode(self, item_codes: Any, lengths: Any) -> Any:
        self.calls.append(lengths.tolist())
        assert self.open.wait(20)
        return self._encoder.encode(item_codes, lengths)

    encode_in_place = encode


async def ask(port: int, history: list[str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"history": history}).encode()
    writer.write(b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    return reader, writer


async def until(what: Any) -> None:
    while not what():
        await asyncio.sleep(0.001)


def test_a_request_whose_client_left_is_never_encoded(settings, runner):
    gates: list[Gate] = []

    def load(*at: Any) -> Any:
        model = load_model(*at)
        gates.append(Gate(model.encoder))
        return replace(model, encoder=gates[0])

    app = create_app(settings.model_copy(update={"inference_workers": 1}), load_model=load)

    async def scenario() -> list[bytes]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            await until(lambda: server.started)
            port, (gate,), pool = listener.getsockname()[1], gates, app.state.serving._pool
            gate.open.clear()
            first, first_writer = await ask(port, ["i1"])
            await until(lambda: gate.calls)
            _, leaving = await ask(port, ["i1", "i2"])
            await until(lambda: pool.waiting == 1)
            leaving.close()
            in_progress = app.state.serving.metrics.in_progress
            await until(lambda: in_progress._value.get() == 1)  # the service has noticed
            gate.open.set()
            third, third_writer = await ask(port, ["i1", "i2", "i3"])
            lines = [await reader.readline() for reader in (first, third)]
            for writer in (first_writer, leaving, third_writer):
                writer.close()
                await writer.wait_closed()
            server.should_exit = True
            await serving
            return lines

    assert runner.run(asyncio.wait_for(scenario(), 60)) == [b"HTTP/1.1 200 OK\r\n"] * 2
    assert gates[0].calls == [[1], [3]]
