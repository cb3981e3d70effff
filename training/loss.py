"""Losses over next-item predictions. T tokens, N items, M splits, V sub-ids, C candidates."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from training.config import TrainConfig
from training.embedding import ItemEmbedding

Loss = Callable[[ItemEmbedding, Tensor, Tensor], Tensor]
"""``loss(embedding, states (T, D), targets int64 (T,)) -> scalar``, the mean over tokens."""


def make_loss(config: TrainConfig) -> Loss:
    """Return the configured loss."""
    losses: dict[str, Loss] = {
        "softmax": softmax,
        "sampled_softmax": lambda *args: sampled_softmax(*args, negatives=config.negatives),
        "gbce": lambda *args: gbce(*args, negatives=config.negatives, t=config.gbce_t),
    }
    return losses[config.loss]


def softmax(embedding: ItemEmbedding, states: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over the whole catalogue; memory T x N."""
    return functional.cross_entropy(embedding.score_all(states), targets)


def sampled_softmax(embedding: ItemEmbedding, states: Tensor, targets: Tensor, *, negatives: int) -> Tensor:
    """Cross-entropy of the target among uniform negatives, drawn for each token; memory T x (M x V + C)."""
    scores, accidental = _target_first(embedding, states, targets, negatives)
    scores = scores.masked_fill(accidental, -torch.inf)
    return functional.cross_entropy(scores, torch.zeros_like(targets))


def gbce(embedding: ItemEmbedding, states: Tensor, targets: Tensor, *, negatives: int, t: float) -> Tensor:
    """Generalised binary cross-entropy (gSASRec, RecSys 2023, Eqs. 8 and 15).

    ``(beta * softplus(-s_pos) + sum softplus(s_neg)) / (1 + k)`` with the sampling rate
    ``alpha = k / (N - 1)`` and ``beta = t * (alpha - 1) + 1``: t = 0 is BCE, t = 1 makes the sigmoid of a
    score a calibrated probability.
    """
    scores, accidental = _target_first(embedding, states, targets, negatives)
    alpha = min(1.0, negatives / (len(embedding.item_codes) - 1))
    beta = t * (alpha - 1.0) + 1.0
    positive = beta * functional.softplus(-scores[:, 0])
    negative = functional.softplus(scores[:, 1:]).masked_fill(accidental[:, 1:], 0.0).sum(dim=1)
    return ((positive + negative) / (1 + negatives)).mean()


def _target_first(
    embedding: ItemEmbedding, states: Tensor, targets: Tensor, negatives: int
) -> tuple[Tensor, Tensor]:
    """Return scores (T, 1 + k), the target's first, and which negatives are the target, bool (T, 1 + k)."""
    num_items = len(embedding.item_codes)
    drawn = torch.randint(num_items, (len(targets), negatives), device=targets.device)
    candidates = torch.cat([targets[:, None], drawn], dim=1)
    accidental = candidates == targets[:, None]
    accidental[:, 0] = False
    return embedding.score_candidates(states, candidates), accidental
