"""The script that made `artifact-schema-1`. The committed files must never be made again.

They stand for every artifact of schema 1 that is in use somewhere: a release that cannot load them cannot
load those either. A new schema gets a new directory, made by a new script, beside this one. The script is
kept to show what the files hold, and refuses to write where they are.

The model: M=4 splits of V=16 sub-ids, N=60 items. The score table of split j is the sum over the history of
``0.5^age * influence[j, code]``, the newest item having age 0. All influences are multiples of 1/64 below 2,
so every sum is exact in float32 and every runtime must give the same bits.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper

from recjpq.artifact import Golden, ModelDescription, write_artifact
from recjpq.scoring import load_scorer

NUM_ITEMS, MAX_LENGTH, NUM_SPLITS, NUM_SUB_IDS = 60, 8, 4, 16
OPSET, IR_VERSION = 18, 8

rng = np.random.default_rng(20260131)
ITEM_CODES = rng.integers(NUM_SUB_IDS, size=(NUM_ITEMS, NUM_SPLITS), dtype=np.uint8)
INFLUENCE = (rng.integers(-127, 128, size=(NUM_SPLITS, NUM_SUB_IDS, NUM_SUB_IDS)) / 64).astype(np.float32)


def encode(item_codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The encoder in NumPy: (B, L, M), (B,) -> (B, M, V)."""
    tables = np.zeros((len(item_codes), NUM_SPLITS, NUM_SUB_IDS), dtype=np.float32)
    for row, length in enumerate(lengths):
        for position in range(length):
            influence = INFLUENCE[np.arange(NUM_SPLITS), item_codes[row, position]]  # (M, V)
            tables[row] += np.float32(0.5) ** (length - 1 - position) * influence
    return tables


CONSTANTS = {
    "influence": INFLUENCE.reshape(-1, NUM_SUB_IDS),  # (M * V, V)
    "first_of_split": np.arange(NUM_SPLITS) * NUM_SUB_IDS,
    "zero": np.array(0),
    "one": np.array(1),
    "axis_0": np.array([0]),
    "axis_1": np.array([1]),
    "axes_2_3": np.array([2, 3]),
    "half": np.array(0.5, dtype=np.float32),
    "nothing": np.array(0, dtype=np.float32),
}

ENCODER_NODES = [
    helper.make_node("Cast", ["item_codes"], ["sub_ids"], to=TensorProto.INT64),  # (B, L, M)
    helper.make_node("Add", ["sub_ids", "first_of_split"], ["rows"]),
    helper.make_node("Gather", ["influence", "rows"], ["influences"]),  # (B, L, M, V)
    helper.make_node("Shape", ["item_codes"], ["shape_1"], start=1, end=2),
    helper.make_node("Squeeze", ["shape_1", "axis_0"], ["length"]),
    helper.make_node("Range", ["zero", "length", "one"], ["positions"]),  # (L,)
    helper.make_node("Sub", ["lengths", "one"], ["newest"]),
    helper.make_node("Unsqueeze", ["newest", "axis_1"], ["newest_column"]),  # (B, 1)
    helper.make_node("Sub", ["newest_column", "positions"], ["age"]),  # (B, L), negative beyond the length
    helper.make_node("GreaterOrEqual", ["age", "zero"], ["is_item"]),
    helper.make_node("Cast", ["age"], ["age_float"], to=TensorProto.FLOAT),
    helper.make_node("Pow", ["half", "age_float"], ["decay"]),
    helper.make_node("Where", ["is_item", "decay", "nothing"], ["weight"]),
    helper.make_node("Unsqueeze", ["weight", "axes_2_3"], ["weight_4d"]),  # (B, L, 1, 1)
    helper.make_node("Mul", ["influences", "weight_4d"], ["weighted"]),
    helper.make_node("ReduceSum", ["weighted", "axis_1"], ["score_tables"], keepdims=0),  # (B, M, V)
]

RECOMMENDER_CONSTANTS = {
    "codes": ITEM_CODES,
    "num_items": np.array([NUM_ITEMS]),
    "all_items": np.arange(NUM_ITEMS),
    "none": np.array(-1),
    "axis_2": np.array([2]),
    "minus_infinity": np.array(-np.inf, dtype=np.float32),
    **{f"split_{j}": np.array(j) for j in range(NUM_SPLITS)},
    **{f"codes_{j}": ITEM_CODES[:, j].astype(np.int64) for j in range(NUM_SPLITS)},
}


def scoring_nodes() -> list[onnx.NodeProto]:
    """(B, M, V) -> (B, N): the entries of one split after the other, added in that order."""
    nodes = []
    for j in range(NUM_SPLITS):
        nodes += [
            helper.make_node("Gather", ["score_tables", f"split_{j}"], [f"table_{j}"], axis=1),  # (B, V)
            helper.make_node("Gather", [f"table_{j}", f"codes_{j}"], [f"entries_{j}"], axis=1),  # (B, N)
        ]
        before = "nothing" if j == 0 else f"sum_{j - 1}"
        nodes.append(helper.make_node("Add", [before, f"entries_{j}"], [f"sum_{j}"]))
    return nodes


RECOMMENDER_NODES = [
    helper.make_node("Gather", ["codes", "items"], ["item_codes"]),  # (B, L, M)
    *ENCODER_NODES,
    *scoring_nodes(),
    helper.make_node("Where", ["is_item", "items", "none"], ["seen"]),  # (B, L)
    helper.make_node("Unsqueeze", ["seen", "axis_2"], ["seen_column"]),  # (B, L, 1)
    helper.make_node("Equal", ["seen_column", "all_items"], ["matches"]),  # (B, L, N)
    helper.make_node("Cast", ["matches"], ["matches_int"], to=TensorProto.INT64),
    helper.make_node("ReduceMax", ["matches_int", "axis_1"], ["is_seen_int"], keepdims=0),  # (B, N)
    helper.make_node("Cast", ["is_seen_int"], ["is_seen"], to=TensorProto.BOOL),
    helper.make_node("And", ["is_seen", "exclude_seen"], ["is_excluded"]),
    helper.make_node("Where", ["is_excluded", "minus_infinity", f"sum_{NUM_SPLITS - 1}"], ["candidates"]),
    helper.make_node("Min", ["k", "num_items"], ["k_possible"]),
    helper.make_node("TopK", ["candidates", "k_possible"], ["top_scores", "top_items"], axis=1),
]

Values = list[tuple[str, int, list[str | int]]]


def graph(
    name: str, nodes: list[onnx.NodeProto], inputs: Values, outputs: Values, constants: dict[str, np.ndarray]
) -> bytes:
    model = helper.make_model(
        helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info(*value) for value in inputs],
            [helper.make_tensor_value_info(*value) for value in outputs],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def make_golden() -> Golden:
    lengths = np.array([1, 2, 3, 5, 8], dtype=np.int64)
    histories = rng.integers(NUM_ITEMS, size=(len(lengths), MAX_LENGTH), dtype=np.int32)
    histories[np.arange(MAX_LENGTH) >= lengths[:, None]] = 0
    tables = encode(ITEM_CODES[histories], lengths)
    best = load_scorer(ITEM_CODES, "numpy").top_k(tables, 10)
    return Golden(
        histories,
        lengths,
        tables,
        np.stack([row.ids for row in best]),
        np.stack([row.scores for row in best]),
    )


def make_items() -> pa.Table:
    categories = ["drama", "comedy", None, "科幻"]
    return pa.table({
        "item_id": ["a b/c?&d=e#f", "Ünïcode", "日本語", *(f"item-{n}" for n in range(3, NUM_ITEMS))],
        "count": pa.array([NUM_ITEMS - number // 2 for number in range(NUM_ITEMS)], pa.int64()),
        "title": [f"The title of item {number}" for number in range(NUM_ITEMS)],
        "category": [categories[number % 4] for number in range(NUM_ITEMS)],
    })  # fmt: skip


def main() -> None:
    """Write the artifact; raises ArtifactExistsError where it is already."""
    write_artifact(
        Path(__file__).parent,
        ModelDescription(
            name="tiny",
            version="artifact-schema-1",
            created_at="2026-01-31T12:00:00+00:00",
            backbone="sasrec",
            num_items=NUM_ITEMS,
            max_length=MAX_LENGTH,
            num_splits=NUM_SPLITS,
            num_sub_ids=NUM_SUB_IDS,
            dim=16,
            training_config={"run": {"name": "tiny", "seed": 20260131}},
            data={"interactions": 1234, "sha256": "0" * 64},
            metrics={"test": {"ndcg@10": 0.125}, "protocol": "leave one out, whole catalogue"},
            libraries={name: version(name) for name in ("numpy", "onnx", "pyarrow")},
            git_revision=None,
        ),
        encoder=graph(
            "encoder",
            ENCODER_NODES,
            [
                ("item_codes", TensorProto.UINT8, ["B", "L", NUM_SPLITS]),
                ("lengths", TensorProto.INT64, ["B"]),
            ],
            [("score_tables", TensorProto.FLOAT, ["B", NUM_SPLITS, NUM_SUB_IDS])],
            CONSTANTS,
        ),
        recommender=graph(
            "recommender",
            RECOMMENDER_NODES,
            [
                ("items", TensorProto.INT64, ["B", "L"]),
                ("lengths", TensorProto.INT64, ["B"]),
                ("k", TensorProto.INT64, [1]),
                ("exclude_seen", TensorProto.BOOL, []),
            ],
            [("top_items", TensorProto.INT64, ["B", "K"]), ("top_scores", TensorProto.FLOAT, ["B", "K"])],
            CONSTANTS | RECOMMENDER_CONSTANTS,
        ),
        item_codes=ITEM_CODES,
        items=make_items(),
        golden=make_golden(),
    )


if __name__ == "__main__":
    main()
