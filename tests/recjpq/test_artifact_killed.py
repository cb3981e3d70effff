"""A writer killed at any moment leaves nothing that loads, and nothing in the way of the next."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recjpq.artifact import find_artifact, load_artifact
from recjpq.errors import ArtifactError, ArtifactNotFoundError

FILES = ["encoder.onnx", "golden.npz", "item_codes.npy", "items.parquet", "manifest.json", "recommender.onnx"]

WRITE = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
import pyarrow as pa
from recjpq.artifact import Golden, ModelDescription, write_artifact

def write(parent, version, sizes={}):
    size = lambda name: sizes.get(name, 8)
    model = ModelDescription(
        "killed", version, "2026-01-31T12:00:00+00:00", "sasrec", size("item_codes.npy"), 1, 1, 1, 1,
        {"padding": "x" * size("manifest.json")}, {}, {}, {}, None,
    )
    items = {
        "item_id": [str(i) for i in range(model.num_items)],
        "count": pa.repeat(1, model.num_items),
        "noise": [os.urandom(size("items.parquet") // model.num_items) for _ in range(model.num_items)],
    }
    count = size("golden.npz")
    golden = Golden(
        np.zeros((count, 1), np.int32), np.ones(count, np.int64), np.zeros((count, 1, 1), np.float32),
        np.zeros((count, 1), np.int32), np.zeros((count, 1), np.float32),
    )
    write_artifact(
        parent, model, encoder=bytes(size("encoder.onnx")), recommender=bytes(size("recommender.onnx")),
        item_codes=np.zeros((model.num_items, 1), np.uint8), items=pa.table(items), golden=golden,
    )

def in_a_child(action):
    # Run an action in a forked process and return the signal that ended it, or 0.
    pid = os.fork()
    if pid == 0:
        action()
        os._exit(0)
    return os.WTERMSIG(os.waitpid(pid, 0)[1])
"""

KILL_AT_EVERY_STEP = """
def killed_at(step, parent):
    # SIGKILL at the step-th time that the writer touches a path: just before it opens, makes, renames, ...
    steps = 0
    def count(event, arguments):
        nonlocal steps
        if event.startswith(("open", "os.", "shutil.")) and str(parent) in str(arguments):
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1
    sys.addaudithook(count)
    write(parent, "v2")

for step in range(1000):
    parent = Path(sys.argv[1]) / f"{step:03d}"
    assert in_a_child(lambda: write(parent, "v1")) == 0
    if in_a_child(lambda: killed_at(step, parent)) == 0:
        break
"""

KILL_INSIDE_EACH_FILE = """
def killed_inside(name, parent):
    # The kernel kills a process whose file grows beyond the limit: here, halfway through one file.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    write(parent, "v2", {name: 200_000})

for name in sys.argv[2:]:
    parent = Path(sys.argv[1]) / name
    assert in_a_child(lambda: write(parent, "v1")) == 0
    assert in_a_child(lambda: killed_inside(name, parent)) == signal.SIGXFSZ, name
"""


def run(script: str, *arguments: str) -> None:
    command = [sys.executable, "-c", WRITE + script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def assert_unharmed(tiny: Any, parent: Path) -> None:
    """The version before still loads, nothing half-written is found, and the version can be written."""
    assert find_artifact(parent) == parent / "v1"
    load_artifact(parent / "v1")
    with pytest.raises(ArtifactNotFoundError):
        load_artifact(parent / "v2")
    tiny.write(parent, "v2")
    load_artifact(parent / "v2")
    assert names_in(parent) == ["v1", "v2"]


def test_killed_at_every_step(tiny: Any, tmp_path: Path) -> None:
    run(KILL_AT_EVERY_STEP, str(tmp_path))
    *killed, finished = sorted(tmp_path.iterdir())
    load_artifact(finished / "v2")

    left = [names_in(parent / ".v2.partial") for parent in killed if (parent / ".v2.partial").exists()]
    assert [] in left
    assert FILES in left
    assert all(names == FILES for names in left if "manifest.json" in names), "the manifest comes last"

    published = [parent for parent in killed if (parent / "v2").exists()]
    assert published == killed[-len(published) :], "once published, always published"
    for parent in published:
        load_artifact(parent / "v2")
        assert names_in(parent) == ["v1", "v2"]
    for parent in killed[: -len(published)]:
        assert_unharmed(tiny, parent)


def test_killed_inside_each_file(tiny: Any, tmp_path: Path) -> None:
    run(KILL_INSIDE_EACH_FILE, str(tmp_path), *FILES)
    for name in FILES:
        partial = tmp_path / name / ".v2.partial"
        assert (partial / name).stat().st_size == 100_000
        with pytest.raises(ArtifactError):
            load_artifact(partial)
        assert_unharmed(tiny, tmp_path / name)
