"""A model repository for Triton Inference Server: the whole model, `recommender.onnx`, and its declaration.

    REPOSITORY/<model>/config.pbtxt
    REPOSITORY/<model>/<n>/model.onnx        n counts up with every version that is added
    REPOSITORY/<model>/items.parquet         row i describes the item that the model calls i

Triton's batcher is off (`max_batch_size: 0`): `k` and `exclude_seen` hold for a whole call, so that calls
cannot be joined. A caller sends a batch as one call. Triton wants [1] for the scalar `exclude_seen`.
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from recjpq.artifact import find_artifact, load_artifact
from training.errors import ExportError
from training.files import replacing_directory, replacing_file

_TYPES = {TensorProto.INT64: "TYPE_INT64", TensorProto.FLOAT: "TYPE_FP32", TensorProto.BOOL: "TYPE_BOOL"}
_DYNAMIC = -1


def write_triton_repository(path: Path, repository: Path) -> Path:
    """Add the artifact at `path`, or the newest below it, to a repository; return the version's directory.

    Raises:
        RecJPQError: the artifact is missing or damaged.
        ExportError: its name cannot be a model's in Triton.
    """
    artifact = load_artifact(find_artifact(path))
    about = artifact.manifest.model
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", about.name):
        raise ExportError(f"{about.name!r}: expected a name of letters, digits and ._-; set run.name")
    model = repository / about.name
    version = 1 + max((int(p.name) for p in model.glob("*") if p.name.isdigit()), default=0)
    graph = onnx.load(artifact.recommender_path).graph
    with replacing_directory(model / str(version), ("model.onnx",)) as partial:
        shutil.copyfile(artifact.recommender_path, partial / "model.onnx")
    with replacing_file(model / "items.parquet") as partial:
        shutil.copyfile(artifact.path / "items.parquet", partial)
    with replacing_file(model / "config.pbtxt") as partial:
        partial.write_text(_config(about.name, about.version, graph), encoding="utf-8")
    return model / str(version)


def _config(name: str, version: str, graph: onnx.GraphProto) -> str:
    constants = {tensor.name for tensor in graph.initializer}
    return "\n".join(
        [
            f'name: "{name}"',
            'backend: "onnxruntime"',
            "max_batch_size: 0",
            *_tensors("input", (tensor for tensor in graph.input if tensor.name not in constants)),
            *_tensors("output", graph.output),
            "instance_group [ { count: 1, kind: KIND_AUTO } ]",
            'parameters { key: "intra_op_thread_count" value: { string_value: "1" } }',
            f'parameters {{ key: "recjpq_version" value: {{ string_value: "{version}" }} }}',
            "",
        ]
    )


def _tensors(kind: str, tensors: Iterable[Any]) -> list[str]:
    lines = []
    for tensor in tensors:
        shape = tensor.type.tensor_type.shape.dim
        dims = [dim.dim_value if dim.HasField("dim_value") else _DYNAMIC for dim in shape] or [1]
        dtype = _TYPES[tensor.type.tensor_type.elem_type]
        lines.append(f'{kind} [ {{ name: "{tensor.name}", data_type: {dtype}, dims: {dims} }} ]')
    return lines
