"""A bias by distance, made of columns of queries and keys, is the bias of its waves."""

import pytest
import torch
from torch import Tensor

from training.relative_bias import RelativeBias
from training.transformer import Block

LENGTH, HEADS, DIM = 9, 2, 16


def _bias() -> RelativeBias:
    torch.manual_seed(5)
    bias = RelativeBias(HEADS, LENGTH)
    torch.nn.init.normal_(bias.even)
    torch.nn.init.normal_(bias.odd)
    return bias


def _by_distance(bias: RelativeBias) -> Tensor:
    """Return the bias that the waves are of each query's and key's distance: (H, L, L)."""
    distances = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)
    phases = distances[..., None] * bias.frequencies  # (L, L, F)
    return torch.einsum("hf,qkf->hqk", bias.even, phases.cos()) + torch.einsum(
        "hf,qkf->hqk", bias.odd, phases.sin()
    )


def test_products_of_the_columns_are_the_bias_of_the_distance() -> None:
    bias = _bias()
    queries, keys = bias(torch.arange(LENGTH), LENGTH)
    expected = _by_distance(bias)
    torch.testing.assert_close(queries @ keys.T, expected, atol=1e-4, rtol=0)
    assert not torch.allclose(expected, expected.transpose(1, 2), atol=0.1)  # before and after are told apart


def test_it_is_nothing_before_it_is_trained() -> None:
    queries, _ = RelativeBias(HEADS, LENGTH)(torch.arange(LENGTH), LENGTH)
    assert not queries.any()


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
def test_a_block_adds_it_to_the_scores_of_its_attention(causal: bool) -> None:
    bias = _bias()
    block = Block(DIM, HEADS, DIM, 0.0, activation=torch.nn.ReLU, causal=causal, bias=bias).eval()
    x = torch.randn(3, LENGTH, DIM)
    mask = _by_distance(bias)
    if causal:
        mask = mask.masked_fill(torch.ones(LENGTH, LENGTH).triu(1).bool(), -torch.inf)
    with torch.no_grad():
        found = block(x)
        block.bias, block.causal = None, False
        torch.testing.assert_close(found, block(x, mask), atol=1e-5, rtol=1e-4)


def test_some_positions_alone_are_what_they_are_among_all() -> None:
    block = Block(DIM, HEADS, DIM, 0.0, activation=torch.nn.ReLU, causal=False, bias=_bias()).eval()
    x, at = torch.randn(2, LENGTH, DIM), torch.tensor([[0, 4], [8, 3]])
    with torch.no_grad():
        expected = block(x).gather(1, at[:, :, None].expand(-1, -1, DIM))
        torch.testing.assert_close(block.forward_at(x, at, None), expected, atol=1e-5, rtol=1e-4)
