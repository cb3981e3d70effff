"""Exact top-k on an NVIDIA GPU; needs the extra `gpu`, imported only when a scorer is made."""

from recjpq.scoring.cuda.scorer import CudaScorer

__all__ = ["CudaScorer"]
