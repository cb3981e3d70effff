"""How long each stage of one request took."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Literal, get_args

Stage = Literal["store", "queue", "encode", "score", "respond"]
STAGES: tuple[Stage, ...] = get_args(Stage)


class Timings:
    """Seconds by stage, in the order of the stages' ends, and when each started, by `perf_counter`.

    Attributes:
        began: when the request arrived.
        seconds: of each stage so far. started: of each stage.
    """

    __slots__ = ("began", "seconds", "started")

    def __init__(self) -> None:
        self.began = perf_counter()
        self.seconds: dict[Stage, float] = {}
        self.started: dict[Stage, float] = {}

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Record the time that the block takes, also when it fails."""
        started = self.started[stage] = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = perf_counter() - started

    def header(self) -> str:
        """Return them as the value of `Server-Timing`, in milliseconds."""
        return ", ".join(
            [f"{stage};dur={seconds * 1000:.3f}" for stage, seconds in list(self.seconds.items())]
        )
