"""BERT4Rec (Sun et al., CIKM 2019).

Shapes: B batch, L length, K = L + 1 positions with the MASK, Q masked positions of a row, D width, T tokens.
"""

import torch
from torch import Tensor, nn

from training.backbone import Backbone
from training.batches import Batch
from training.config import ModelConfig
from training.dropout import Dropout
from training.embedding import INITIAL_RANGE, ItemEmbedding
from training.transformer import key_mask, make_blocks, positions_back


class BERT4Rec(Backbone):
    """A bidirectional Transformer that fills in masked items; a MASK after the newest item asks for the next.

    The MASK is a vector of the model and no item: it has no codes. Positions count back from the MASK that
    follows the history, which is position 0, so a history of L items takes L + 1 positions.
    """

    def __init__(self, config: ModelConfig, embedding: ItemEmbedding) -> None:
        super().__init__(config, embedding)
        self.mask = nn.Parameter(torch.empty(config.dim).uniform_(-INITIAL_RANGE, INITIAL_RANGE))
        self.positions = nn.Embedding(config.max_length + 1, config.dim)
        self.input_dropout = Dropout(config.dropout)
        blocks = make_blocks(config, activation=nn.GELU, causal=False)
        self.blocks = nn.ModuleList(blocks[:-1])
        self.last_block = blocks[-1]
        self.final_norm = nn.LayerNorm(config.dim)
        # BERT's masked-token head: the paper's Eq. 7 and a norm.
        self.head = nn.Sequential(nn.Linear(config.dim, config.dim), nn.GELU(), nn.LayerNorm(config.dim))
        nn.init.normal_(self.positions.weight, std=0.02)

    def training_pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the states of the masked items and those items: (T, D), int64 (T,)."""
        items, lengths, masked = self.masked_rows(batch)
        at, chosen = _positions_of(masked)
        items, lengths, masked = (tensor.to(self.device) for tensor in (items, lengths, masked))
        at, chosen = at.to(self.device), chosen.to(self.device)
        embedded = torch.where(masked[..., None], self.mask, self.embedding(items))
        # Batches hold sequences of about one length: in most of them there is nothing to hide.
        hidden = None if batch.valid.all() else key_mask(lengths, items.shape[1])
        states = self._states_at(embedded, lengths, at, hidden)
        return self._finish(states[chosen]), items.gather(1, at)[chosen]

    def masked_rows(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return whole sequences, inputs and last target, and which of their items to mask.

        Each item is masked with `mask_probability`, at least one of each sequence. With
        `mask_last_probability` only the last one of a sequence is: what is asked when serving. Drawn on the
        CPU, so that they depend on the seed alone.

        Returns:
            items int64 (B, K), lengths int64 (B,), masked bool (B, K).
        """
        items = batch.items.new_zeros((len(batch.items), batch.items.shape[1] + 1))
        items[:, 0] = batch.items[:, 0]
        items[:, 1:][batch.valid] = batch.targets
        lengths = batch.lengths + 1
        columns = torch.arange(items.shape[1])
        drawn = torch.rand(items.shape).masked_fill(columns >= lengths[:, None], torch.inf)
        masked = drawn < self.config.mask_probability
        masked |= columns == drawn.argmin(dim=1)[:, None]  # the least likely to stay, if none else was drawn
        only_last = torch.rand(len(items)) < self.config.mask_last_probability
        return items, lengths, torch.where(only_last[:, None], columns == lengths[:, None] - 1, masked)

    def newest(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """See `Backbone.newest`: the state of a MASK put after the newest item."""
        mask = self.mask.expand(embedded.shape[0], 1, -1)
        embedded = torch.cat([embedded, mask], dim=1)  # (B, K, D)
        columns = torch.arange(embedded.shape[1], device=lengths.device)
        embedded = torch.where((columns == lengths[:, None])[..., None], self.mask, embedded)
        hidden = key_mask(lengths + 1, embedded.shape[1])
        return self._finish(self._states_at(embedded, lengths + 1, lengths[:, None], hidden).squeeze(1))

    def _states_at(self, embedded: Tensor, lengths: Tensor, at: Tensor, hidden: Tensor | None) -> Tensor:
        """Return the last block's output at some positions, int64 (B, Q), of rows of items and MASKs."""
        positions = self.positions(positions_back(lengths, embedded.shape[1], self.config.max_length + 1))
        x = self.input_dropout(embedded * self.config.dim**0.5 + positions)
        for block in self.blocks:
            x = block(x, hidden)
        return self.last_block.forward_at(x, at, hidden)  # (B, Q, D)

    def _finish(self, states: Tensor) -> Tensor:
        finished: Tensor = self.head(self.final_norm(states))
        return finished


def _positions_of(masked: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's masked positions, int64 (B, Q), and which of these are no filler, bool (B, Q)."""
    counts = masked.sum(dim=1)
    most = int(counts.max())
    at = masked.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    return at, torch.arange(most) < counts[:, None]
