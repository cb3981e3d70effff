"""Encoding and scoring off the event loop, with a bound on what may wait.

This is the place of micro-batching: whatever gathers waiting requests into one encoder call does it behind
`InferencePool.best`, and nothing else changes.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from recjpq.scoring import ItemIndices, TopK
from service.errors import OverloadedError
from service.model import Model
from service.timings import Timings


@dataclass(frozen=True, slots=True)
class Job:
    """One history to encode and score: item indices, oldest first, at least one; see `Scorer.top_k`."""

    history: ItemIndices
    k: int
    exclude: ItemIndices


class InferencePool:
    """Threads that run one model; the runtime and the scorer release the GIL."""

    def __init__(self, model: Model, *, workers: int, queue_limit: int) -> None:
        self._model = model
        self._workers = workers
        self._queue_limit = queue_limit
        self._threads = ThreadPoolExecutor(workers, "inference")
        self._accepted = 0  # waiting or running; touched by the event loop only

    @property
    def waiting(self) -> int:
        """How many accepted jobs no worker has taken yet."""
        return max(0, self._accepted - self._workers)

    async def best(self, job: Job, timings: Timings) -> TopK:
        """Return a history's best items, and record the stages queue, encode and score.

        Raises:
            OverloadedError: as many jobs wait as may; nothing was queued.
        """
        if self._accepted >= self._workers + self._queue_limit:
            raise OverloadedError(f"{self.waiting} requests are waiting")
        self._accepted += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._run, job, timings, perf_counter())
        finally:
            self._accepted -= 1

    def close(self) -> None:
        """Wait for the jobs that run, and end the threads."""
        self._threads.shutdown()

    def _run(self, job: Job, timings: Timings, queued_at: float) -> TopK:
        timings.started["queue"] = queued_at
        timings.seconds["queue"] = perf_counter() - queued_at
        with timings.measure("encode"):
            item_codes = self._model.catalogue.item_codes[job.history][None]  # (1, L, M)
            lengths = np.array([len(job.history)], dtype=np.int64)
            score_tables = self._model.encoder.encode(item_codes, lengths)  # (1, M, V)
        with timings.measure("score"):
            return self._model.scorer.top_k(score_tables, job.k, exclude=[job.exclude])[0]
