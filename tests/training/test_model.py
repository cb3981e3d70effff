"""The embedding, the backbone and the losses, against formulas written out."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from training.config import ModelConfig
from training.embedding import FullEmbedding, RecJPQEmbedding
from training.loss import NegativeSampler, gbce, sampled_softmax, softmax
from training.sasrec import SASRec

NUM_ITEMS, NUM_SPLITS, NUM_SUB_IDS, DIM, LENGTH = 30, 4, 8, 16, 6


@pytest.fixture
def item_codes() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(NUM_SUB_IDS, (NUM_ITEMS, NUM_SPLITS), generator=generator).to(torch.uint8)


@pytest.fixture(params=[False, True], ids=["concatenated", "additive"])
def embedding(item_codes: Tensor, request: pytest.FixtureRequest) -> RecJPQEmbedding:
    torch.manual_seed(1)
    return RecJPQEmbedding(item_codes, NUM_SUB_IDS, DIM, additive=request.param)


@pytest.fixture(params=["concatenated", "additive", "full"])
def any_embedding(item_codes: Tensor, request: pytest.FixtureRequest) -> RecJPQEmbedding | FullEmbedding:
    torch.manual_seed(1)
    if request.param == "full":
        return FullEmbedding(NUM_ITEMS, DIM)
    return RecJPQEmbedding(item_codes, NUM_SUB_IDS, DIM, additive=request.param == "additive")


@pytest.fixture
def model(item_codes: Tensor) -> SASRec:
    torch.manual_seed(2)
    config = ModelConfig(dim=DIM, max_length=LENGTH, num_heads=2, dropout=0.5)
    return SASRec(config, RecJPQEmbedding(item_codes, NUM_SUB_IDS, DIM)).eval()


def test_an_item_embedding_is_its_sub_embeddings_end_to_end_or_their_sum(
    embedding: RecJPQEmbedding, item_codes: Tensor
) -> None:
    parts = [embedding.sub_embeddings[j, item_codes[7, j].long()] for j in range(NUM_SPLITS)]
    expected = torch.stack(parts).sum(0) if embedding.additive else torch.cat(parts)
    torch.testing.assert_close(embedding(torch.tensor([7]))[0], expected)
    assert embedding.sub_embeddings.abs().max() <= 0.05


@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 0), (3, 5)])
def test_items_and_their_codes_have_one_embedding_and_one_gradient(
    embedding: RecJPQEmbedding, item_codes: Tensor, shape: tuple[int, ...]
) -> None:
    items = torch.randint(NUM_ITEMS, shape)
    found, expected = embedding(items), embedding.embed_codes(item_codes[items])
    torch.testing.assert_close(found, expected)
    weights = torch.randn(*shape, DIM)
    given, wanted = (
        torch.autograd.grad((each * weights).sum(), embedding.sub_embeddings) for each in (found, expected)
    )
    torch.testing.assert_close(given, wanted)


def test_a_score_is_the_product_of_embedding_and_state_by_every_way(embedding: RecJPQEmbedding) -> None:
    states = torch.randn(5, DIM)
    items = torch.arange(NUM_ITEMS).expand(5, -1)
    expected = states @ embedding(torch.arange(NUM_ITEMS)).T
    tables = embedding.score_tables(states)
    assert tables.shape == (5, NUM_SPLITS, NUM_SUB_IDS)
    torch.testing.assert_close(embedding.score_items(tables, items), expected)
    torch.testing.assert_close(embedding.score_all(states), expected)


def test_codes_are_not_saved_with_the_weights(embedding: RecJPQEmbedding) -> None:
    assert list(embedding.state_dict()) == ["sub_embeddings"]


def test_encode_gives_the_newest_state_of_forward(model: SASRec, item_codes: Tensor) -> None:
    items = torch.randint(NUM_ITEMS, (3, LENGTH))
    lengths = torch.tensor([LENGTH, 1, 4])
    newest = model(items, lengths)[torch.arange(3), lengths - 1]
    torch.testing.assert_close(model.encode(item_codes[items], lengths), model.embedding.score_tables(newest))


def test_what_lies_beyond_the_length_changes_nothing(model: SASRec, item_codes: Tensor) -> None:
    items = torch.randint(NUM_ITEMS, (1, LENGTH))
    changed = items.clone()
    changed[0, 4:] = (changed[0, 4:] + 1) % NUM_ITEMS
    lengths = torch.tensor([4])
    short = model.encode(item_codes[items[:, :4]], lengths)
    torch.testing.assert_close(model.encode(item_codes[items], lengths), short)
    torch.testing.assert_close(model.encode(item_codes[changed], lengths), short)


def test_a_position_sees_the_past_and_not_the_future(model: SASRec) -> None:
    items = torch.randint(NUM_ITEMS, (1, LENGTH))
    lengths = torch.tensor([LENGTH])
    changed = items.clone()
    changed[0, 3] = (changed[0, 3] + 1) % NUM_ITEMS
    before, after = model(items, lengths), model(changed, lengths)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_order_matters(model: SASRec, item_codes: Tensor) -> None:
    items, lengths = torch.tensor([[1, 2, 3, 4]]), torch.tensor([4])
    swapped = model.encode(item_codes[items[:, [1, 0, 2, 3]]], lengths)
    assert not torch.allclose(model.encode(item_codes[items], lengths), swapped)


def _pairs(tokens: int) -> tuple[Tensor, Tensor]:
    """Return states, which take gradients, and targets; more than a few hundred go in several chunks."""
    generator = torch.Generator().manual_seed(5)
    states = torch.randn(tokens, DIM, generator=generator).requires_grad_()
    return states, torch.randint(NUM_ITEMS, (tokens,), generator=generator)


def _assert_same(
    embedding: RecJPQEmbedding | FullEmbedding, states: Tensor, found: Tensor, expected: Tensor
) -> None:
    """Compare losses, and their gradients for states and weights."""
    torch.testing.assert_close(found, expected)
    weights = [states, *embedding.parameters()]
    for given, wanted in zip(
        torch.autograd.grad(found, weights), torch.autograd.grad(expected, weights), strict=True
    ):
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tokens", [4, 600])
def test_softmax_is_the_cross_entropy_of_the_target(
    any_embedding: RecJPQEmbedding | FullEmbedding, tokens: int
) -> None:
    embedding, (states, targets) = any_embedding, _pairs(tokens)
    logits = states @ embedding(torch.arange(NUM_ITEMS)).T
    expected = (logits.logsumexp(1) - logits[torch.arange(tokens), targets]).mean()
    _assert_same(embedding, states, softmax(embedding, states, targets), expected)


@pytest.mark.parametrize("tokens", [2, 600])
def test_gbce_is_the_published_formula(any_embedding: RecJPQEmbedding | FullEmbedding, tokens: int) -> None:
    embedding, (states, targets), negatives, t = any_embedding, _pairs(tokens), 5, 0.75
    torch.manual_seed(3)
    drawn = torch.randint(NUM_ITEMS, (tokens, negatives))
    scores = (states @ embedding(torch.arange(NUM_ITEMS)).T).detach().double()
    alpha = negatives / (NUM_ITEMS - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)  # the paper's Eq. 15, before it is simplified
    total = 0.0
    for row in range(tokens):
        total -= beta * math.log(1 / (1 + math.exp(-scores[row, targets[row]])))
        total -= sum(
            math.log(1 - 1 / (1 + math.exp(-scores[row, n]))) for n in drawn[row] if n != targets[row]
        )
    torch.manual_seed(3)
    found = gbce(embedding, states, targets, negatives=negatives, t=t)
    assert found.item() == pytest.approx(total / (1 + negatives) / tokens, rel=1e-5)


@pytest.mark.parametrize("tokens", [3, 600])
def test_sampled_softmax_weighs_shared_negatives_and_leaves_out_each_token_s_target(
    any_embedding: RecJPQEmbedding | FullEmbedding, tokens: int
) -> None:
    embedding, (states, targets), negatives = any_embedding, _pairs(tokens), 60
    counts = np.arange(NUM_ITEMS)
    sampler = NegativeSampler(counts, 0.25)
    torch.manual_seed(3)
    drawn, _ = sampler.draw(negatives, states.device)
    assert (drawn == targets[:, None]).any()
    expected_draws = negatives * (0.25 * torch.from_numpy(counts / counts.sum()) + 0.75 / NUM_ITEMS)[drawn]
    scores = states @ embedding(torch.arange(NUM_ITEMS)).T
    expected = []
    for row in range(tokens):
        others = drawn != targets[row]
        corrected = scores[row, drawn[others]] - expected_draws[others].log().float()
        expected.append(torch.cat([scores[row, targets[row]][None], corrected]).log_softmax(0)[0])
    torch.manual_seed(3)
    found = sampled_softmax(embedding, states, targets, sampler=sampler, negatives=negatives)
    _assert_same(embedding, states, found, -torch.stack(expected).mean())


def test_negatives_are_drawn_as_often_as_they_say() -> None:
    torch.manual_seed(0)
    counts = np.array([0, 10, 0, 30, 0])
    items, log_expected = NegativeSampler(counts, 0.5).draw(40_000, torch.device("cpu"))
    expected = 40_000 * (0.5 * counts / 40 + 0.5 / 5)
    np.testing.assert_allclose(np.bincount(items.numpy()), expected, rtol=0.05)
    np.testing.assert_allclose(log_expected.exp().numpy(), expected[items.numpy()], rtol=1e-5)
