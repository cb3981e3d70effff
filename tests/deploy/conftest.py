"""The series of a running service, against which every query in `deploy/` is checked."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from prometheus_client import Metric

from service.app import create_app
from service.settings import Settings
from tests.service.servers import services_in

ARTIFACT = Path(__file__).parent.parent / "data" / "artifact-schema-1"

Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' own checker; the test is skipped where there is none."""
    if (found := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    return found


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
    def running(**settings: object) -> Iterator[str]:
        with services_in(tmp_path_factory.mktemp("served"), ARTIFACT) as start:
            yield start(**settings).url

    return running
