"""The items most like an item, found by the served model's scorer off the event loop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from recjpq.scoring import ItemIndices, TopK
from recjpq.similar import SubEmbeddingSimilarity
from service.errors import OverloadedError
from service.model import Model
from service.timings import Timings


class SimilarItems:
    """Threads that search for similar items, with a bound on what may wait for them."""

    def __init__(self, workers: int, queue_limit: int) -> None:
        self._threads = ThreadPoolExecutor(workers, "similar")
        self._most = workers + queue_limit
        self._accepted = 0  # waiting or running; touched by the event loop only

    async def find(
        self, model: Model, similarity: SubEmbeddingSimilarity, item: ItemIndices, k: int, timings: Timings
    ) -> TopK:
        """Return the k items most like an item (1,), itself left out, with similarities of at most 1.

        Raises:
            OverloadedError: as many searches wait as may.
        """
        if self._accepted >= self._most:
            raise OverloadedError(f"{self._accepted} searches for similar items are waiting")
        self._accepted += 1
        started = perf_counter()

        def search() -> TopK:
            timings.seconds["queue"] = perf_counter() - started
            with timings.measure("score"):
                table = similarity.score_table(model.catalogue.item_codes[item][0])  # (1, M, V)
                return model.scorer.top_k(table, k, exclude=[item])[0]

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, search)
        finally:
            self._accepted -= 1

    def close(self) -> None:
        """Wait for the searches that run, and end the threads."""
        self._threads.shutdown()
