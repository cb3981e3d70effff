"""Searching among a catalogue's items, off the event loop; what it needs is made when first asked for."""

import asyncio
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from recjpq.attribute_summary import AttributeSummary
from recjpq.growing_catalogue import GrowingCatalogue
from recjpq.scoring import ItemIndices
from recjpq.text_index import TextIndex
from service.errors import OverloadedError

_Result = TypeVar("_Result")


class ItemReader:
    """Reads one thing at a time, so that people who search do not slow down recommendations.

    Nothing that it does takes longer than a pass over a column: a time limit is not needed.
    """

    def __init__(self, most_items: int, queue_limit: int) -> None:
        """Search among the `most_items` most popular and all added, while at most `queue_limit` wait."""
        self._most_items = most_items
        self._queue_limit = queue_limit
        self._accepted = 0  # waiting, or the one at work
        self._turn = asyncio.Lock()
        self._indices: WeakKeyDictionary[GrowingCatalogue, tuple[int, TextIndex]] = WeakKeyDictionary()

    async def find(self, catalogue: GrowingCatalogue, query: str, limit: int) -> tuple[ItemIndices, int]:
        """Find at most `limit` items, the one of that very id first, then those of these words.

        Returns:
            Their indices, and among how many items words were looked for.

        Raises:
            OverloadedError: as many wait as may.
        """
        exact = catalogue.indices_of([query])
        exact = exact[(exact >= 0) & catalogue.is_offered(exact)]

        def search() -> tuple[ItemIndices, int]:
            index = self._index_of(catalogue)
            found = index.find(query, limit)
            return np.concatenate([exact, found[~np.isin(found, exact)]])[:limit], len(index)

        return await self._run(search)

    async def attributes(self, catalogue: GrowingCatalogue) -> list[AttributeSummary]:
        """Return what the metadata columns hold.

        Raises:
            OverloadedError: as many wait as may.
        """
        return await self._run(lambda: catalogue.attribute_summaries)

    def _index_of(self, catalogue: GrowingCatalogue) -> TextIndex:
        changes, index = self._indices.get(catalogue, (None, None))
        if index is None or changes != catalogue.changes:
            changes = catalogue.changes
            popular = catalogue.most_popular(self._most_items)
            first = catalogue.num_items - catalogue.num_added
            added = np.arange(first, catalogue.num_items, dtype=np.int32)  # few, and popular with nobody yet
            added = added[catalogue.is_offered(added) & ~np.isin(added, popular)]
            items = np.concatenate([popular, added])
            index = TextIndex(catalogue.texts_of(items), items)
            self._indices[catalogue] = (changes, index)
        return index

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        if self._accepted > self._queue_limit:
            raise OverloadedError(f"{self._accepted} readers of items are waiting")
        self._accepted += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(work)
        finally:
            self._accepted -= 1
