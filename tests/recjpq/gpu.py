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
        if "found no" not in str(error):
            raise
        pytest.skip(f"nvrtc: {error}")


def need_gpu() -> None:
    """Skip where no GPU can be opened, or NVRTC is not installed."""
    try:
        CudaDevice()
    except BackendUnavailableError as error:
        pytest.skip(f"cuda: {error}")
    need_nvrtc()
