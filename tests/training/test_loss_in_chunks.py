"""A loss in chunks against the same loss at once, with its gradients."""

import pytest
import torch
from torch import Tensor

from training.loss_in_chunks import TOKENS_AT_ONCE, total_in_chunks


@pytest.mark.parametrize("tokens", [1, TOKENS_AT_ONCE, 2 * TOKENS_AT_ONCE + 3])
def test_loss_and_gradients_are_those_of_the_whole(tokens: int) -> None:
    torch.manual_seed(0)
    states = torch.randn(tokens, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    factors = torch.rand(tokens, 1, dtype=torch.float64)
    seen: list[int] = []

    def total(own: Tensor, chunk: slice) -> Tensor:
        seen.append(len(own))
        return (torch.tanh(own @ weights) * factors[chunk]).sum()

    expected = (torch.tanh(states @ weights) * factors).sum()
    found = total_in_chunks(total, states, weights)
    assert max(seen) <= TOKENS_AT_ONCE
    assert sum(seen) == tokens
    torch.testing.assert_close(found, expected)
    wanted = torch.autograd.grad(expected, (states, weights))
    given = torch.autograd.grad(3.0 * found, (states, weights))
    for want, give in zip(wanted, given, strict=True):
        torch.testing.assert_close(give, 3.0 * want)
    with torch.no_grad():
        torch.testing.assert_close(total_in_chunks(total, states, weights), expected)
