"""GRU4Rec (Hidasi et al., ICLR 2016), trained as SASRec is: the next item at every position."""

from torch import Tensor, nn

from training.backbone import Backbone
from training.config import ModelConfig
from training.dropout import Dropout
from training.embedding import ItemEmbedding


class GRU4Rec(Backbone):
    """GRU layers of width D over the history, then a linear map to the scoring state.

    Rows are left-aligned, so their padding comes after every state that is used and needs no packing.
    """

    def __init__(self, config: ModelConfig, embedding: ItemEmbedding) -> None:
        super().__init__(config, embedding)
        self.input_dropout = Dropout(config.dropout)
        between = config.dropout if config.num_blocks > 1 else 0.0
        self.gru = nn.GRU(config.dim, config.dim, config.num_blocks, batch_first=True, dropout=between)
        self.projection = nn.Linear(config.dim, config.dim)

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002 - a state needs its past alone
        """Return a state per position: items int64 (B, L), lengths int64 (B,) -> (B, L, D)."""
        states: Tensor = self.projection(self._states(self.embedding(items)))
        return states

    def newest(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """See `Backbone.newest`."""
        rows = (lengths - 1)[:, None, None].expand(-1, 1, self.config.dim)  # (B, 1, D)
        state: Tensor = self.projection(self._states(embedded).gather(1, rows).squeeze(1))
        return state

    def _states(self, embedded: Tensor) -> Tensor:
        states: Tensor = self.gru(self.input_dropout(embedded * self.config.dim**0.5))[0]
        return states
