"""The real driver code and NVRTC on a libcuda that emulates a GPU; and what is said where there is none."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from recjpq.errors import BackendUnavailableError
from recjpq.scoring import load_scorer
from recjpq.scoring.cuda.compile import compile_kernels
from tests.recjpq.gpu import need_gpu, need_nvrtc

HERE = Path(__file__).parent

SEARCH = """
import os, sys
import numpy as np
from recjpq.scoring import load_scorer

rng = np.random.default_rng(0)
item_codes = rng.integers(256, size=(9000, 8), dtype=np.uint8)
tables = rng.standard_normal((5, 8, 256)).astype(np.float32)
scorer, specification = load_scorer(item_codes, sys.argv[1]), load_scorer(item_codes, "numpy")

def same(**filters):
    found, expected = (each.top_k(tables, 10, **filters) for each in (scorer, specification))
    return all(
        row.ids.tolist() == wanted.ids.tolist() and row.scores.tobytes() == wanted.scores.tobytes()
        for row, wanted in zip(found, expected, strict=True)
    )

answers = [same(), same(allow=rng.random(9000) < 0.1), same(exclude=[np.arange(100, dtype=np.int32)] * 5)]
for each in (scorer, specification):
    each.append(np.full((3, 8), 7, np.uint8))
    each.retire(np.arange(50, dtype=np.int32))
print(scorer.backend, answers, same())
"""

FORK = """
sys.stdout.flush()  # else the child's exit and the parent's both print what is buffered
pid = os.fork()
if pid == 0:
    try:
        scorer.top_k(tables, 10)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""


@pytest.fixture(scope="module")
def emulated_driver(emulated_cuda: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a `libcuda.so.1` whose GPU is emulated."""
    if sys.platform != "linux":
        pytest.skip("emulated driver: a libcuda.so.1 is found so on Linux only")
    need_nvrtc()
    directory = tmp_path_factory.mktemp("driver")
    (directory / "exports").write_text("{ global: cu*; local: *; };")
    link = ["-Wl,-soname,libcuda.so.1", f"-Wl,--version-script={directory / 'exports'}"]
    emulated_cuda.module.compile_library(HERE / "emulated_driver.cpp", 2, directory / "libcuda.so.1", *link)
    return directory


def run(script: str, backend: str, driver: Path | None = None) -> str:
    paths = {} if driver is None else {"LD_LIBRARY_PATH": str(driver)}
    done = subprocess.run(
        [sys.executable, "-c", script, backend],
        env=os.environ | paths, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("backend", ["auto", "cuda"])
def test_the_driver_code_gives_the_specifications_answers(emulated_driver: Path, backend: str) -> None:
    assert run(SEARCH, backend, emulated_driver) == "cuda [True, True, True] True"


def test_a_forked_child_is_refused(emulated_driver: Path) -> None:
    said = run(SEARCH + FORK, "cuda", emulated_driver).splitlines()[-1]
    assert said.startswith("BackendUnavailableError backend 'cuda': found process ")
    assert said.endswith("build the scorer in the child, or start it by 'spawn'")


def test_the_benchmark_validates_before_it_measures(emulated_driver: Path, tmp_path: Path) -> None:
    small = ["--items", "9000", "--batches", "1", "5", "--ks", "10", "--calls", "2", "--copy-mib", "1"]
    command = [sys.executable, "-m", "benchmarks.gpu_scoring", *small, "--output", str(tmp_path / "gpu.json")]
    done = subprocess.run(
        command, env=os.environ | {"LD_LIBRARY_PATH": str(emulated_driver)}, cwd=HERE.parents[1],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())["results"]
    assert [(result["batch"], result["k"]) for result in results] == [(1, 10), (5, 10)]
    assert results[0]["device_us"] == pytest.approx(500)  # two calls in the emulated event's millisecond


@pytest.mark.gpu
def test_a_real_gpu_gives_the_specifications_answers() -> None:
    need_gpu()
    assert run(SEARCH, "cuda") == "cuda [True, True, True] True"
    assert "found process" in run(SEARCH + FORK, "cuda")


@pytest.mark.parametrize("num_words", [1, 2, 4])
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_nvrtc_compiles_the_kernels(architecture: str, num_words: int) -> None:
    need_nvrtc()
    assert compile_kernels(architecture, num_words).startswith(b"\x7fELF")


def test_what_nvrtc_refuses_is_told() -> None:
    need_nvrtc()
    with pytest.raises(BackendUnavailableError, match=r"cannot compile kernels.cu for sm_1: .*architecture"):
        compile_kernels("sm_1", 1)


WITHOUT = """
import logging, sys
import numpy as np
sys.modules["cuda"] = None
from recjpq.scoring import load_scorer

logging.basicConfig(level="INFO", format="%(name)s %(message)s", stream=sys.stdout)
print(load_scorer(np.zeros((3, 2), np.uint8)).backend)
load_scorer(np.zeros((3, 2), np.uint8), "cuda")
"""


def test_without_the_bindings_auto_says_so_and_cuda_fails() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    said, chosen = done.stdout.splitlines()
    assert said.startswith("recjpq.scoring.load scoring on the CPU, as there is no usable GPU: ")
    assert "found no cuda-bindings" in said
    assert chosen == "cpu"
    assert done.stderr.splitlines()[-1].startswith(
        "recjpq.errors.BackendUnavailableError: backend 'cuda': found no"
    )
    assert done.stderr.splitlines()[-1].endswith("install recjpq[gpu], or use 'cpu' or 'auto'")


def test_auto_logs_what_it_chose(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "recjpq.scoring.load"):
        chosen = load_scorer(np.zeros((3, 2), np.uint8)).backend
    place = {"cuda": "GPU", "cpu": "CPU"}[chosen]
    assert [record.getMessage().startswith(f"scoring on the {place}") for record in caplog.records] == [True]
