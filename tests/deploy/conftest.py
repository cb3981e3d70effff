"""The series of a running service, against which every query in `deploy/` is checked."""

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from prometheus_client import Metric

from service.app import create_app
from service.settings import Settings

ARTIFACT = Path(__file__).parent.parent / "data" / "artifact-schema-1"
DEADLINE_S = 60

Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> list[Metric]:
    """What a service with a model says before its first request."""
    here = tmp_path_factory.mktemp("service")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECJPQ_STATE_PATH", str(here / "state"))
        app = create_app(Settings(model_path=ARTIFACT, store_url=f"sqlite:///{here}/store.sqlite3"))

    async def collected() -> list[Metric]:
        async with app.router.lifespan_context(app):
            return list(app.state.serving.metrics.registry.collect())

    return asyncio.run(collected())


@pytest.fixture(scope="session")
def series(families: list[Metric]) -> dict[str, list[dict[str, str]]]:
    """The labels of each series, by its name."""
    found: dict[str, list[dict[str, str]]] = {}
    for sample in (sample for family in families for sample in family.samples):
        found.setdefault(sample.name, []).append(dict(sample.labels))
    return found


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Run a service in a process of its own, with settings besides these; gives its URL."""

    @contextmanager
    def running(**settings: str) -> Iterator[str]:
        here = tmp_path_factory.mktemp("served")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        given = {
            "port": port,
            "model_path": str(ARTIFACT),
            "store_url": f"sqlite:///{here}/store.sqlite3",
            "state_path": str(here / "state"),
            "drain_s": "0",
            **settings,
        }
        environment = os.environ | {f"RECJPQ_{name.upper()}": value for name, value in given.items()}
        with (here / "log").open("w") as log:
            command = [sys.executable, "-m", "service"]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait_ready(f"http://127.0.0.1:{port}/readyz", process, here / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()

    return running


def _wait_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.05)  # between attempts at a port that is not open yet
    pytest.fail(f"the service did not become ready:\n{log.read_text()}")
