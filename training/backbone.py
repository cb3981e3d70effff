"""What trainer, evaluation and export need of a model, whichever its backbone and item embedding.

Shapes: B batch, L length, N items, M splits, V sub-ids, D width, T tokens.
"""

import torch
from torch import Tensor, nn

from training.batches import Batch
from training.config import ModelConfig
from training.embedding import ItemEmbedding


class Backbone(nn.Module):
    """A sequence model over an item embedding.

    A backbone defines `newest` and either `forward`, a state at every position, from which the next item is
    learned, or a task of its own in `training_pairs`. Rows are left-aligned: the newest item of each is at
    ``lengths - 1``, and what lies beyond changes nothing.
    """

    config: ModelConfig
    embedding: ItemEmbedding

    def __init__(self, config: ModelConfig, embedding: ItemEmbedding) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.embedding.item_codes.device

    def training_pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the states to learn from and the items they should score best: (T, D), int64 (T,)."""
        states = self(batch.items.to(self.device), batch.lengths.to(self.device))
        return states[batch.valid.to(self.device)], batch.targets.to(self.device)

    def newest(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """Return what scores the next item: embedded items (B, L, D), lengths int64 (B,) -> (B, D)."""
        raise NotImplementedError

    def encode(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Return the next item's score tables: codes integer (B, L, M), lengths (B,) -> (B, M, V)."""
        return self.embedding.score_tables(self.newest(self.embedding.embed_codes(codes), lengths))
