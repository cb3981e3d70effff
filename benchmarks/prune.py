"""RecJPQPrune (SIGIR 2025, arXiv 2505.00560), the published exact method to beat, in native code.

The authors' implementation is in TensorFlow; this one is ours, compiled for this very processor, so that
the comparison is of algorithms and not of languages. `native/recjpq_prune.cpp` says what differs.
"""

import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recjpq.scoring import TopK

SOURCE = Path(__file__).parent / "native" / "recjpq_prune.cpp"
BUILD = Path(__file__).parents[1] / "build" / "benchmarks"
FLAGS = ("-std=c++20", "-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC")
PUBLISHED_GROUP = 8
"""Sub-ids processed at a time, as in the paper."""


class RecJPQPrune:
    """Exact top-k through inverted lists, the best sub-ids first; one thread per object.

    Attributes:
        num_scored: how many items the last call scored.
    """

    def __init__(
        self, item_codes: npt.NDArray[np.uint8], num_sub_ids: int, group: int = PUBLISHED_GROUP
    ) -> None:
        """Build the inverted lists.

        Args:
            item_codes: uint8 (N, M), all below `num_sub_ids`.
            num_sub_ids: V, at most 256.
            group: sub-ids processed between two checks of the bound.
        """
        self._library = _library()
        self._codes = np.ascontiguousarray(item_codes)  # kept alive: the index points into it
        self._group = group
        self.num_items, num_splits = self._codes.shape
        self._index = ctypes.c_void_p(
            self._library.prune_build(_address(self._codes), self.num_items, num_splits, num_sub_ids)
        )
        self.num_scored = 0

    def __del__(self) -> None:
        if hasattr(self, "_index"):
            self._library.prune_free(self._index)

    def top_k(
        self, table: npt.NDArray[np.float32], k: int, barred: npt.NDArray[np.uint64] | None = None
    ) -> TopK:
        """Return the k best items, ties to the lower item index.

        Args:
            table: one score table, float32 (M, V), C-contiguous.
            k: at least 1.
            barred: None, or a bit per item never to return, uint64 (ceil(N / 64),); see `bits`.
        """
        k = min(k, self.num_items)
        ids, scores = np.empty(k, dtype=np.int32), np.empty(k, dtype=np.float32)
        scored = ctypes.c_int64()
        found = self._library.prune_top_k(
            self._index,
            _address(table),
            k,
            self._group,
            None if barred is None else _address(barred),
            _address(ids),
            _address(scores),
            ctypes.byref(scored),
        )
        self.num_scored = scored.value
        return TopK(ids[:found], scores[:found])


def bits(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """Pack bool (N,) into 64-bit words, the lowest bit first."""
    packed = np.packbits(flags, bitorder="little")
    return np.pad(packed, (0, -len(packed) % 8)).view(np.uint64)


def _address(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _library() -> ctypes.CDLL:
    """Compile once per source, flags and processor, and load."""
    key = hashlib.sha256(
        SOURCE.read_bytes() + repr((FLAGS, platform.machine(), _processor())).encode()
    ).hexdigest()[:16]
    built = BUILD / f"recjpq-prune-{key}.so"
    if not built.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as directory:
            fresh = Path(directory) / built.name
            compiler = os.environ.get("CXX", "c++")
            subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(fresh)], check=True)
            fresh.replace(built)  # another process may be doing the same
    library = ctypes.CDLL(str(built))
    library.prune_build.restype = ctypes.c_void_p
    library.prune_build.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_int]
    library.prune_free.argtypes = [ctypes.c_void_p]
    library.prune_free.restype = None
    library.prune_top_k.restype = ctypes.c_int64
    library.prune_top_k.argtypes = [
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, *[ctypes.c_void_p] * 4
    ]  # fmt: skip
    return library


def _processor() -> str:
    """Return what -march=native depends on: a library built elsewhere must not be loaded here."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line for line in lines if line.startswith("flags")), platform.processor())
