"""What a reader needs to know of where the figures come from, and memory."""

import ctypes
import gc
import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("recjpq", "numpy", "torch", "faiss-cpu", "onnxruntime")
CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
USUAL_CACHE_BYTES = 32 * 2**20


def cache_bytes() -> int:
    """Return the size of the last-level cache; a usual one where it is not known."""
    with suppress(OSError, ValueError):
        return max(USUAL_CACHE_BYTES, int(CACHE.read_text().strip().removesuffix("K")) * 1024)
    return USUAL_CACHE_BYTES


def private_bytes() -> int:
    """Return the memory of this process that no other can share, after giving back what is free."""
    gc.collect()
    with suppress(AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
    return _status_bytes("RssAnon")


def reset_peak() -> int:
    """Make `peak_bytes` count from now on, and return what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")  # Linux: see proc_pid_clear_refs(5)
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """Return the most memory that was resident at once, shared with others or not."""
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def machine() -> dict[str, Any]:
    """Return what a reader needs to know of where the figures come from."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    pairs = (line.partition(":") for line in lines)
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    flags = fields.get("flags", "").split()
    return {
        "cpu": fields.get("model name", platform.processor()),
        "family": fields.get("cpu family"),
        "model": fields.get("model"),
        "instructions": [name for name in ("avx2", "avx512bw", "avx512vbmi", "asimd") if name in flags],
        "cache_bytes": cache_bytes(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "load": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the libraries measured; None for one that is missing."""
    return {"python": platform.python_version()} | {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def today() -> str:
    """Return the date, in UTC."""
    return datetime.now(UTC).date().isoformat()
