"""What attention adds for the distance of two positions, so that what recency does is learned once.

A bias per head and distance (Shaw et al., NAACL 2018; T5, JMLR 2020), here of waves:
``b(d) = sum over f of even_f cos(w_f d) + odd_f sin(w_f d)``. The cosine and the sine of a difference are
sums of products of what each position has alone, so the bias is some more columns of queries and keys, and
attention stays the fused one, which takes no bias that has a gradient.

Shapes: B batch, L length, Q positions that are computed, H heads, F waves.
"""

import torch
from torch import Tensor, nn

WAVES = 16


class RelativeBias(nn.Module):
    """Zero at first. The waves' lengths are geometric, from 2 positions to twice the longest distance."""

    frequencies: Tensor

    def __init__(self, num_heads: int, longest: int) -> None:
        """Args: H; longest, the number of positions."""
        super().__init__()
        shares = torch.linspace(0, -1, WAVES, dtype=torch.float64)
        self.register_buffer("frequencies", (torch.pi * longest**shares).float(), persistent=False)
        self.even = nn.Parameter(torch.zeros(num_heads, WAVES))
        self.odd = nn.Parameter(torch.zeros(num_heads, WAVES))

    def forward(self, at: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Return columns whose products are the bias, for queries at `at`, integer (..., Q), and all keys.

        Returns:
            of queries (..., H, Q, 2F) and of keys (width, 2F): ``q . k = b(query's position - key's)``.
        """
        phases = at[..., None, :, None] * self.frequencies  # (..., 1, Q, F)
        cos, sin = phases.cos(), phases.sin()
        even, odd = self.even[:, None], self.odd[:, None]  # (H, 1, F)
        queries = torch.cat([even * cos + odd * sin, even * sin - odd * cos], dim=-1)
        phases = torch.arange(width, device=at.device)[:, None] * self.frequencies
        return queries, torch.cat([phases.cos(), phases.sin()], dim=-1)
