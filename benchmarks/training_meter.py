"""Speed and memory of the training steps of the process that imports it.

Of the standard library and PyTorch alone: the peer's process has other packages than ours.
"""

import ctypes
import gc
import importlib
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""Sets the peak to what is resident now (Linux's proc(5), clear_refs)."""


@dataclass
class Meter:
    """Told of every step's end; the first `warm_up` of them are not measured.

    Seconds of the processor are what is compared where other work shares the machine: with one thread they
    are what the wall would show on a core of its own.
    """

    warm_up: int
    steps: int
    data_bytes: int = 0
    ended: int = 0
    tokens: int = 0
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def data_is_ready(self) -> None:
        """Note what is resident before there is a model: the libraries and the data."""
        importlib.import_module("torch._dynamo")  # 75 MB of library that the first optimiser would load
        _give_back()
        self.data_bytes = resident_bytes("VmRSS")

    def training_starts(self) -> None:
        """Forget the peak of what came before."""
        _give_back()
        CLEAR.write_text(RESET_PEAK)

    def step_ended(self, tokens: int) -> None:
        """Count a step of `tokens` interactions that are no padding."""
        self.ended += 1
        if self.ended > self.warm_up:
            self.tokens += tokens
        if self.ended >= self.warm_up:
            self.wall_s.append(time.perf_counter())
            self.cpu_s.append(time.process_time())

    @property
    def done(self) -> bool:
        """Whether all steps have ended."""
        return self.ended >= self.warm_up + self.steps

    def result(self) -> dict[str, Any]:
        """Return the figures."""
        wall, cpu = (clock[-1] - clock[0] for clock in (self.wall_s, self.cpu_s))
        peak = resident_bytes("VmHWM")
        return {
            "steps": self.steps,
            "interactions": self.tokens,
            "interactions_per_cpu_s": round(self.tokens / cpu, 1),
            "interactions_per_wall_s": round(self.tokens / wall, 1),
            "cpu_s_per_step": round(cpu / self.steps, 4),
            "wall_s_per_step": round(wall / self.steps, 4),
            "peak_bytes": peak,
            "data_bytes": self.data_bytes,
            "peak_bytes_beyond_data": peak - self.data_bytes,
        }


def _give_back() -> None:
    """Return memory that is free to the system, which would be counted as taken."""
    gc.collect()
    with suppress(AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes(name: str) -> int:
    """Return one line of the process's memory: VmRSS, what is resident, or VmHWM, its peak."""
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
