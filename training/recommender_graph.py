"""The whole model as one ONNX graph: history item indices in, top-k out, for any ONNX runtime.

Built around the encoder's graph node by node, so that both files hold the same encoder. The catalogue's
codes are inside, which bounds it to what one ONNX file may hold (2 GB, about 200 million codes).
"""

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.compose import add_prefix

from training.encoder_graph import INPUTS, OUTPUT

PREFIX = "encoder/"


def recommender_graph(
    encoder: onnx.ModelProto, item_codes: npt.NDArray[np.uint8], max_length: int
) -> onnx.ModelProto:
    """Return the graph of encoder, scoring and top-k.

    Inputs: `items` int64 (B, L), left-aligned, of any L: as in the service, the newest `max_length` items of
    a history are encoded, and all of them are seen; `lengths` int64 (B,), at least 1; `k` int64 (1,);
    `exclude_seen` bool (): whether items of the history may be returned. Outputs: `top_items` int64
    (B, min(k, N)) and `top_scores` float32, best first, ties to the lower index. With `exclude_seen`, a
    row of fewer than k unseen items ends in seen ones with a score of minus infinity.

    Args:
        encoder: the graph of `encoder_graph`.
        item_codes: uint8 (N, M).
        max_length: how many items the encoder takes.
    """
    encoder = add_prefix(encoder, PREFIX)
    num_items, num_splits = item_codes.shape
    constants = {
        "codes": np.ascontiguousarray(item_codes.T),  # (M, N): a split's codes are one row
        "num_items": np.array([num_items], dtype=np.int64),
        "minus_infinity": np.array(-np.inf, dtype=np.float32),
        "zero": np.array(0, dtype=np.int64),
        "one": np.array(1, dtype=np.int64),
        "axis_1": np.array([1], dtype=np.int64),
        "max_length": np.array(max_length, dtype=np.int64),
        "first": np.array([0], dtype=np.int64),
        **{f"split_{j}": np.array(j, dtype=np.int64) for j in range(num_splits)},
    }
    nodes = [
        *_newest(),
        helper.make_node("Gather", ["codes", "newest"], ["history_codes"], axis=1),  # (M, B, L)
        helper.make_node("Transpose", ["history_codes"], [PREFIX + INPUTS[0]], perm=[1, 2, 0]),
        *encoder.graph.node,
        *_score_all(num_splits),
        *_mask_seen(),
        helper.make_node("Min", ["k", "num_items"], ["k_possible"]),
        helper.make_node("TopK", ["candidates", "k_possible"], ["top_scores", "top_items"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "recommender",
        inputs=[
            helper.make_tensor_value_info("items", TensorProto.INT64, ["B", "L"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["B"]),
            helper.make_tensor_value_info("k", TensorProto.INT64, [1]),
            helper.make_tensor_value_info("exclude_seen", TensorProto.BOOL, []),
        ],
        outputs=[
            helper.make_tensor_value_info("top_items", TensorProto.INT64, ["B", "K"]),
            helper.make_tensor_value_info("top_scores", TensorProto.FLOAT, ["B", "K"]),
        ],
        initializer=[
            *(numpy_helper.from_array(value, name) for name, value in constants.items()),
            *encoder.graph.initializer,
        ],
    )
    model = helper.make_model(graph, opset_imports=encoder.opset_import, ir_version=encoder.ir_version)
    model.functions.extend(encoder.functions)
    onnx.checker.check_model(model)
    return model


def _newest() -> list[onnx.NodeProto]:
    """Cut `newest` int64 (B, at most max_length), the items that are encoded, and how many they are."""
    return [
        helper.make_node("Shape", ["items"], ["items_shape"]),
        helper.make_node("Gather", ["items_shape", "one"], ["width"], axis=0),
        helper.make_node("Min", ["width", "max_length"], ["newest_width"]),
        helper.make_node("Range", ["zero", "newest_width", "one"], ["newest_columns"]),
        helper.make_node("Min", ["lengths", "max_length"], [PREFIX + INPUTS[1]]),
        helper.make_node("Sub", ["lengths", PREFIX + INPUTS[1]], ["older"]),
        helper.make_node("Unsqueeze", ["older", "axis_1"], ["older_column"]),
        helper.make_node("Add", ["older_column", "newest_columns"], ["newest_at"]),
        helper.make_node("GatherElements", ["items", "newest_at"], ["newest"], axis=1),
    ]


def _score_all(num_splits: int) -> list[onnx.NodeProto]:
    """Add up each split's table entries, in the order that the scorer's contract fixes."""
    nodes = []
    for j in range(num_splits):
        total = "scores" if j == num_splits - 1 else f"sum_{j}"
        nodes += [
            helper.make_node("Gather", [PREFIX + OUTPUT, f"split_{j}"], [f"table_{j}"], axis=1),  # (B, V)
            helper.make_node("Gather", ["codes", f"split_{j}"], [f"codes_{j}"], axis=0),  # (N,)
            helper.make_node("Cast", [f"codes_{j}"], [f"rows_{j}"], to=TensorProto.INT32),
            helper.make_node("Gather", [f"table_{j}", f"rows_{j}"], [f"part_{j}"], axis=1),  # (B, N)
            helper.make_node("Add", [f"sum_{j - 1}", f"part_{j}"], [total])
            if j
            else helper.make_node("Identity", ["part_0"], [total]),
        ]
    return nodes


def _mask_seen() -> list[onnx.NodeProto]:
    """Give the history's items minus infinity if asked; what is beyond a length counts as its first item."""
    return [
        helper.make_node("Range", ["zero", "width", "one"], ["columns"]),
        helper.make_node("Unsqueeze", ["lengths", "axis_1"], ["length_column"]),
        helper.make_node("Less", ["columns", "length_column"], ["inside"]),  # (B, L)
        helper.make_node("Gather", ["items", "first"], ["first_item"], axis=1),
        helper.make_node("Where", ["inside", "items", "first_item"], ["seen"]),
        helper.make_node("GatherElements", ["scores", "seen"], ["seen_scores"], axis=1),
        helper.make_node("Where", ["exclude_seen", "minus_infinity", "seen_scores"], ["new_scores"]),
        helper.make_node("ScatterElements", ["scores", "seen", "new_scores"], ["candidates"], axis=1),
    ]
