"""The encoder as an ONNX graph, checked against PyTorch."""

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from training.backbone import Backbone
from training.bert4rec import BERT4Rec
from training.embedding import RecJPQEmbedding
from training.errors import ExportError
from training.sasrec import SASRec
from training.transformer_graph import OPSET, transformer_graph

INPUTS = ("item_codes", "lengths")
OUTPUT = "score_tables"
TOLERANCE = 1e-4
"""Largest difference between ONNX Runtime's and PyTorch's tables, as a share of the largest entry."""

OnnxEncode = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.int64]], npt.NDArray[np.float32]]


class _EncoderModule(nn.Module):
    def __init__(self, model: Backbone) -> None:
        super().__init__()
        self.model = model

    def forward(self, item_codes: Tensor, lengths: Tensor) -> Tensor:
        return self.model.encode(item_codes, lengths)


def encoder_graph(model: Backbone) -> onnx.ModelProto:
    """Return the graph ``item_codes uint8 (B, L, M), lengths int64 (B,) -> score_tables float32 (B, M, V)``.

    B and L are dynamic. The catalogue's codes are not part of it.

    Raises:
        ExportError: the graph's inputs or output are not of that form, or its tables differ from PyTorch's.
    """
    model.cpu().eval()
    if isinstance(model, SASRec | BERT4Rec) and isinstance(model.embedding, RecJPQEmbedding):
        graph = transformer_graph(model, model.embedding)
    else:
        graph = _export(model)
    _check_form(graph, *model.embedding.table_shape)
    check_tables(model, graph.SerializeToString())
    return graph


def _export(model: Backbone) -> onnx.ModelProto:
    """Return the graph that PyTorch's older exporter makes.

    A second export of a GRU in one process by the newer one fixes L, without a word (torch 2.13).
    """
    module = _EncoderModule(model).cpu().eval()
    # Example sizes are neither 0 nor 1, nor equal to one another.
    example = (torch.zeros((2, 3, model.embedding.table_shape[0]), dtype=torch.uint8), torch.tensor([3, 2]))
    # The exporter's own deprecations and its notes on torchvision, which users cannot act on.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(directory) / "encoder.onnx"
        torch.onnx.export(
            module,
            example,
            path,
            dynamo=False,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_axes={INPUTS[0]: {0: "B", 1: "L"}, INPUTS[1]: {0: "B"}, OUTPUT: {0: "B"}},
            opset_version=OPSET,
        )
        return onnx.load(path)


def onnx_encoder(encoder: bytes | str) -> OnnxEncode:
    """Return an encoder graph, given as bytes or as a path, run by ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(encoder, providers=["CPUExecutionProvider"])

    def encode(item_codes: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        tables: npt.NDArray[np.float32] = session.run(
            [OUTPUT], dict(zip(INPUTS, (item_codes, lengths), strict=True))
        )[0]
        return tables

    return encode


def check_tables(model: Backbone, encoder: bytes) -> None:
    """Raise ExportError unless the graph gives PyTorch's tables, for several batch sizes and lengths."""
    encode = onnx_encoder(encoder)
    rng = np.random.default_rng(0)
    num_splits, num_sub_ids = model.embedding.table_shape
    longest = model.config.max_length
    for batch, length in ((1, 1), (1, longest), (3, max(1, longest // 2)), (4, 2)):
        codes = rng.integers(0, num_sub_ids, size=(batch, length, num_splits), dtype=np.uint8)
        lengths = rng.integers(1, length, size=batch, endpoint=True)
        lengths[0] = length
        with torch.inference_mode():
            expected = model.encode(torch.from_numpy(codes), torch.from_numpy(lengths)).numpy()
        found = encode(codes, lengths)
        largest = float(np.abs(expected).max())
        difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
        if not difference <= TOLERANCE * largest:  # also true for NaN
            raise ExportError(
                f"the exported encoder's tables {found.shape} differ from PyTorch's {expected.shape} by "
                f"{difference:.3g} at B={batch}, L={length}; expected at most {TOLERANCE * largest:.3g}"
            )


def _check_form(graph: onnx.ModelProto, num_splits: int, num_sub_ids: int) -> None:
    wanted = {
        INPUTS[0]: (onnx.TensorProto.UINT8, (None, None, num_splits)),
        INPUTS[1]: (onnx.TensorProto.INT64, (None,)),
        OUTPUT: (onnx.TensorProto.FLOAT, (None, num_splits, num_sub_ids)),
    }
    for value in (*graph.graph.input, *graph.graph.output):
        tensor = value.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        if wanted.pop(value.name, None) != (tensor.elem_type, shape):
            raise ExportError(f"the exported encoder's {value.name!r} has the wrong type or shape {shape}")
    if wanted:
        raise ExportError(f"the exported encoder lacks {', '.join(wanted)}")
