"""Compiling the kernels when they are first needed, by NVRTC: no CUDA toolkit has to be installed."""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from recjpq.errors import BackendUnavailableError

SOURCE = Path(__file__).with_name("kernels.cu")
INSTALL = "install recjpq[gpu], or use 'cpu' or 'auto'"


@cache
def compile_kernels(architecture: str, num_words: int) -> bytes:
    """Return machine code for items of so many words of codes; compiled once per process.

    Args:
        architecture: such as `sm_90`. Machine code for just this one, not PTX, which an older driver than
            the compiler could not read.
        num_words: of 32 bits, of one item's codes.

    Raises:
        BackendUnavailableError: NVRTC is missing or refuses.
    """
    nvrtc = import_bindings("nvrtc")
    options = [
        "--std=c++17",
        f"--gpu-architecture={architecture}",
        f"--define-macro=RECJPQ_WORDS={num_words}",
    ]
    try:
        status, program = nvrtc.nvrtcCreateProgram(SOURCE.read_bytes(), SOURCE.name.encode(), 0, [], [])
        _check(nvrtc, status)
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = _read(nvrtc, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            raise BackendUnavailableError(
                f"backend 'cuda': NVRTC {_version(nvrtc)} cannot compile {SOURCE.name} for {architecture}: "
                f"{log.decode(errors='replace').strip(chr(0)).strip() or status}; use 'cpu' or 'auto'"
            )
        code: bytes = _read(nvrtc, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
        _check(nvrtc, nvrtc.nvrtcDestroyProgram(program)[0])
    except RuntimeError as error:  # how the bindings say that they do not find the library
        raise BackendUnavailableError(f"backend 'cuda': found no NVRTC ({error}); {INSTALL}") from error
    return code


def import_bindings(name: str) -> Any:
    """Return a module of NVIDIA's bindings.

    Raises:
        BackendUnavailableError: they are not installed.
    """
    try:
        return import_module(f"cuda.bindings.{name}")
    except ImportError as error:
        raise BackendUnavailableError(
            f"backend 'cuda': found no cuda-bindings ({error}); {INSTALL}"
        ) from error


def _read(nvrtc: Any, get_size: Any, get: Any, program: Any) -> bytes:
    status, size = get_size(program)
    _check(nvrtc, status)
    content = bytes(size)  # the bindings write into it
    _check(nvrtc, get(program, content)[0])
    return content


def _version(nvrtc: Any) -> str:
    _, major, minor = nvrtc.nvrtcVersion()
    return f"{major}.{minor}"


def _check(nvrtc: Any, status: Any) -> None:
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise BackendUnavailableError(f"backend 'cuda': NVRTC failed with {status}; {INSTALL}")
