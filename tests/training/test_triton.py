"""The model repository for Triton: it declares what the graph is, which answers as the artifact does."""

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from recjpq.artifact import load_artifact
from training.__main__ import main
from training.triton import write_triton_repository

ARTIFACT = Path(__file__).parents[1] / "data" / "artifact-schema-1"
ORT_TYPES = {"TYPE_INT64": "tensor(int64)", "TYPE_FP32": "tensor(float)", "TYPE_BOOL": "tensor(bool)"}


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return write_triton_repository(ARTIFACT, tmp_path / "models")


def declared(config: str, kind: str) -> list[tuple[str, str, list[int]]]:
    found = re.findall(
        rf'^{kind} \[ {{ name: "(\w+)", data_type: (\w+), dims: \[([-\d, ]+)\] }} \]$', config, re.MULTILINE
    )
    return [(name, ORT_TYPES[dtype], list(map(int, dims.split(",")))) for name, dtype, dims in found]


def in_graph(tensors: list[onnxruntime.NodeArg]) -> list[tuple[str, str, list[int]]]:
    return [(t.name, t.type, [d if isinstance(d, int) else -1 for d in t.shape] or [1]) for t in tensors]


def test_the_declaration_is_that_of_the_graph(version: Path) -> None:
    config = (version.parent / "config.pbtxt").read_text()
    session = onnxruntime.InferenceSession(version / "model.onnx", providers=["CPUExecutionProvider"])
    assert declared(config, "input") == in_graph(session.get_inputs())
    assert declared(config, "output") == in_graph(session.get_outputs())
    assert f'name: "{version.parent.name}"' in config
    assert f'string_value: "{load_artifact(ARTIFACT).manifest.model.version}"' in config


def test_the_graph_answers_as_the_artifact_does(version: Path) -> None:
    golden = load_artifact(ARTIFACT).golden
    session = onnxruntime.InferenceSession(version / "model.onnx", providers=["CPUExecutionProvider"])
    for row, length in enumerate(golden.lengths):
        top_items, top_scores = session.run(
            None,
            {
                "items": golden.histories[row : row + 1, :length].astype(np.int64),
                "lengths": np.array([length], dtype=np.int64),
                "k": np.array([golden.top_ids.shape[1]], dtype=np.int64),
                "exclude_seen": np.array(False),
            },
        )
        np.testing.assert_array_equal(top_items[0], golden.top_ids[row])
        np.testing.assert_allclose(top_scores[0], golden.top_scores[row], rtol=1e-4)


def test_another_version_is_added_beside_the_first(
    tmp_path: Path, version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["triton", str(ARTIFACT), str(tmp_path / "models")]) == 0
    assert version.name == "1"
    assert capsys.readouterr().out == f"version: {version.parent / '2'}\n"
    names = {
        path.relative_to(version.parent).as_posix() for path in version.parent.rglob("*") if path.is_file()
    }
    assert names == {"config.pbtxt", "items.parquet", "1/model.onnx", "2/model.onnx"}


def test_what_is_no_artifact_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["triton", str(tmp_path), str(tmp_path / "models")]) == 2
    assert "no artifact here" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()
