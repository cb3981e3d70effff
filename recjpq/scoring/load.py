"""Choosing a scorer by name."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from recjpq.errors import BackendUnavailableError
from recjpq.scoring.cpu_scorer import CpuScorer
from recjpq.scoring.numpy_scorer import NumpyScorer
from recjpq.scoring.protocol import Scorer


def load_scorer(item_codes: npt.NDArray[np.uint8], backend: str = "auto") -> Scorer:
    """Build the scorer of a catalogue.

    Args:
        item_codes: uint8 (N, M); kept by reference, so a memory map stays shared between processes.
        backend: `numpy` (the specification), `cpu` (compiled), `cuda`, or `auto` for the fastest here.

    Raises:
        BackendUnavailableError: no such back-end, or it cannot run on this machine.
        ScoringError: `item_codes` is not uint8 (N, M).
    """
    if backend not in _BACKENDS:
        raise BackendUnavailableError(f"backend: found {backend!r}, expected one of {', '.join(_BACKENDS)}")
    return _BACKENDS[backend](item_codes)


def _cuda(item_codes: npt.NDArray[np.uint8]) -> Scorer:
    raise BackendUnavailableError(
        f"backend 'cuda' is not part of this release; use 'cpu' or 'auto' for these {len(item_codes)} items"
    )


_BACKENDS: dict[str, Callable[[npt.NDArray[np.uint8]], Scorer]] = {
    "auto": CpuScorer,
    "cpu": CpuScorer,
    "cuda": _cuda,
    "numpy": NumpyScorer,
}
