"""What every backbone promises, over either item embedding, and the masked-item task of BERT4Rec."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recjpq.scoring import load_scorer
from training.backbone import Backbone
from training.batches import Batch
from training.bert4rec import BERT4Rec
from training.config import Config
from training.embedding import FullEmbedding
from training.encoder_graph import encoder_graph
from training.errors import DivergedError
from training.models import make_model
from training.ranker import DenseRanker

NUM_ITEMS, LENGTH, DIM = 30, 6, 16
BACKBONES = ["bert4rec", "gru4rec", "sasrec"]
VARIANTS: dict[str, dict[str, Any]] = {
    "recjpq": {}, "full": {"embedding": "full"}, "no distances": {"relative_positions": False},
}  # fmt: skip


def _make_model(backbone: str, embedding: str = "recjpq", **options: object) -> Backbone:
    config = Config.model_validate(
        {
            "run": {"directory": "x", "name": "x"},
            "data": {"interactions": "x"},
            "codes": {"num_splits": 4, "num_sub_ids": 8},
            "model": {
                "backbone": backbone, "item_embedding": embedding, "dim": DIM, "max_length": LENGTH,
                "num_heads": 2, "dropout": 0.5, **options,
            },
        }
    )  # fmt: skip
    torch.manual_seed(2)
    item_codes = np.random.default_rng(0).integers(0, 8, size=(NUM_ITEMS, 4), dtype=np.uint8)
    model = make_model(config, NUM_ITEMS if embedding == "full" else item_codes).eval()
    with torch.no_grad():  # what begins at zero, as the bias of distances does, would change nothing yet
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    return model


@pytest.fixture(params=[(b, v) for b in BACKBONES for v in VARIANTS], ids="-".join)
def model(request: pytest.FixtureRequest) -> Backbone:
    backbone, variant = request.param
    return _make_model(backbone, **VARIANTS[variant])


def _encode(model: Backbone, items: Tensor, lengths: Tensor) -> Tensor:
    return model.encode(model.embedding.item_codes[items], lengths)


def _batch(rows: list[list[int]]) -> Batch:
    """Make a batch of whole sequences."""
    lengths = torch.tensor([len(row) - 1 for row in rows])
    valid = torch.arange(int(lengths.max())) < lengths[:, None]
    items, targets = torch.zeros(valid.shape, dtype=torch.int64), []
    for row, sequence in zip(items, rows, strict=True):
        row[: len(sequence) - 1] = torch.tensor(sequence[:-1])
        targets += sequence[1:]
    return Batch(items, lengths, torch.tensor(targets), valid)


def test_padding_and_the_rest_of_a_batch_change_nothing(model: Backbone) -> None:
    generator = torch.Generator().manual_seed(3)
    items = torch.randint(NUM_ITEMS, (LENGTH, LENGTH), generator=generator)
    lengths = torch.arange(1, LENGTH + 1)
    together = _encode(model, items, lengths)
    assert together.shape == (LENGTH, *model.embedding.table_shape)
    for row, length in enumerate(lengths):
        alone = _encode(model, items[row : row + 1, :length], length[None])
        torch.testing.assert_close(together[row : row + 1], alone)


def test_the_order_of_a_history_matters(model: Backbone) -> None:
    swapped = _encode(model, torch.tensor([[1, 3, 2, 4]]), torch.tensor([4]))
    assert not torch.allclose(_encode(model, torch.tensor([[1, 2, 3, 4]]), torch.tensor([4])), swapped)


def test_every_weight_is_trained(model: Backbone) -> None:
    states, targets = model.training_pairs(_batch([[1, 2, 3, 4, 5, 6, 7], [8, 9, 10]]))
    assert states.shape == (len(targets), DIM)
    torch.nn.functional.cross_entropy(model.embedding.score_all(states), targets).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name


@pytest.mark.parametrize("backbone", ["gru4rec", "sasrec"])
def test_a_causal_position_sees_the_past_and_not_the_future(backbone: str) -> None:
    model = _make_model(backbone)
    before, targets = model.training_pairs(_batch([[1, 2, 3, 4, 5, 6, 7]]))
    after, _ = model.training_pairs(_batch([[1, 2, 3, 9, 5, 6, 7]]))
    assert targets.tolist() == [2, 3, 4, 5, 6, 7]
    torch.testing.assert_close(before[:3], after[:3])
    assert not torch.isclose(before[3:], after[3:]).all(dim=1).any()


@pytest.mark.parametrize("backbone", ["gru4rec", "sasrec"])
def test_the_newest_training_state_is_the_one_that_serves(backbone: str) -> None:
    model = _make_model(backbone, num_blocks=3)
    states, _ = model.training_pairs(_batch([[1, 2, 3, 4, 5, 6, 7]]))
    served = _encode(model, torch.tensor([[1, 2, 3, 4, 5, 6]]), torch.tensor([6]))
    torch.testing.assert_close(model.embedding.score_tables(states[-1:]), served)


def test_a_second_export_of_a_gru_in_one_process_is_as_free_as_the_first() -> None:
    model = _make_model("gru4rec", num_blocks=2)
    for _ in range(2):
        graph = encoder_graph(model).graph  # checked against PyTorch at several lengths and batch sizes
        sizes = [[d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim] for v in graph.input]
        assert sizes == [["B", "L", 4], ["B"]]


def _bert4rec(**options: object) -> BERT4Rec:
    model = _make_model("bert4rec", **options)
    assert isinstance(model, BERT4Rec)
    return model


def test_masks_cover_the_configured_share_and_at_least_one_item_of_each_sequence() -> None:
    model = _bert4rec(mask_probability=0.3, mask_last_probability=0.0)
    rows = [[1, 2, 3, 4, 5, 6, 7]] * 2000 + [[8, 9, 10]] * 2000
    torch.manual_seed(4)
    items, lengths, masked = model.masked_rows(_batch(rows))
    assert items[0].tolist() == rows[0]
    assert items[-1].tolist() == [8, 9, 10, 0, 0, 0, 0]
    assert masked.any(dim=1).all()
    assert not masked[torch.arange(7) >= lengths[:, None]].any()
    for row, length in ((slice(2000), 7), (slice(2000, None), 3)):
        expected = 0.3 + 0.7**length / length  # where none is drawn, one is chosen
        share = masked[row, :length].double().mean(dim=0)
        torch.testing.assert_close(share, torch.full_like(share, expected), atol=0.04, rtol=0)


def test_some_sequences_mask_only_what_is_asked_when_serving() -> None:
    model = _bert4rec(mask_probability=0.0, mask_last_probability=0.25)
    torch.manual_seed(4)
    _, _, masked = model.masked_rows(_batch([[1, 2, 3, 4, 5, 6, 7]] * 4000))
    assert masked.sum(dim=1).eq(1).all()
    assert masked[:, -1].double().mean().item() == pytest.approx(0.25 + 0.75 / 7, abs=0.03)


def test_a_masked_item_does_not_leak_and_the_others_are_seen() -> None:
    model = _bert4rec()
    rows = [[1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11]]
    torch.manual_seed(5)
    _, _, masked = model.masked_rows(_batch(rows))
    hidden = [[bool(m) for m in row[: len(items)]] for row, items in zip(masked, rows, strict=True)]

    def states_after(change: bool) -> Tensor:
        changed = [
            [item + 15 if is_hidden == change else item for item, is_hidden in zip(*row, strict=True)]
            for row in zip(rows, hidden, strict=True)
        ]
        torch.manual_seed(5)
        return model.training_pairs(_batch(changed))[0]

    torch.manual_seed(5)
    states, targets = model.training_pairs(_batch(rows))
    assert targets.tolist() == [
        i for row in zip(rows, hidden, strict=True) for i, h in zip(*row, strict=True) if h
    ]
    torch.testing.assert_close(states_after(True), states)
    assert not torch.isclose(states_after(False), states).all(dim=1).any()


def test_a_masked_last_item_is_the_serving_situation_whatever_the_padding() -> None:
    model = _bert4rec(mask_last_probability=1 - 1e-9)
    rows = [[1, 2, 3, 4, 5, 6, 7], [8, 9, 10]]
    states, targets = model.training_pairs(_batch(rows))
    assert targets.tolist() == [7, 10]
    for row, state in zip(rows, states, strict=True):
        alone, _ = model.training_pairs(_batch([row]))
        torch.testing.assert_close(alone[0], state)
        served = _encode(model, torch.tensor([row[:-1]]), torch.tensor([len(row) - 1]))
        torch.testing.assert_close(model.embedding.score_tables(state[None]), served)


@pytest.mark.parametrize("dim", [1, 16], ids=["by the product", "by rows"])
def test_a_full_table_scores_alike_by_every_way(dim: int) -> None:
    torch.manual_seed(6)
    embedding = FullEmbedding(NUM_ITEMS, dim)
    states, items = torch.randn(5, dim), torch.randint(NUM_ITEMS, (5, 30 if dim == 1 else 1))
    expected = states @ embedding(torch.arange(NUM_ITEMS)).T
    torch.testing.assert_close(embedding.score_all(states), expected)
    torch.testing.assert_close(embedding.score_tables(states), expected[:, None])
    torch.testing.assert_close(embedding.score_candidates(states, items), expected.gather(1, items))
    assert embedding.weight.abs().max() <= 0.05
    assert list(embedding.state_dict()) == ["weight"]


@pytest.mark.parametrize("k", [1, 7, 29, 100])
def test_the_dense_ranker_keeps_the_contract_of_the_scorers(k: int) -> None:
    rng = np.random.default_rng(7)
    tables = rng.integers(0, 6, size=(20, 1, NUM_ITEMS)).astype(np.float32)  # many ties
    exclude = [rng.integers(0, NUM_ITEMS, size=n, dtype=np.int32) if n else None for n in range(20)]
    scorer = load_scorer(np.arange(NUM_ITEMS, dtype=np.uint8)[:, None], "numpy")
    for unwanted in (None, exclude):
        expected = scorer.top_k(tables, k, exclude=unwanted)
        for found, wanted in zip(DenseRanker().top_k(tables, k, exclude=unwanted), expected, strict=True):
            assert found.ids.tolist() == wanted.ids.tolist()
            assert found.scores.tolist() == wanted.scores.tolist()


def test_the_dense_ranker_refuses_what_is_no_score() -> None:
    with pytest.raises(DivergedError, match="not finite"):
        DenseRanker().top_k(np.full((1, 1, 3), np.nan, dtype=np.float32), 1)
