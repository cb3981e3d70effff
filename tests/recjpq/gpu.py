"""What a test needs of a GPU: what is missing skips it, by name; what is there and fails is a failure."""

import pytest

from recjpq.errors import BackendUnavailableError
from recjpq.scoring.cuda.compile import compile_kernels
from recjpq.scoring.cuda.driver import CudaDevice


def need_nvrtc() -> None:
    """Skip where NVRTC is not installed; what it refuses is a failure."""
    try:
        compile_kernels("sm_90", 1)
    except BackendUnavailableError as error:
        _skip_if_missing("nvrtc", error)


def need_gpu() -> None:
    """Skip where there is no GPU, driver or NVRTC; a GPU that cannot be opened is a failure."""
    try:
        CudaDevice()
    except BackendUnavailableError as error:
        _skip_if_missing("cuda", error)
    need_nvrtc()


def _skip_if_missing(name: str, error: BackendUnavailableError) -> None:
    """Skip for what is not there, or too old; raise what else CUDA or NVRTC answered."""
    if not any(missing in str(error) for missing in ("found no", "found a driver", "NO_DEVICE")):
        raise error
    pytest.skip(f"{name}: {error}")
