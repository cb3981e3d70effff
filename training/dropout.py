"""Dropout whose masks are cheap to draw on a CPU."""

from typing import Any

import torch
from torch import Tensor, nn

_LEVELS = 256


class Dropout(nn.Module):
    """`nn.Dropout` with the probability rounded to 256ths, a mask being one random byte an element.

    PyTorch draws one number for each element, one after the other: a tenth of a training step on the CPU.
    Eight bytes of one number cost a quarter of that.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self._dropped = min(round(probability * _LEVELS), _LEVELS - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Zero elements at random and scale up the others, in training only."""
        if not self.training or not self._dropped:
            return x
        if not x.is_cpu:
            return nn.functional.dropout(x, self.probability)
        dropped: Tensor = _Masked.apply(x, self._dropped)  # type: ignore[no-untyped-call]
        return dropped


class _Masked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        count = x.numel()
        words = torch.empty((count + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.uint8)[:count].view(x.shape) >= dropped
        scale = keep.to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))
        ctx.save_for_backward(scale)
        return x * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return gradient * scale, None
