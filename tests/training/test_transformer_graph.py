"""The graphs made for serving compute what was trained, in every shape of the model."""

from collections import Counter

import numpy as np
import onnxruntime
import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from training.backbone import Backbone
from training.config import Config
from training.encoder_graph import check_tables, encoder_graph
from training.errors import ExportError
from training.models import make_model

LENGTH, SPLITS, SUB_IDS = 7, 4, 8


def _model(backbone: str, **options: object) -> Backbone:
    """Return a model whose every parameter matters: untrained norms and biases are 1 and 0."""
    values = {"backbone": backbone, "dim": 16, "max_length": LENGTH, **options}
    config = Config.model_validate(
        {
            "run": {"directory": "x", "name": "x"},
            "data": {"interactions": "x"},
            "codes": {"num_splits": SPLITS, "num_sub_ids": SUB_IDS},
            "model": values,
        }
    )
    torch.manual_seed(1)
    item_codes = np.random.default_rng(0).integers(0, SUB_IDS, size=(30, SPLITS), dtype=np.uint8)
    model = make_model(config, item_codes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
@pytest.mark.parametrize("composition", ["additive", "concatenated"])
@pytest.mark.parametrize("num_blocks", [1, 2, 3])
@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("backbone", ["sasrec", "bert4rec"])
def test_the_graph_gives_the_models_tables(
    backbone: str, num_heads: int, num_blocks: int, composition: str, relative: bool
) -> None:
    sizes = {"num_heads": num_heads, "num_blocks": num_blocks, "ffn_dim": 24}
    model = _model(backbone, **sizes, composition=composition, relative_positions=relative)
    encoder_graph(model)  # checked against PyTorch at several lengths and batch sizes


@pytest.mark.parametrize("backbone", ["sasrec", "bert4rec"])
def test_every_parameter_is_in_the_graph(backbone: str) -> None:
    model = _model(backbone, num_heads=2, relative_positions=True)
    graph = encoder_graph(model).SerializeToString()
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        with pytest.raises(ExportError, match="differ from PyTorch's"):
            check_tables(model, graph)
        graph = encoder_graph(model).SerializeToString()


@pytest.mark.parametrize("backbone", ["sasrec", "bert4rec"])
def test_padding_and_the_rest_of_a_batch_change_nothing(backbone: str) -> None:
    graph = encoder_graph(_model(backbone)).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    codes = np.random.default_rng(1).integers(0, SUB_IDS, size=(LENGTH, LENGTH, SPLITS), dtype=np.uint8)
    lengths = np.arange(1, LENGTH + 1)
    together = session.run(None, {"item_codes": codes, "lengths": lengths})[0]
    for row, length in enumerate(lengths):
        feeds = {"item_codes": codes[row : row + 1, :length], "lengths": lengths[row : row + 1]}
        np.testing.assert_allclose(session.run(None, feeds)[0][0], together[row], rtol=1e-4, atol=1e-4)


def test_the_last_block_makes_no_keys_and_values() -> None:
    """With one block nothing as wide as D x D is multiplied with every position."""
    one, two = (encoder_graph(_model("sasrec", num_blocks=n)).graph for n in (1, 2))
    operators = [Counter(node.op_type for node in graph.node) for graph in (one, two)]
    assert (operators[1] - operators[0])["Gemm"] == 3  # queries and values, and the two of the feed-forward
    assert operators[0]["Split"] == 0


def test_one_graph_serves_longer_batches_and_histories_than_it_was_checked_with() -> None:
    graph = encoder_graph(_model("sasrec", relative_positions=False)).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    codes = np.zeros((40, 3 * LENGTH, SPLITS), dtype=np.uint8)  # older positions share the oldest's embedding
    tables = session.run(None, {"item_codes": codes, "lengths": np.full(40, 3 * LENGTH)})[0]
    assert tables.shape == (40, SPLITS, SUB_IDS)
    assert np.isfinite(tables).all()


def test_a_distance_that_was_never_trained_is_refused() -> None:
    session = onnxruntime.InferenceSession(
        encoder_graph(_model("sasrec")).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    codes = np.zeros((1, LENGTH + 1, SPLITS), dtype=np.uint8)
    with pytest.raises(InvalidArgument, match="out of data bounds"):
        session.run(None, {"item_codes": codes, "lengths": np.array([LENGTH + 1])})
