"""Searching among a catalogue's items, off the event loop; what it needs is made when first asked for."""

import asyncio
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from recjpq.attribute_summary import AttributeSummary
from recjpq.catalogue import Catalogue
from recjpq.scoring import ItemIndices
from recjpq.text_index import TextIndex
from service.errors import OverloadedError

_Result = TypeVar("_Result")


class ItemReader:
    """Reads one thing at a time, so that people who search do not slow down recommendations.

    Nothing that it does takes longer than a pass over a column: a time limit is not needed.
    """

    def __init__(self, most_items: int, queue_limit: int) -> None:
        """Search among the `most_items` most popular, while at most `queue_limit` others wait."""
        self._most_items = most_items
        self._queue_limit = queue_limit
        self._accepted = 0  # waiting, or the one at work
        self._turn = asyncio.Lock()
        self._indices: WeakKeyDictionary[Catalogue, TextIndex] = WeakKeyDictionary()

    async def find(self, catalogue: Catalogue, query: str, limit: int) -> ItemIndices:
        """Return at most `limit` items: the one of that very id, then those of these words.

        Raises:
            OverloadedError: as many wait as may.
        """
        exact = catalogue.indices_of([query])
        exact = exact[exact >= 0]

        def search() -> ItemIndices:
            found = self._index_of(catalogue).find(query, limit)
            return np.concatenate([exact, found[~np.isin(found, exact)]])[:limit]

        return await self._run(search)

    async def attributes(self, catalogue: Catalogue) -> list[AttributeSummary]:
        """Return what the metadata columns hold.

        Raises:
            OverloadedError: as many wait as may.
        """
        return await self._run(lambda: catalogue.attribute_summaries)

    def searched(self, catalogue: Catalogue) -> int:
        """Return among how many items `find` looks for words."""
        return min(self._most_items, len(catalogue.by_popularity))

    def _index_of(self, catalogue: Catalogue) -> TextIndex:
        index = self._indices.get(catalogue)
        if index is None:
            index = self._indices[catalogue] = catalogue.text_index(self._most_items)
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
