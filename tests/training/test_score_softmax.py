"""The compiled softmax against PyTorch's own, with its gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from training.embedding import RecJPQEmbedding
from training.score_softmax import TOKENS_AT_ONCE, score_softmax


def _embedding(
    num_items: int, num_splits: int, num_sub_ids: int, width: int, scale: float, *, additive: bool = False
) -> RecJPQEmbedding:
    torch.manual_seed(0)
    codes = torch.randint(num_sub_ids, (num_items, num_splits)).to(torch.uint8)
    embedding = RecJPQEmbedding(codes, num_sub_ids, num_splits * width, additive=additive)
    with torch.no_grad():
        embedding.sub_embeddings.normal_(std=scale)
    return embedding


def _reference(
    embedding: RecJPQEmbedding, states: Tensor, targets: Tensor, candidates: Tensor, bias: Tensor
) -> Tensor:
    scores = states @ embedding(candidates).T + bias
    scores = scores.masked_fill(candidates == targets[:, None], -torch.inf)
    positive = (states * embedding(targets)).sum(1, keepdim=True)
    return functional.cross_entropy(torch.cat([positive, scores], dim=1), torch.zeros_like(targets))


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("scale", [0.05, 1.0, 30.0])  # from nearly equal scores to differences of thousands
@pytest.mark.parametrize("tokens", [1, 7, 8, 9, TOKENS_AT_ONCE + 3])
@pytest.mark.parametrize(("num_splits", "num_sub_ids", "width"), [(1, 2, 3), (8, 256, 2), (5, 7, 4)])
def test_loss_and_gradients_are_pytorch_s(
    tokens: int, num_splits: int, num_sub_ids: int, width: int, scale: float, additive: bool
) -> None:
    embedding = _embedding(50, num_splits, num_sub_ids, width, scale, additive=additive)
    states = torch.randn(tokens, num_splits * width, requires_grad=True)
    targets = torch.randint(50, (tokens,))
    candidates, bias = torch.randint(50, (120,)), torch.randn(120)
    for chosen, biases in ((candidates, bias), (torch.arange(50), torch.zeros(50))):
        expected = _reference(embedding, states, targets, chosen, biases)
        whole = chosen is not candidates
        found = score_softmax(embedding, states, targets, *(() if whole else (chosen, biases)))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        wanted = torch.autograd.grad(expected, (states, embedding.sub_embeddings))
        given = torch.autograd.grad(3.0 * found, (states, embedding.sub_embeddings))
        for want, give in zip(wanted, given, strict=True):
            atol = 1e-5 * scale  # a probability near one minus one has lost its last digits
            torch.testing.assert_close(give, 3.0 * want, rtol=1e-3, atol=atol)


def test_threads_change_nothing() -> None:
    embedding = _embedding(300, 8, 256, 4, 1.0)
    states, targets = torch.randn(100, 32, requires_grad=True), torch.randint(300, (100,))
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            loss = score_softmax(embedding, states, targets)
            results.append((loss, *torch.autograd.grad(loss, (states, embedding.sub_embeddings))))
    finally:
        torch.set_num_threads(threads)
    for one, three in zip(*results, strict=True):
        torch.testing.assert_close(one, three)


def test_a_score_that_is_no_number_gives_a_loss_that_is_none() -> None:
    embedding = _embedding(50, 4, 8, 4, 1.0)
    states = torch.full((3, 16), float("nan"))
    assert torch.isnan(score_softmax(embedding, states, torch.tensor([0, 1, 2])))
