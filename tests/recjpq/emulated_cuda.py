"""A device that runs the real kernels on the CPU, thread by thread, compiled by g++ (emulated_cuda.h)."""

import ctypes
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np

import recjpq.scoring.cuda
from recjpq.scoring.cuda.plan import Tuning
from recjpq.scoring.cuda.search import FIELDS

HERE = Path(__file__).parent
KERNELS = Path(recjpq.scoring.cuda.__file__).parent
COMPILER = os.environ.get("CXX", "g++")
NAMES = ("collect", "prepare_narrow", "prepare_wide", "scan_narrow", "scan_wide", "finish")

GUARD = 64
GARBAGE = 0xA5

TUNING = Tuning(threads=8, scan_threads=32, spare=64, growth=4, searches=3, chunk_rows=40)
"""So small that catalogues of a few thousand items take every path."""


class EmulatedMemory:
    """Host memory between guards, at first full of garbage, as a device's is."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._array = np.full(256 + GUARD + size_bytes + GUARD, GARBAGE, dtype=np.uint8)
        self._offset = GUARD + -(self._array.ctypes.data + GUARD) % 256
        self.address = self._array.ctypes.data + self._offset

    def part(self, offset: int, size_bytes: int) -> np.ndarray:
        assert 0 <= offset <= offset + size_bytes <= self.size_bytes, "a copy beyond the memory"
        return self._array[self._offset + offset : self._offset + offset + size_bytes]

    def check(self) -> None:
        outside = (self._array[: self._offset], self._array[self._offset + self.size_bytes :])
        assert all((guard == GARBAGE).all() for guard in outside), "a kernel wrote beyond its memory"

    def __del__(self) -> None:
        self.check()


class EmulatedQueue:
    """Does at once what it is asked."""

    def write(self, target: EmulatedMemory, offset: int, source: np.ndarray) -> None:
        assert source.flags.c_contiguous
        target.part(offset, source.nbytes)[:] = source.reshape(-1).view(np.uint8)

    def read(self, source: EmulatedMemory, offset: int, target: np.ndarray) -> None:
        assert target.flags.c_contiguous
        target.reshape(-1).view(np.uint8)[:] = source.part(offset, target.nbytes)

    def copy(self, source: EmulatedMemory, target: EmulatedMemory, size_bytes: int) -> None:
        target.part(0, size_bytes)[:] = source.part(0, size_bytes)

    def launch(
        self, kernel: Any, grid: tuple[int, int], threads: int, shared_bytes: int, arguments: np.ndarray
    ) -> None:
        assert arguments.dtype == np.int64
        assert min(*grid, threads) > 0
        assert grid[1] < 2**16
        kernel(*grid, threads, shared_bytes, arguments.ctypes.data)

    def wait(self) -> None:
        pass


class EmulatedDevice:
    """A GPU on which three blocks run at once."""

    name = "emulated"

    def __init__(self, directory: Path, shared_bytes: int = 227 * 1024) -> None:
        self.shared_bytes = shared_bytes
        self.launched: list[str] = []
        self._directory = directory
        self._libraries: dict[int, ctypes.CDLL] = {}
        self._compiling = threading.Lock()

    def activate(self) -> None:
        pass

    def kernels(self, num_words: int) -> dict[str, Any]:
        with self._compiling:
            if num_words not in self._libraries:
                self._libraries[num_words] = self._compile(num_words)
        return {name: self._kernel(self._libraries[num_words], name) for name in NAMES}

    def resident_blocks(self, kernel: Any, threads: int, shared_bytes: int) -> int:
        assert threads % 32 == 0
        assert shared_bytes <= self.shared_bytes
        return 3

    def allocate(self, size_bytes: int) -> EmulatedMemory:
        return EmulatedMemory(size_bytes)

    def staging(self, size_bytes: int) -> np.ndarray:
        return np.full(size_bytes, GARBAGE, dtype=np.uint8)

    def queue(self) -> EmulatedQueue:
        return EmulatedQueue()

    def _compile(self, num_words: int) -> ctypes.CDLL:
        target = self._directory / f"kernels-{num_words}.so"
        compile_library(HERE / "emulated_cuda.cpp", num_words, target)
        library = ctypes.CDLL(str(target))
        assert library.size_of_search() == 8 * len(FIELDS)
        return library

    def _kernel(self, library: ctypes.CDLL, name: str) -> Any:
        function = getattr(library, f"launch_{name}")
        function.restype = None
        function.argtypes = [ctypes.c_uint] * 3 + [ctypes.c_uint64, ctypes.c_void_p]

        def launch(*arguments: int) -> None:
            self.launched.append(name)
            function(*arguments)

        return launch


def compile_library(source: Path, num_words: int, target: Path, *link: str) -> None:
    flags = ["-std=c++20", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-pthread"]
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-function"]
    include = [f"-DRECJPQ_WORDS={num_words}", f"-I{KERNELS}", "-include", HERE / "emulated_cuda.h"]
    subprocess.run([COMPILER, *flags, *warnings, *include, source, "-o", target, *link, "-ldl"], check=True)


def has_compiler() -> bool:
    return shutil.which(COMPILER) is not None
