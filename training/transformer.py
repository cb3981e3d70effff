"""Transformer blocks, shared by SASRec and BERT4Rec.

Shapes: B batch, L length, Q positions that are computed, H heads, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.config import ModelConfig
from training.dropout import Dropout
from training.relative_bias import RelativeBias


class Block(nn.Module):
    """One pre-norm Transformer block, causal or bidirectional."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        ffn_dim: int,
        dropout: float,
        *,
        activation: Callable[[], nn.Module],
        causal: bool,
        bias: RelativeBias | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.causal = causal
        self.bias = bias
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.projection = nn.Linear(dim, dim)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(
            nn.Linear(dim, ffn_dim), activation(), Dropout(dropout), nn.Linear(ffn_dim, dim)
        )
        self.residual_dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map every position: (B, L, D) -> (B, L, D).

        A causal block sees itself and what came before and takes no mask; padding comes after all that.
        A bidirectional one sees everything that `mask`, of `key_mask`, lets it see.
        """
        normed = self.attention_norm(x)
        everywhere = torch.arange(x.shape[1], device=x.device)
        return self._finish(x, self._attend(normed, everywhere, normed, mask, causal=self.causal))

    def forward_at(self, x: Tensor, at: Tensor, mask: Tensor | None) -> Tensor:
        """Map some positions only, each seeing what `mask` lets it see: at int64 (B, Q) -> (B, Q, D).

        What the last block needs where few positions are asked for; the rest would be thrown away.
        """
        normed = self.attention_norm(x)
        rows = at[:, :, None].expand(-1, -1, x.shape[2])  # (B, Q, D)
        attended = self._attend(normed.gather(1, rows), at, normed, mask, causal=False)
        return self._finish(x.gather(1, rows), attended)

    def _attend(self, queries: Tensor, at: Tensor, x: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
        query = self._heads(self.query(queries))  # (B, H, Q, D/H)
        key, value = (self._heads(part) for part in self.key_value(x).chunk(2, dim=-1))
        width = query.shape[-1]
        if self.bias is not None:
            of_queries, of_keys = self.bias(at, x.shape[1])
            query = torch.cat([query, of_queries.expand(*query.shape[:-1], -1) * width**0.5], dim=-1)
            key = torch.cat([key, of_keys.expand(*key.shape[:-1], -1)], dim=-1)
            value = functional.pad(value, (0, key.shape[-1] - width))  # the fused attention wants one width
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, scale=width**-0.5
        )[..., :width]
        projected: Tensor = self.projection(attended.transpose(1, 2).flatten(2))
        return projected

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return heads

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.residual_dropout(attended)
        finished: Tensor = x + self.residual_dropout(self.ffn(self.ffn_norm(x)))
        return finished


def make_blocks(config: ModelConfig, *, activation: Callable[[], nn.Module], causal: bool) -> list[Block]:
    """Return the configured number of blocks."""
    sizes = (config.dim, config.num_heads, config.ffn_dim or config.dim, config.dropout)
    positions = config.max_length + (not causal)  # the MASK takes one

    def block() -> Block:
        bias = RelativeBias(config.num_heads, positions) if config.relative_positions else None
        return Block(*sizes, activation=activation, causal=causal, bias=bias)

    return [block() for _ in range(config.num_blocks)]


def key_mask(lengths: Tensor, width: int) -> Tensor:
    """Return what attention adds to its scores: 0 at real keys, minus infinity beyond a row's length.

    Float32 (B, 1, 1, width): PyTorch's fused attention broadcasts it; a boolean one would be turned into it
    in every block.
    """
    beyond = torch.arange(width, device=lengths.device) >= lengths[:, None]
    return torch.zeros(beyond.shape, device=lengths.device).masked_fill(beyond, -torch.inf)[:, None, None, :]


def positions_back(lengths: Tensor, width: int, num_positions: int) -> Tensor:
    """Return each position's distance from the newest one, int64 (B, width), below `num_positions`."""
    back = lengths[:, None] - 1 - torch.arange(width, device=lengths.device)
    return back.clamp(0, num_positions - 1)
