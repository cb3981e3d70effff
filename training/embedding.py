"""Item embeddings, shared by input and output: RecJPQ's sub-embeddings, or a full table to compare with.

Shapes: N items, M splits, V sub-ids, D width, T tokens, C candidates.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

INITIAL_RANGE = 0.05


class ItemEmbedding(Protocol):
    """What backbones and losses need of the items. An implementation is a module with weights of its own."""

    item_codes: Tensor

    def __call__(self, items: Tensor) -> Tensor:
        """Embed items given by their indices: int64 (...) -> float32 (..., D)."""
        ...

    @property
    def table_shape(self) -> tuple[int, int]:
        """M and V, the shape of a score table."""
        ...

    def embed_codes(self, codes: Tensor) -> Tensor:
        """Embed items given by their codes: integer (..., M) -> float32 (..., D)."""
        ...

    def score_tables(self, states: Tensor) -> Tensor:
        """Score every sub-id: sequence embeddings (..., D) -> tables (..., M, V)."""
        ...

    def score_candidates(self, states: Tensor, items: Tensor) -> Tensor:
        """Score some items for each state: (T, D), int64 (T, C) -> (T, C)."""
        ...

    def score_all(self, states: Tensor) -> Tensor:
        """Score the whole catalogue: (T, D) -> (T, N)."""
        ...


class RecJPQEmbedding(nn.Module):
    """Sub-embeddings named by frozen codes (RecJPQ, WSDM 2024, section 4.1).

    Holds ``Psi`` (M, V, W) and the catalogue's codes; the codes are no parameter and are not saved with the
    weights. An item's embedding is its M sub-embeddings end to end, W = D/M, as published; or, `additive`,
    their sum, W = D (additive quantisation, Babenko & Lempitsky, CVPR 2014). A sum can be what any end to end
    can be, and a score is the sum of M table entries in both; it takes M times the parameters.
    """

    item_codes: Tensor

    def __init__(self, item_codes: Tensor, num_sub_ids: int, dim: int, *, additive: bool = False) -> None:
        """Args: item_codes uint8 (N, M); V; D, a multiple of M unless additive."""
        super().__init__()
        num_splits = item_codes.shape[1]
        self.additive = additive
        self.register_buffer("item_codes", item_codes, persistent=False)
        width = dim if additive else dim // num_splits
        self.sub_embeddings = nn.Parameter(torch.empty(num_splits, num_sub_ids, width))
        largest = (
            INITIAL_RANGE / num_splits**0.5 if additive else INITIAL_RANGE
        )  # an item's variance is the same
        nn.init.uniform_(self.sub_embeddings, -largest, largest)

    @property
    def table_shape(self) -> tuple[int, int]:
        """See `ItemEmbedding.table_shape`."""
        return self.sub_embeddings.shape[0], self.sub_embeddings.shape[1]

    @torch.no_grad()
    def begin_from(self, sub_embeddings: Tensor) -> None:
        """Replace the random start: float32 (M, V, D/M), end to end also where they are added up."""
        width = sub_embeddings.shape[2]
        if not self.additive:
            self.sub_embeddings.copy_(sub_embeddings)
            return
        self.sub_embeddings.zero_()
        for j, own in enumerate(sub_embeddings):
            self.sub_embeddings[j, :, j * width : (j + 1) * width] = own

    def embed_codes(self, codes: Tensor) -> Tensor:
        """Embed items given by their codes: integer (..., M) -> float32 (..., D)."""
        parts = nn.functional.embedding(*self._rows(codes))  # (..., M, W)
        return parts.sum(-2) if self.additive else parts.flatten(-2)

    def forward(self, items: Tensor) -> Tensor:
        """Embed items given by their indices: int64 (...) -> float32 (..., D)."""
        codes = self.item_codes[items]
        if not self.additive:
            return self.embed_codes(codes)
        # Looked up and added at once: (..., M, D) is never built, nor are its gradients. The exported graph
        # has the two steps of `embed_codes`, which every runtime knows.
        rows, weight = self._rows(codes.view(items.numel(), codes.shape[-1]))
        summed: Tensor = nn.functional.embedding_bag(rows, weight, mode="sum")
        return summed.view(*items.shape, weight.shape[1])

    def _rows(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows of the codes' sub-embeddings, int64 (..., M), in all of them, (M * V, W)."""
        num_splits, num_sub_ids, _ = self.sub_embeddings.shape
        rows = codes.long() + torch.arange(num_splits, device=codes.device) * num_sub_ids
        return rows, self.sub_embeddings.flatten(0, 1)

    def score_tables(self, states: Tensor) -> Tensor:
        """Score every sub-id: sequence embeddings (..., D) -> tables (..., M, V) (RecJPQ, Eq. 5)."""
        num_splits, num_sub_ids, width = self.sub_embeddings.shape
        if self.additive:
            flat = states @ self.sub_embeddings.flatten(0, 1).T  # (..., M * V)
            tables: Tensor = flat.unflatten(-1, (num_splits, num_sub_ids))
            return tables
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

    def score_candidates(self, states: Tensor, items: Tensor) -> Tensor:
        """Score some items for each state: (T, D), int64 (T, C) -> (T, C)."""
        return self.score_items(self.score_tables(states), items)

    def score_all(self, states: Tensor) -> Tensor:
        """Score the whole catalogue: (T, D) -> (T, N). Equals the lookup; one product is faster."""
        items: Tensor = self(torch.arange(len(self.item_codes), device=states.device))
        return states @ items.T


class FullEmbedding(nn.Module):
    """An embedding per item, for comparison: RecJPQ with one split that has a sub-id for each item.

    Its codes are the items' indices and its score tables every item's score, so that all that works with
    codes and tables works with it, except an artifact.
    """

    item_codes: Tensor

    def __init__(self, num_items: int, dim: int) -> None:
        """Args: N; D."""
        super().__init__()
        self.register_buffer("item_codes", torch.arange(num_items)[:, None], persistent=False)
        self.weight = nn.Parameter(torch.empty(num_items, dim))
        nn.init.uniform_(self.weight, -INITIAL_RANGE, INITIAL_RANGE)

    @property
    def table_shape(self) -> tuple[int, int]:
        """See `ItemEmbedding.table_shape`: 1 and N."""
        return 1, len(self.weight)

    def embed_codes(self, codes: Tensor) -> Tensor:
        """Embed items given by their codes: integer (..., 1) -> float32 (..., D)."""
        return self.forward(codes.squeeze(-1).long())

    def forward(self, items: Tensor) -> Tensor:
        """Embed items given by their indices: int64 (...) -> float32 (..., D)."""
        return nn.functional.embedding(items, self.weight)

    def score_tables(self, states: Tensor) -> Tensor:
        """Score every item: sequence embeddings (..., D) -> (..., 1, N)."""
        return (states @ self.weight.T).unsqueeze(-2)

    def score_candidates(self, states: Tensor, items: Tensor) -> Tensor:
        """Score some items for each state, by whichever way holds fewer numbers: (T, D), (T, C) -> (T, C)."""
        if len(self.weight) <= items.shape[1] * self.weight.shape[1]:
            return self.score_all(states).gather(1, items)
        return torch.bmm(self.forward(items), states.unsqueeze(2)).squeeze(2)

    def score_all(self, states: Tensor) -> Tensor:
        """Score the whole catalogue: (T, D) -> (T, N)."""
        return states @ self.weight.T
