"""The RecJPQ embedding: items share M x V sub-embeddings, at the input and at the output."""

import torch
from torch import Tensor, nn

INITIAL_RANGE = 0.05


class RecJPQEmbedding(nn.Module):
    """Sub-embeddings named by frozen codes (RecJPQ, WSDM 2024, section 4.1).

    Holds ``Psi`` (M, V, D/M) and the catalogue's codes; the codes are no parameter and are not saved
    with the weights.
    """

    item_codes: Tensor

    def __init__(self, item_codes: Tensor, num_sub_ids: int, dim: int) -> None:
        """Args: item_codes uint8 (N, M); V; D, a multiple of M."""
        super().__init__()
        num_splits = item_codes.shape[1]
        self.register_buffer("item_codes", item_codes, persistent=False)
        self.sub_embeddings = nn.Parameter(torch.empty(num_splits, num_sub_ids, dim // num_splits))
        nn.init.uniform_(self.sub_embeddings, -INITIAL_RANGE, INITIAL_RANGE)

    @torch.no_grad()
    def begin_from(self, sub_embeddings: Tensor) -> None:
        """Replace the random start: float32 (M, V, D/M)."""
        self.sub_embeddings.copy_(sub_embeddings)

    def embed_codes(self, codes: Tensor) -> Tensor:
        """Embed items given by their codes: integer (..., M) -> float32 (..., D)."""
        num_splits, num_sub_ids, width = self.sub_embeddings.shape
        rows = codes.long() + torch.arange(num_splits, device=codes.device) * num_sub_ids
        flat = self.sub_embeddings.reshape(num_splits * num_sub_ids, width)
        return nn.functional.embedding(rows, flat).flatten(-2)  # (..., M, D/M) -> (..., D)

    def forward(self, items: Tensor) -> Tensor:
        """Embed items given by their indices: int64 (...) -> float32 (..., D)."""
        return self.embed_codes(self.item_codes[items])

    def score_tables(self, states: Tensor) -> Tensor:
        """Score every sub-id: sequence embeddings (..., D) -> tables (..., M, V) (RecJPQ, Eq. 5)."""
        num_splits, _, width = self.sub_embeddings.shape
        parts = states.unflatten(-1, (num_splits, width))
        return torch.einsum("...md,mvd->...mv", parts, self.sub_embeddings)

    def score_items(self, tables: Tensor, items: Tensor) -> Tensor:
        """Score candidates by lookup: tables (T, M, V), items int64 (T, C) -> (T, C).

        Their embeddings are never built: M lookups and additions a candidate.
        """
        scores = tables.new_zeros(items.shape)
        for split in range(tables.shape[1]):
            scores = scores + tables[:, split].gather(1, self.item_codes[:, split][items].long())
        return scores

    def score_all(self, states: Tensor) -> Tensor:
        """Score the whole catalogue: (T, D) -> (T, N). Equals the lookup; one product is faster."""
        return states @ self.embed_codes(self.item_codes).T
