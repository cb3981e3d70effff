"""SASRec (Kang & McAuley, ICDM 2018)."""

from torch import Tensor, nn

from training.backbone import Backbone
from training.config import ModelConfig
from training.dropout import Dropout
from training.embedding import ItemEmbedding
from training.transformer import key_mask, make_blocks, positions_back


class SASRec(Backbone):
    """A causal Transformer over the history; its newest state scores the catalogue.

    Histories are left-aligned and positions count back from the newest item, so padding comes after
    everything that a causal model looks at, and a short history costs only its own length.
    """

    def __init__(self, config: ModelConfig, embedding: ItemEmbedding) -> None:
        super().__init__(config, embedding)
        self.positions = nn.Embedding(config.max_length, config.dim)
        self.input_dropout = Dropout(config.dropout)
        blocks = make_blocks(config, activation=nn.ReLU, causal=True)
        self.blocks = nn.Sequential(*blocks[:-1])
        self.last_block = blocks[-1]
        self.final_norm = nn.LayerNorm(config.dim)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return a state per position: items int64 (B, L), lengths int64 (B,) -> (B, L, D)."""
        x = self.blocks(self._embed(self.embedding(items), lengths))
        states: Tensor = self.final_norm(self.last_block(x))
        return states

    def newest(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """See `Backbone.newest`."""
        x = self.blocks(self._embed(embedded, lengths))
        newest = self.last_block.forward_at(x, (lengths - 1)[:, None], key_mask(lengths, x.shape[1]))
        state: Tensor = self.final_norm(newest.squeeze(1))
        return state

    def _embed(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        positions = self.positions(positions_back(lengths, embedded.shape[1], self.config.max_length))
        x: Tensor = self.input_dropout(embedded * self.config.dim**0.5 + positions)
        return x
