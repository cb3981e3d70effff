"""A loss whose tokens are dealt with a few at a time, each chunk's gradients made before the next chunk.

So what a loss holds for each token and candidate (ids, scores, their gradients) is held for one chunk and
stays in the cache, and nothing is computed twice, as it would be with checkpoints.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

TOKENS_AT_ONCE = 256

Total = Callable[[Tensor, slice], Tensor]
"""``total(states of a chunk (C, D), which tokens) -> scalar``, the sum of the chunk's losses."""


def total_in_chunks(total: Total, states: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of a loss over tokens.

    Args:
        total: of a chunk; of what has a gradient it may use its states and the weights alone.
        states: float32 (T, D).
        weights: what else the loss has a gradient for.
    """
    if not torch.is_grad_enabled():
        return torch.stack([total(states[chunk], chunk) for chunk in _chunks(len(states))]).sum()
    loss: Tensor = _TotalInChunks.apply(states, weights, total)  # type: ignore[no-untyped-call]
    return loss


class _TotalInChunks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weights: Tensor, total: Total) -> Tensor:
        loss = states.new_zeros(())
        state_gradients, weight_gradients = torch.empty_like(states), torch.zeros_like(weights)
        for chunk in _chunks(len(states)):
            own = states[chunk].detach().requires_grad_()
            with torch.enable_grad():
                part = total(own, chunk)
            state_gradients[chunk], of_weights = torch.autograd.grad(part, [own, weights])
            weight_gradients += of_weights
            loss += part.detach()
        ctx.save_for_backward(state_gradients, weight_gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, None]:
        state_gradients, weight_gradients = ctx.saved_tensors
        return state_gradients * gradients[0], weight_gradients * gradients[0], None


def _chunks(tokens: int) -> list[slice]:
    return [slice(first, first + TOKENS_AT_ONCE) for first in range(0, tokens, TOKENS_AT_ONCE)]
