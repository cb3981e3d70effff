"""Choosing a scorer by name."""

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from recjpq.errors import BackendUnavailableError
from recjpq.scoring.cpu_scorer import CpuScorer
from recjpq.scoring.cuda import CudaScorer
from recjpq.scoring.cuda.driver import CudaDevice
from recjpq.scoring.numpy_scorer import NumpyScorer
from recjpq.scoring.protocol import GrowingScorer

_log = logging.getLogger(__name__)


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
        backend: `numpy` (the specification), `cpu` (compiled), `cuda` (a GPU), or `auto`, which is
            `cuda` where that works and otherwise `cpu`, and logs which and why.
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


def _cuda(item_codes: npt.NDArray[np.uint8], _threads: int, num_sub_ids: int | None) -> GrowingScorer:
    return CudaScorer(item_codes, CudaDevice(), num_sub_ids=num_sub_ids)


def _auto(item_codes: npt.NDArray[np.uint8], threads: int, num_sub_ids: int | None) -> GrowingScorer:
    try:
        device = CudaDevice()
        scorer = CudaScorer(item_codes, device, num_sub_ids=num_sub_ids)
    except BackendUnavailableError as error:
        _log.info("scoring on the CPU, as there is no usable GPU: %s", error)
        return _cpu(item_codes, threads, num_sub_ids)
    _log.info("scoring on the GPU: %s", device.name)
    return scorer


_BACKENDS: dict[str, Callable[[npt.NDArray[np.uint8], int, int | None], GrowingScorer]] = {
    "auto": _auto,
    "cpu": _cpu,
    "cuda": _cuda,
    "numpy": _numpy,
}
