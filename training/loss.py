"""Losses over next-item predictions. T tokens, N items, M splits, V sub-ids, C candidates."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from training.config import TrainConfig
from training.embedding import FullEmbedding, ItemEmbedding, RecJPQEmbedding
from training.loss_in_chunks import total_in_chunks
from training.score_softmax import score_softmax

Loss = Callable[[ItemEmbedding, Tensor, Tensor], Tensor]
"""``loss(embedding, states (T, D), targets int64 (T,)) -> scalar``, the mean over tokens."""

GBCE_NEGATIVES, SHARED_NEGATIVES = 256, 8192


def make_loss(config: TrainConfig, item_counts: npt.NDArray[np.int64]) -> Loss:
    """Return the configured loss; item_counts int64 (N,) are each item's training interactions."""
    sampler = NegativeSampler(item_counts, config.popular_negatives)
    per_token = config.negatives or GBCE_NEGATIVES
    shared = config.negatives or SHARED_NEGATIVES
    losses: dict[str, Loss] = {
        "softmax": softmax,
        "sampled_softmax": lambda *args: sampled_softmax(*args, sampler=sampler, negatives=shared),
        "gbce": lambda *args: gbce(*args, negatives=per_token, t=config.gbce_t),
        "bce": lambda *args: gbce(*args, negatives=1, t=0.0),
    }
    return losses[config.loss]


class NegativeSampler:
    """Draws items, some uniformly and some in proportion to their training interactions.

    Uniform draws alone nearly never meet the popular items of a large catalogue, which are most of what a
    softmax has to tell apart; popular draws alone never meet the others.
    """

    def __init__(self, item_counts: npt.NDArray[np.int64], popular_share: float) -> None:
        counts = torch.from_numpy(np.asarray(item_counts, dtype=np.float64))
        self.num_items = len(counts)
        self.popular_share = popular_share
        self._cumulative = counts.cumsum(0) / counts.sum().clamp(min=1.0)
        probability = popular_share * counts / counts.sum().clamp(min=1.0)
        self._log_probability = (probability + (1.0 - popular_share) / self.num_items).log().float()

    def draw(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return items int64 (C,), drawn with replacement, and the logarithm of each one's expected draws."""
        popular = round(count * self.popular_share)
        uniform = torch.randint(self.num_items, (count - popular,))
        found = torch.searchsorted(self._cumulative, torch.rand(popular, dtype=torch.float64), right=True)
        items = torch.cat([uniform, found.clamp(max=self.num_items - 1)])
        return items.to(device), (self._log_probability[items] + math.log(count)).to(device)


def softmax(embedding: ItemEmbedding, states: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over the whole catalogue."""

    def total(states: Tensor, tokens: slice) -> Tensor:
        return functional.cross_entropy(embedding.score_all(states), targets[tokens], reduction="sum")

    if states.is_cpu and isinstance(embedding, RecJPQEmbedding):
        return score_softmax(embedding, states, targets)
    if states.is_cpu and isinstance(embedding, FullEmbedding):
        return total_in_chunks(total, states, embedding.weight) / len(states)
    return total(states, slice(None)) / len(states)


def sampled_softmax(
    embedding: ItemEmbedding, states: Tensor, targets: Tensor, *, sampler: NegativeSampler, negatives: int
) -> Tensor:
    """Cross-entropy among the target and negatives that all tokens share.

    ``log(exp(s_target) + sum over drawn c != target of exp(s_c - log E_c)) - s_target`` with ``E_c`` the
    expected number of draws of c: in expectation the sum is that of the full softmax, whatever items are
    drawn from (Bengio & Senecal, 2008; Yi et al., RecSys 2019, Eq. 3).
    """
    drawn, log_expected = sampler.draw(negatives, states.device)
    if states.is_cpu and isinstance(embedding, RecJPQEmbedding):
        return score_softmax(embedding, states, targets, drawn, -log_expected)
    scores = states @ embedding(drawn).T - log_expected  # (T, C)
    scores = scores.masked_fill(drawn == targets[:, None], -torch.inf)
    positive = (states * embedding(targets)).sum(1, keepdim=True)
    return functional.cross_entropy(torch.cat([positive, scores], dim=1), torch.zeros_like(targets))


def gbce(embedding: ItemEmbedding, states: Tensor, targets: Tensor, *, negatives: int, t: float) -> Tensor:
    """Generalised binary cross-entropy (gSASRec, RecSys 2023, Eqs. 8 and 15), uniform negatives a token.

    ``(beta * softplus(-s_pos) + sum softplus(s_neg)) / (1 + k)`` with the sampling rate
    ``alpha = k / (N - 1)`` and ``beta = t * (alpha - 1) + 1``: t = 0 is BCE, t = 1 makes the sigmoid of a
    score a calibrated probability.
    """
    num_items = len(embedding.item_codes)
    drawn = torch.randint(num_items, (len(targets), negatives), device=targets.device)
    alpha = min(1.0, negatives / (num_items - 1))
    beta = t * (alpha - 1.0) + 1.0

    def total(states: Tensor, tokens: slice) -> Tensor:
        own, others = targets[tokens, None], drawn[tokens]
        scores = embedding.score_candidates(states, torch.cat([own, others], dim=1))
        positive = beta * functional.softplus(-scores[:, 0])
        negative = functional.softplus(scores[:, 1:]).masked_fill(others == own, 0.0).sum(dim=1)
        return ((positive + negative) / (1 + negatives)).sum()

    if states.is_cpu and isinstance(embedding, RecJPQEmbedding):
        return total_in_chunks(total, states, embedding.sub_embeddings) / len(states)
    return total(states, slice(None)) / len(states)
