"""Real processes under load: ended, killed, orphaned; and what their metrics say."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

BODY = json.dumps({"history": ["i1", "i2"], "k": 3}).encode()
REQUEST = b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class Load:
    """Callers that ask, each once it is answered, until their connection is refused or they are stopped.

    Counts answers by status, and what was lost: a connection that was made, but gave no whole answer.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._stop = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.lost: list[str] = []
        self.refused = 0
        self.answered = threading.Semaphore(0)

    def __enter__(self) -> "Load":
        self._thread.start()
        self.wait_for(50)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for(self, answers: int) -> None:
        """Wait until so many more requests were answered."""
        for _ in range(answers):
            assert self.answered.acquire(timeout=20)

    async def _run(self) -> None:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for kept_alive in (True, False):
                for pause_s in (0, 0, 0, 0.02, 0.02):
                    group.create_task(self._call(kept_alive, pause_s))

    async def _call(self, kept_alive: bool, pause_s: float) -> None:
        while not self._stop.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except ConnectionRefusedError:
                self.refused += 1
                return
            try:
                while await self._ask(reader, writer) and kept_alive and not self._stop.is_set():
                    await asyncio.sleep(pause_s)
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                self.lost.append(repr(error))
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Ask once; say whether the connection may be used again."""
        writer.write(REQUEST)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
        self.statuses[int(head[9:12])] += 1
        self.answered.release()
        return b"connection: close" not in head


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # empty: a zombie
    except FileNotFoundError:
        return False


def workers(service) -> list[int]:
    """The processes that serve, by their command lines."""
    found = children(service.process.pid)
    return [pid for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def log_of(service) -> list[dict]:
    """Its records, without Python's warnings of the metrics' files, which nobody closes."""
    lines = service.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def records(service, message: str) -> list[dict]:
    return [record for record in log_of(service) if record["message"] == message]


def value(service, series: str) -> float:
    """A series' value, asked on a connection of its own; 0.0 if it is not there."""
    text = httpx.get(f"{service.url}/metrics", timeout=20).text
    return float((re.search(rf"^{re.escape(series)} (\S+)$", text, flags=re.MULTILINE) or ["", "0"])[1])


RECOMMENDED = 'recjpq_recommendations_total{strategy="model",variant="champion"}'
ANSWERED = 'recjpq_requests_total{method="POST",route="/recommend",status="200"}'


@pytest.fixture
def start_two(start_service, eventually):
    """Start a service and wait until both its workers serve."""

    def start(**settings):
        service = start_service(workers=2, **settings)
        eventually(lambda: len(records(service, "Application startup complete.")) == 2)
        return service

    return start


@pytest.mark.parametrize(("count", "drain_s"), [(1, 0), (2, 0), (2, 0.3)])
def test_sigterm_under_load_drops_no_request(start_service, eventually, count, drain_s):
    service = start_service(workers=count, drain_s=drain_s, queue_limit=1000)
    eventually(lambda: len(records(service, "Application startup complete.")) == count)
    with Load(service.port) as load:
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == 0
    assert load.lost == []
    assert set(load.statuses) == {200}
    assert load.refused == 10  # the load did not end before the service
    assert len(records(service, "Application shutdown complete.")) == count


def test_the_others_go_on_when_a_worker_is_killed_and_it_is_started_again(start_two, eventually):
    service = start_two(queue_limit=1000)
    before = workers(service)
    with Load(service.port) as load:
        os.kill(before[0], signal.SIGKILL)
        load.wait_for(100)
        eventually(lambda: len(records(service, "Application startup complete.")) == 3)
        load.wait_for(100)
    assert load.refused == 0
    assert set(load.statuses) == {200}
    assert len(load.lost) <= 10  # at most one for each caller, of the killed worker's
    [record] = records(service, "a worker ended")
    assert (record["worker_pid"], record["exit_status"]) == (before[0], -9)
    assert before[1] in workers(service)
    assert len(workers(service)) == 2

    # What the killed one had counted is still there; what it had in hand is not.
    answered = sum(load.statuses.values())
    assert answered <= value(service, ANSWERED) <= answered + len(load.lost)
    assert value(service, "recjpq_requests_in_progress") == 1  # this one
    assert value(service, "recjpq_workers") == 2
    assert value(service, "recjpq_worker_starts_total") == 3


def test_metrics_are_added_up_over_the_workers(start_two):
    service = start_two()
    environment = Path(f"/proc/{workers(service)[0]}/environ").read_bytes()
    values = Path(re.search(rb"PROMETHEUS_MULTIPROC_DIR=([^\0]+)", environment)[1].decode())
    pids = set(workers(service))
    with contextlib.ExitStack() as clients:
        for _ in range(20):  # connections spread over the workers
            client = clients.enter_context(httpx.Client(base_url=service.url, timeout=20))
            assert client.post("/recommend", content=BODY).status_code == 200
            assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    text = httpx.get(f"{service.url}/metrics").text
    assert f"{ANSWERED} 20.0" in text
    assert f"{RECOMMENDED} 20.0" in text
    assert 'recjpq_stage_duration_seconds_count{stage="encode"} 20.0' in text
    assert 'recjpq_request_duration_seconds_bucket{le="+Inf",method="POST",route="/recommend"} 20.0' in text
    assert len(re.findall(r"^recjpq_model_info\{.*version=\"v1\"\} 1\.0$", text, flags=re.MULTILINE)) == 1
    assert "recjpq_model_items 12.0" in text
    assert "recjpq_queue_depth 0.0" in text
    assert "pid=" not in text
    logged = {record["pid"] for record in log_of(service)}
    assert pids <= logged

    assert values.is_dir()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(20) == 0
    assert not values.exists()


def test_a_worker_that_is_told_to_end_is_replaced_without_a_lost_request(start_two, eventually):
    service = start_two(queue_limit=1000)
    with Load(service.port) as load:
        os.kill(workers(service)[0], signal.SIGTERM)
        eventually(lambda: len(records(service, "Application startup complete.")) == 3)
        load.wait_for(50)
    assert load.lost == []
    assert load.refused == 0
    assert set(load.statuses) == {200}


def test_workers_end_when_their_supervisor_is_killed(start_two, eventually):
    service = start_two()
    orphans = workers(service)
    service.process.kill()
    service.process.wait()
    eventually(lambda: not any(map(runs, orphans)))
    assert len(records(service, "the supervisor is gone; ending")) == 2


def test_a_worker_that_cannot_start_ends_the_whole(start_service, tmp_path):
    service = start_service(wait=False, workers=2, model_path=tmp_path / "nowhere")
    assert service.process.wait(20) == 3
    [error] = [record for record in log_of(service) if "cannot start" in record["message"]]
    assert "nowhere" in error["message"]


def test_a_worker_that_cannot_start_again_does_not_end_the_others(start_two, eventually, artifact, tmp_path):
    copy = shutil.copytree(artifact, tmp_path / "copy")
    service = start_two(model_path=copy)
    (copy / "manifest.json").unlink()
    os.kill(workers(service)[0], signal.SIGKILL)
    eventually(lambda: len(records(service, "a worker ended")) >= 2)
    first, second = records(service, "a worker ended")[:2]
    assert [first["exit_status"], second["exit_status"]] == [-9, 3]
    assert first["restart_in_s"] < second["restart_in_s"]
    assert httpx.post(f"{service.url}/recommend", content=BODY).status_code == 200
    shutil.copy(artifact / "manifest.json", copy)
    eventually(lambda: len(records(service, "Application startup complete.")) == 3)


@pytest.mark.parametrize("count", [1, 2])
def test_a_port_in_use_is_told_before_anything_is_loaded(count, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "service", "--port", str(port)],
            env=os.environ | {"RECJPQ_WORKERS": str(count)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 3
    [record] = [json.loads(line) for line in done.stderr.splitlines()]
    assert f"cannot start: 127.0.0.1:{port}: Address already in use" in record["message"]


TAKEN_MEANWHILE = """
import socket, sys
from service.logs import configure_logging
from service.process.listen import bind
from service.process.server import serve
from service.settings import Settings

configure_logging("INFO")
listeners = bind("127.0.0.1", 0)
other = socket.create_server(listeners[0].getsockname())  # between the service's bind and its listen
sys.exit(serve(Settings(model_path=sys.argv[1], store_url=sys.argv[2]), listeners))
"""


def test_a_port_that_is_taken_while_the_model_loads_is_told(artifact, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TAKEN_MEANWHILE, artifact, f"sqlite:///{tmp_path}/taken.sqlite3"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "cannot start: another process listens at this address since" in done.stderr


def test_check_loads_and_ends(artifact, tmp_path):
    def check(path):
        environment = {
            "RECJPQ_MODEL_PATH": str(path),
            "RECJPQ_STORE_URL": f"sqlite:///{tmp_path}/check.sqlite3",
        }
        command = [sys.executable, "-W", "error", "-m", "service", "--check"]
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=False
        )
        return done.returncode, [json.loads(line)["message"] for line in done.stderr.splitlines()]

    status, messages = check(artifact)
    assert (status, messages[-1]) == (0, "serving")
    status, messages = check(tmp_path / "nowhere")
    assert status == 3
    assert "cannot start" in messages[-1]
