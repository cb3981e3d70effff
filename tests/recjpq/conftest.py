"""Shared fixtures of the core's tests: scorers by back-end, and a model small enough to see through."""

import hashlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from recjpq import _native
from recjpq.artifact import Encode, Golden, ModelDescription, write_artifact
from recjpq.scoring import GrowingScorer, load_scorer
from recjpq.scoring.cpu_scorer import CpuScorer
from recjpq.scoring.cuda import CudaScorer
from tests.recjpq.gpu import need_gpu

MakeScorer = Callable[[np.ndarray], GrowingScorer]

INSTRUCTION_SETS = _native.instruction_sets()  # those that this machine can run
CPU = [pytest.param(("cpu", name), id=f"cpu-{name}") for name in INSTRUCTION_SETS]
CUDA = pytest.param(("cuda", ""), id="cuda", marks=pytest.mark.gpu)
EMULATED = pytest.param(("emulated", ""), id="cuda-emulated")  # the GPU's kernels, compiled for the CPU
BACKENDS = [pytest.param(("numpy", ""), id="numpy"), *CPU, CUDA, EMULATED]


@pytest.fixture(scope="session")
def emulated_cuda(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """An emulated GPU, what else its module has, and `make_scorer`."""
    spec = importlib.util.spec_from_file_location(
        "emulated_cuda", Path(__file__).with_name("emulated_cuda.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not module.has_compiler():
        pytest.skip(f"emulated cuda: no compiler {module.COMPILER}")
    device = module.EmulatedDevice(tmp_path_factory.mktemp("kernels"))

    def make(item_codes: np.ndarray, **changes: object) -> CudaScorer:
        return CudaScorer(item_codes, device, tuning=replace(module.TUNING, **changes))

    return SimpleNamespace(module=module, device=device, make_scorer=make)


@pytest.fixture(scope="session", params=BACKENDS)
def make_scorer(request: pytest.FixtureRequest) -> MakeScorer:
    """Build a catalogue's scorer: every test that takes this fixture runs on every back-end."""
    backend, instruction_set = request.param
    if backend == "emulated":
        return request.getfixturevalue("emulated_cuda").make_scorer
    if backend == "cuda":
        need_gpu()
    if backend == "cpu":
        return lambda item_codes: CpuScorer(item_codes, instruction_set=instruction_set)
    return lambda item_codes: load_scorer(item_codes, backend)


@dataclass(frozen=True)
class TinyModel:
    """Everything that `write_artifact` takes, for 6 items of 2 codes."""

    model: ModelDescription
    encoder: bytes
    recommender: bytes
    item_codes: np.ndarray
    items: pa.Table
    golden: Golden
    encode: Encode
    sub_embeddings: np.ndarray | None

    def with_(self, **changes: object) -> "TinyModel":
        return replace(self, **changes)

    def write(self, parent: Path, version: str = "v1", created_at: str = "2026-01-31T12:00:00+00:00") -> Path:
        return write_artifact(
            parent,
            replace(self.model, version=version, created_at=created_at),
            encoder=self.encoder,
            recommender=self.recommender,
            item_codes=self.item_codes,
            items=self.items,
            golden=self.golden,
            sub_embeddings=self.sub_embeddings,
        )


def count_codes(item_codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """A stand-in encoder, (B, L, M) -> (B, M, 4): how often each sub-id occurs in the history."""
    counts = np.zeros((len(item_codes), item_codes.shape[2], 4), dtype=np.float32)
    for row, length in enumerate(lengths):
        for codes in item_codes[row, :length]:
            for split, code in enumerate(codes):
                counts[row, split, code] += 1
    return counts


@pytest.fixture
def tiny() -> TinyModel:
    """Six items; the two golden histories' answers can be counted by hand.

    History [0, 1] has codes (0, 0) and (0, 1): tables [[2, 0, 0, 0], [1, 1, 0, 0]], so items 0 and 1 score
    3 and items 4 and 5 score 1. History [5] has codes (3, 1): item 5 scores 2, items 1 and 4 score 1.
    """
    item_codes = np.array([[0, 0], [0, 1], [1, 2], [2, 3], [3, 0], [3, 1]], dtype=np.uint8)
    histories = np.array([[0, 1, 0], [5, 0, 0]], dtype=np.int32)
    lengths = np.array([2, 1], dtype=np.int64)
    model = ModelDescription(
        name="tiny", version="v1", created_at="2026-01-31T12:00:00+00:00", backbone="sasrec",
        num_items=6, max_length=3, num_splits=2, num_sub_ids=4, dim=8,
        training_config={"seed": 0, "optimizer": {"lr": 0.001}}, data={"interactions": 21},
        metrics={"ndcg@10": 0.5, "protocol": "leave one out"}, libraries={"numpy": "2.0"}, git_revision=None,
    )  # fmt: skip
    golden = Golden(
        histories=histories,
        lengths=lengths,
        score_tables=count_codes(item_codes[histories], lengths),
        top_ids=np.array([[0, 1, 4], [5, 1, 4]], dtype=np.int32),
        top_scores=np.array([[3, 3, 1], [2, 1, 1]], dtype=np.float32),
    )
    items = pa.table({
        "item_id": ["a", "b", "c", "d", "e", "f"], "count": [6, 5, 4, 3, 2, 1], "title": list("ABCDEF"),
    })  # fmt: skip
    sub_embeddings = np.arange(2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4)  # W = D/M
    return TinyModel(
        model, b"encoder", b"recommender", item_codes, items, golden, count_codes, sub_embeddings
    )


@pytest.fixture
def edit_manifest() -> Callable[..., None]:
    """Change an artifact's manifest: `edit_manifest(path, num_items=7)`; None removes the field."""

    def edit(path: Path, **changes: object) -> None:
        manifest = path / "manifest.json"
        fields = json.loads(manifest.read_text()) | changes
        manifest.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))

    return edit


@pytest.fixture
def replace_file(edit_manifest: Callable[..., None]) -> Callable[[Path, bytes], None]:
    """Put other bytes into a file of an artifact and make the manifest agree with them."""

    def put(file: Path, content: bytes) -> None:
        file.write_bytes(content)
        files = json.loads((file.parent / "manifest.json").read_text())["files"]
        files[file.name] |= {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        edit_manifest(file.parent, files=files)

    return put
