"""From a question to the best items; knows no HTTP, Redis or Prometheus."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recjpq.catalogue import Catalogue
from recjpq.scoring import ItemIndices, TopK
from service.errors import NoHistoryError, StoreUnavailableError
from service.history import History
from service.inference import InferencePool, Job
from service.model import Model
from service.store import SequenceStore
from service.timings import Timings

Strategy = Literal["model", "popular"]
Degradation = Literal["store_unavailable"]
Source = Literal["request", "store", "both", "none"]


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked.

    Attributes:
        history: item ids, oldest first, or None if the request has none.
        user_id: whose stored history comes before `history`, or None.
        k: how many items.
        exclude_seen: whether no item of the whole history is recommended.
        exclude: ids never to recommend; unknown ones are ignored.
        fallback: whether popular items are wanted when the history has no known item.
    """

    history: Sequence[str] | None
    user_id: str | None
    k: int
    exclude_seen: bool
    exclude: Sequence[str]
    fallback: bool


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What is answered.

    Attributes:
        best: item indices and scores, best first; for popular items the score is the interaction count.
        strategy: what chose them.
        exhausted: whether fewer than k items were eligible.
        degraded: what had to be left out.
        source: where the history came from.
        history: the whole history. used: how many of its items the model saw.
        model: which model the indices belong to.
    """

    best: TopK
    strategy: Strategy
    exhausted: bool
    degraded: tuple[Degradation, ...]
    source: Source
    history: History
    used: int
    model: Model


class Recommender:
    """One model, the sequences of its users, and the threads that run it."""

    def __init__(self, model: Model, store: SequenceStore, pool: InferencePool, stored_events: int) -> None:
        self.model = model
        self._store = store
        self._pool = pool
        self._stored_events = stored_events

    async def recommend(self, query: Query, timings: Timings) -> Recommendation:
        """Answer a query, recording how long each stage took.

        Raises:
            NoHistoryError: no known item, and no fallback wanted.
            StoreUnavailableError: the same, but perhaps only because the store could not be read.
            OverloadedError: too many requests are waiting.
        """
        stored = await self._read(query.user_id, timings)
        degraded: tuple[Degradation, ...] = ("store_unavailable",) if stored is None else ()
        history = History.look_up([*(stored or ()), *(query.history or ())], self.model.catalogue)
        window = history.window(self.model.description.max_length)
        exclude = self._exclude(query, history)
        strategy: Strategy = "model" if window.size else "popular"
        if window.size:
            best = await self._pool.best(Job(window, query.k, exclude), timings)
        elif query.fallback:
            best = popular(self.model.catalogue, query.k, exclude)
        elif degraded:
            raise StoreUnavailableError("no history without the store, and no fallback wanted")
        else:
            raise NoHistoryError("the history has no item that the model knows")
        exhausted = len(best.ids) < query.k
        source = _source(query, stored)
        return Recommendation(best, strategy, exhausted, degraded, source, history, len(window), self.model)

    async def _read(self, user_id: str | None, timings: Timings) -> list[str] | None:
        """Return a user's stored item ids, oldest first, or None if the store failed."""
        if user_id is None:
            return []
        with timings.measure("store"):
            try:
                return (await self._store.read_items([user_id], self._stored_events))[0]
            except StoreUnavailableError:  # counted where it happened; the answer says so
                return None

    def _exclude(self, query: Query, history: History) -> ItemIndices:
        unwanted = self.model.catalogue.indices_of(query.exclude)
        seen = history.known if query.exclude_seen else history.known[:0]
        return np.concatenate([seen, unwanted[unwanted >= 0]])


def popular(catalogue: Catalogue, k: int, exclude: ItemIndices) -> TopK:
    """Return the k items with most interactions, with those counts as scores."""
    unwanted = np.unique(exclude)
    candidates = catalogue.by_popularity[: k + len(unwanted)]  # enough if every unwanted one is among them
    ids = candidates[~np.isin(candidates, unwanted)][:k]
    return TopK(ids, catalogue.counts[ids].astype(np.float32))


def _source(query: Query, stored: list[str] | None) -> Source:
    from_store = query.user_id is not None and stored is not None
    if query.history is None:
        return "store" if from_store else "none"
    return "both" if from_store else "request"
