"""Softmax cross-entropy through score tables, on the CPU.

With RecJPQ a token's scores of any number of items are sums of M of its M x V table entries. The compiled
loop keeps the tables of a few tokens side by side, so that one vector load reads an entry of all of them, and
adds each item's probability to the entries' gradients in the same way. Neither an item's embedding nor a
matrix of tokens x items is ever built.
"""

from typing import Any

import torch
from torch import Tensor

from training import _native
from training.embedding import RecJPQEmbedding

TOKENS_AT_ONCE = 128
"""Their tables and gradients, 2 x 1 MB with M x V = 2,048, stay in the cache from product to product."""


def score_softmax(
    embedding: RecJPQEmbedding,
    states: Tensor,
    targets: Tensor,
    candidates: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Return the mean of ``log(exp(s_target) + sum over c != target of exp(s_c + bias_c)) - s_target``.

    Args:
        embedding: of the items, on the CPU.
        states: float32 (T, D).
        targets: int64 (T,).
        candidates: item indices int64 (C,), the whole catalogue by default; repeats count.
        bias: float32 (C,), none by default.
    """
    codes = embedding.item_codes
    ids = torch.arange(len(codes)) if candidates is None else candidates
    loss: Tensor = _ScoreSoftmax.apply(  # type: ignore[no-untyped-call]
        states,
        embedding.sub_embeddings,
        embedding.additive,
        codes if candidates is None else codes[candidates],
        ids.int(),
        bias,
        codes[targets],
        targets.int(),
    )
    return loss


class _ScoreSoftmax(torch.autograd.Function):
    """The gradients are made together with the loss, a few tokens at a time so that all stays cached."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        sub_embeddings: Tensor,
        additive: bool,
        candidate_codes: Tensor,
        candidate_ids: Tensor,
        candidate_bias: Tensor | None,
        target_codes: Tensor,
        target_ids: Tensor,
    ) -> Tensor:
        M, V, W = sub_embeddings.shape
        factors = sub_embeddings.view(1 if additive else M, -1, W)  # one product for each part of a state
        losses = states.new_empty(len(states))
        state_gradients = torch.empty_like(states)
        factor_gradients = torch.zeros_like(factors)
        for first in range(0, len(states), TOKENS_AT_ONCE):
            chunk = slice(first, first + TOKENS_AT_ONCE)
            parts = states[chunk].unflatten(1, (-1, W)).permute(1, 2, 0).contiguous()  # (1 or M, W, T)
            tables = torch.bmm(factors, parts).view(M, V, -1)
            gradients = torch.empty_like(tables)
            _native.score_softmax(
                tables.numpy(),
                candidate_codes.numpy(),
                candidate_ids.numpy(),
                None if candidate_bias is None else candidate_bias.numpy(),
                target_codes[chunk].numpy(),
                target_ids[chunk].numpy(),
                losses[chunk].numpy(),
                gradients.numpy(),
                torch.get_num_threads(),
            )
            gradients = gradients.view(len(factors), -1, gradients.shape[2])
            state_gradients[chunk] = torch.bmm(factors.transpose(1, 2), gradients).permute(2, 0, 1).flatten(1)
            factor_gradients.baddbmm_(gradients, parts.transpose(1, 2))
        ctx.save_for_backward(state_gradients, factor_gradients.view_as(sub_embeddings))
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        state_gradients, sub_gradients = ctx.saved_tensors
        scale = gradient / len(state_gradients)
        return state_gradients * scale, sub_gradients * scale, None, None, None, None, None, None
