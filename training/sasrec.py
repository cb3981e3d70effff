"""SASRec (Kang & McAuley, ICDM 2018) over a RecJPQ embedding.

Shapes: B batch, L length, M splits, V sub-ids, D width, T tokens.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.config import ModelConfig
from training.dropout import Dropout
from training.embedding import RecJPQEmbedding


class Block(nn.Module):
    """One pre-norm Transformer block with causal attention."""

    def __init__(self, dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.projection = nn.Linear(dim, dim)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(
            nn.Linear(dim, ffn_dim), nn.ReLU(), Dropout(dropout), nn.Linear(ffn_dim, dim)
        )
        self.residual_dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map every position, each seeing itself and what came before: (B, L, D) -> (B, L, D)."""
        normed = self.attention_norm(x)
        return self._finish(x, self._attend(normed, normed, mask=None))

    def forward_last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Map only the newest position: (B, L, D), lengths int64 (B,) -> (B, D).

        What a served history needs of the last block; the rest of its work would be thrown away.
        """
        normed = self.attention_norm(x)
        newest = (lengths - 1)[:, None, None].expand(-1, 1, x.shape[2])  # (B, 1, D)
        visible = torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # (B, L)
        attended = self._attend(normed.gather(1, newest), normed, mask=visible[:, None, None, :])
        return self._finish(x.gather(1, newest), attended).squeeze(1)

    def _attend(self, queries: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        query = self._heads(self.query(queries))  # (B, H, Q, D/H)
        key, value = (self._heads(part) for part in self.key_value(x).chunk(2, dim=-1))
        attended = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None,
        )
        projected: Tensor = self.projection(attended.transpose(1, 2).flatten(2))
        return projected

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return heads

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.residual_dropout(attended)
        finished: Tensor = x + self.residual_dropout(self.ffn(self.ffn_norm(x)))
        return finished


class SASRec(nn.Module):
    """A causal Transformer over the history; its newest state scores the catalogue.

    Histories are left-aligned and positions count back from the newest item, so padding comes after
    everything that a causal model looks at, and a short history costs only its own length.
    """

    def __init__(self, config: ModelConfig, item_codes: Tensor, num_sub_ids: int) -> None:
        super().__init__()
        self.config = config
        ffn_dim = config.ffn_dim or config.dim
        self.embedding = RecJPQEmbedding(
            item_codes, num_sub_ids, config.dim, additive=config.composition == "additive"
        )
        self.positions = nn.Embedding(config.max_length, config.dim)
        self.input_dropout = Dropout(config.dropout)
        blocks = [
            Block(config.dim, config.num_heads, ffn_dim, config.dropout) for _ in range(config.num_blocks)
        ]
        self.blocks = nn.Sequential(*blocks[:-1])
        self.last_block = blocks[-1]
        self.final_norm = nn.LayerNorm(config.dim)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return a state per position: items int64 (B, L), lengths int64 (B,) -> (B, L, D)."""
        x = self.blocks(self._embed(self.embedding(items), lengths))
        states: Tensor = self.final_norm(self.last_block(x))
        return states

    def encode(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Return the newest state's score tables: codes integer (B, L, M), lengths (B,) -> (B, M, V)."""
        x = self.blocks(self._embed(self.embedding.embed_codes(codes), lengths))
        newest = self.final_norm(self.last_block.forward_last(x, lengths))  # (B, D)
        return self.embedding.score_tables(newest)

    def _embed(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        back = lengths[:, None] - 1 - torch.arange(embedded.shape[1], device=embedded.device)  # (B, L)
        positions = self.positions(back.clamp(0, self.config.max_length - 1))
        x: Tensor = self.input_dropout(embedded * self.config.dim**0.5 + positions)
        return x
