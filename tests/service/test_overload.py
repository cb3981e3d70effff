"""Several times more requests than can be answered: what is accepted is answered, the rest refused."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from benchmarks.machine import private_bytes
from service.app import create_app
from service.model import load_model

WORKERS, WAITING = 2, 8
BODY = {"history": ["i1", "i2", "i3", "i4", "i5"], "k": 3}  # of the model's full length
GROWTH_BYTES = 8 * 2**20
OVERLOADED = "urn:recjpq:problem:overloaded"


class GatedEncoder:
    """The model's encoder, which waits until the test opens the gate."""

    def __init__(self, encoder) -> None:
        self.encoder, self.providers = encoder, encoder.providers
        self.gate, self.calls = threading.Event(), 0

    def encode(self, item_codes, lengths):
        self.calls += 1
        assert self.gate.wait(60)
        return self.encoder.encode(item_codes, lengths)


@pytest.fixture
def overloaded(settings, open_client):
    """A client of a service whose encoder waits at a gate, and the encoder."""
    gated = {}

    def load(*given):
        model = load_model(*given)
        gated["encoder"] = GatedEncoder(model.encoder)
        return replace(model, encoder=gated["encoder"])

    limited = settings.model_copy(
        update={
            "inference_workers": WORKERS, "queue_limit": WAITING, "retry_after_s": 3,
            "request_timeout_s": 60.0, "batch_positions": 1,
        }
    )  # fmt: skip
    client = open_client(create_app(limited, load_model=load))
    yield client, gated["encoder"]
    gated["encoder"].gate.set()


def ask(client, body=BODY) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(client.http.post("/recommend", json=body))


async def fill(client, encoder: GatedEncoder) -> list[asyncio.Task[httpx.Response]]:
    """Ask until one is refused, and return those that wait: one in each worker, the others in the queue."""
    waiting = [ask(client) for _ in range(WORKERS)]
    async with asyncio.timeout(30):
        while encoder.calls < WORKERS:  # a worker that came later would make room in a full queue
            await asyncio.sleep(0.001)
    for _ in range(10 * (WORKERS + WAITING)):
        request = ask(client)
        for _ in range(200):  # let it come as far as it gets
            await asyncio.sleep(0)
        if request.done():
            assert request.result().status_code == 503
            return waiting
        waiting.append(request)
    raise AssertionError("nothing was ever refused")


def test_refusals_come_at_once_and_the_accepted_are_answered(overloaded):
    client, encoder = overloaded

    async def run():
        accepted = await fill(client, encoder)
        assert WAITING <= len(accepted) <= WORKERS + WAITING + 1
        refused = await asyncio.gather(*(ask(client) for _ in range(5 * len(accepted))))
        assert not any(request.done() for request in accepted)  # so no refusal waited for an answer
        for response in refused:
            assert response.status_code == 503
            assert response.headers["retry-after"] == "3"
            assert response.json()["type"] == "urn:recjpq:problem:overloaded"
        calls = encoder.calls
        assert calls <= WORKERS  # a refused request costs no encoder call
        for path in ("/livez", "/readyz", "/metrics", "/model"):  # the operator still sees
            assert (await client.http.get(path)).status_code == 200
        encoder.gate.set()
        answers = await asyncio.gather(*accepted)
        assert {answer.status_code for answer in answers} == {200}
        assert {len(answer.json()["items"]) for answer in answers} == {3}
        after = [(await client.http.post("/recommend", json=BODY)).status_code for _ in range(WAITING)]
        assert after == [200] * WAITING  # at once: the very next ones

    client.runner.run(run())


def test_what_needs_no_inference_is_answered_in_an_overload(overloaded):
    client, encoder = overloaded

    async def run():
        accepted = await fill(client, encoder)
        popular = await client.http.post("/recommend", json={"history": [], "k": 3})
        assert (popular.status_code, popular.json()["strategy"]) == (200, "popular")
        events = {"events": [{"item_id": "i1", "event_id": "e"}]}
        assert (await client.http.post("/users/u/events", json=events)).status_code == 200
        encoder.gate.set()
        await asyncio.gather(*accepted)

    client.runner.run(run())


def test_memory_is_bounded_however_many_are_refused(overloaded):
    client, encoder = overloaded
    large = {"history": ["i1"] * 5000}  # as much as a request may bring

    async def refuse(times: int) -> None:
        for _ in range(times):
            responses = await asyncio.gather(*(ask(client, large) for _ in range(20)))
            assert {response.status_code for response in responses} == {503}

    async def run():
        accepted = await fill(client, encoder)
        await refuse(10)
        before = private_bytes()
        await refuse(60)
        grown = private_bytes() - before
        encoder.gate.set()
        await asyncio.gather(*accepted)
        return grown

    assert client.runner.run(run()) < GROWTH_BYTES


def test_what_nobody_waits_for_any_more_is_not_computed(overloaded):
    client, encoder = overloaded

    async def run():
        accepted = await fill(client, encoder)
        for request in accepted:
            request.cancel()
        await asyncio.gather(*accepted, return_exceptions=True)
        calls = encoder.calls
        encoder.gate.set()
        while (await client.http.post("/recommend", json=BODY)).status_code != 200:
            pass  # a worker is still dropping what was given up
        assert encoder.calls == calls + 1
        registry = client.app.state.serving.metrics.registry
        assert registry.get_sample_value("recjpq_queue_depth") == 0

    client.runner.run(run())


def test_a_process_that_is_asked_for_far_more_than_it_can_answers_what_it_takes(start_service):
    """Over sockets: batches with explanations, from forty clients at once."""
    service = start_service(inference_workers=1, queue_limit=2)
    heavy = {"requests": [{**BODY, "include": ["explanation"]}] * 100}
    answers: list[httpx.Response] = []

    async def keep_asking(client: httpx.AsyncClient) -> None:
        answers.extend([await client.post("/recommend/batch", json=heavy) for _ in range(5)])

    async def overload() -> list[float]:
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits) as client:
            asking = [asyncio.create_task(keep_asking(client)) for _ in range(40)]
            alive = []
            while not all(task.done() for task in asking):
                alive.append((await client.get("/livez")).elapsed.total_seconds())
            await asyncio.gather(*asking)
            return alive

    before = resident_bytes(service.process.pid)
    alive = asyncio.run(overload())
    statuses = {response.status_code for response in answers}
    assert statuses == {200, 503}
    for response in answers:
        if response.status_code == 503:
            assert (response.json()["type"], response.headers["retry-after"]) == (OVERLOADED, "1")
        else:
            assert all(len(result["items"]) == 3 for result in response.json()["results"])
    assert len(alive) > 3  # it went on answering what costs nothing, all the while
    assert max(alive) < 10
    assert resident_bytes(service.process.pid) - before < 64 * 2**20
    assert httpx.post(f"{service.url}/recommend", json=BODY).status_code == 200  # at once


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    [kibibytes] = [line.split()[1] for line in status if line.startswith("VmRSS")]
    return int(kibibytes) * 1024
