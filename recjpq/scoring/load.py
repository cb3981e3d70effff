"""Choosing a scorer by name."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from recjpq.errors import BackendUnavailableError
from recjpq.scoring.cpu_scorer import CpuScorer
from recjpq.scoring.numpy_scorer import NumpyScorer
from recjpq.scoring.protocol import GrowingScorer


def load_scorer(
    item_codes: npt.NDArray[np.uint8],
    backend: str = "auto",
    *,
    threads: int = 1,
    num_sub_ids: int | None = None,
) -> GrowingScorer:
    """Build the scorer of a catalogue.

    Args:
        item_codes: uint8 (N, M); kept by reference, so a memory map stays shared between processes.
        backend: `numpy` (the specification), `cpu` (compiled), `cuda`, or `auto` for the fastest here.
        threads: how many threads may work on one call of the `cpu` back-end, the caller's own included.
        num_sub_ids: V, if codes beyond it are to be refused, now and when items are appended.

    Raises:
        BackendUnavailableError: no such back-end, or it cannot run on this machine.
        ScoringError: `item_codes` is not uint8 (N, M) or has a sub-id of V or above, or `threads` is below 1.
    """
    if backend not in _BACKENDS:
        raise BackendUnavailableError(f"backend: found {backend!r}, expected one of {', '.join(_BACKENDS)}")
    return _BACKENDS[backend](item_codes, threads, num_sub_ids)


def _cpu(item_codes: npt.NDArray[np.uint8], threads: int, num_sub_ids: int | None) -> GrowingScorer:
    return CpuScorer(item_codes, threads=threads, num_sub_ids=num_sub_ids)


def _numpy(item_codes: npt.NDArray[np.uint8], _threads: int, num_sub_ids: int | None) -> GrowingScorer:
    return NumpyScorer(item_codes, num_sub_ids=num_sub_ids)


def _cuda(item_codes: npt.NDArray[np.uint8], _threads: int, _num_sub_ids: int | None) -> GrowingScorer:
    raise BackendUnavailableError(
        f"backend 'cuda' is not part of this release; use 'cpu' or 'auto' for these {len(item_codes)} items"
    )


_BACKENDS: dict[str, Callable[[npt.NDArray[np.uint8], int, int | None], GrowingScorer]] = {
    "auto": _cpu,
    "cpu": _cpu,
    "cuda": _cuda,
    "numpy": _numpy,
}
