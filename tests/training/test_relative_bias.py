"""A bias by distance, made of columns of queries and keys, is the bias that its table says."""

import numpy as np
import pytest
import torch

from training.relative_bias import RelativeBias
from training.transformer import Block

LENGTH, HEADS, DIM = 9, 2, 16


def _bias() -> RelativeBias:
    torch.manual_seed(5)
    bias = RelativeBias(HEADS, LENGTH)
    torch.nn.init.normal_(bias.even)
    torch.nn.init.normal_(bias.odd)
    return bias


def test_products_of_the_columns_are_the_bias_of_the_distance() -> None:
    bias = _bias()
    queries, keys = bias(torch.arange(LENGTH), LENGTH)
    found = queries @ keys.T  # (H, L, L)
    distances = np.arange(LENGTH)[:, None] - np.arange(LENGTH)
    expected = bias.table(distances.ravel()).reshape(HEADS, LENGTH, LENGTH)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-4)
    assert not np.allclose(expected, expected.transpose(0, 2, 1))  # before and after are told apart


def test_it_is_nothing_before_it_is_trained() -> None:
    assert not RelativeBias(HEADS, LENGTH).table(np.arange(-LENGTH, LENGTH)).any()


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
def test_a_block_adds_it_to_the_scores_of_its_attention(causal: bool) -> None:
    bias = _bias()
    block = Block(DIM, HEADS, DIM, 0.0, activation=torch.nn.ReLU, causal=causal, bias=bias).eval()
    x = torch.randn(3, LENGTH, DIM)
    distances = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)
    added = torch.from_numpy(bias.table(distances.flatten().numpy())).float().view(HEADS, LENGTH, LENGTH)
    mask = added.masked_fill(distances < 0, -torch.inf) if causal else added
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
