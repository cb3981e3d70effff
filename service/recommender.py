"""From a question to the best items; knows no HTTP, Redis or Prometheus."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from math import inf
from time import perf_counter
from typing import Any, Literal, TypeVar

import numpy as np

from recjpq.attributes import Filters
from recjpq.errors import FilterError
from recjpq.scoring import ItemIndices, TopK
from service.errors import DeadlineError, NoHistoryError, StoreUnavailableError
from service.explanation import Contributions
from service.history import History
from service.inference import InferencePool, Job, Outcome
from service.model import Model
from service.popular import popular
from service.store import SequenceStore
from service.timings import Timings

T = TypeVar("T")

Strategy = Literal["model", "popular"]
Degradation = Literal["store_unavailable"]
Source = Literal["request", "store", "both", "none"]
Variant = Literal["champion", "challenger"]
ClientGone = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked.

    Attributes:
        history: item ids, oldest first, or None if the request has none.
        user_id: whose stored history comes before `history`, or None.
        k: how many items.
        exclude_seen: whether no item of the whole history is recommended.
        exclude: ids never to recommend; unknown ones are ignored.
        candidates: the only ids to consider, or None for all; unknown ones are ignored.
        filters: what the items' attributes must be, or None.
        fallback: whether popular items are wanted when the history has no known item.
        explain: whether to say which items of the history contributed.
    """

    history: Sequence[str] | None
    user_id: str | None
    k: int
    exclude_seen: bool
    exclude: Sequence[str]
    candidates: Sequence[str] | None
    filters: Filters | None
    fallback: bool
    explain: bool


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
        contributions: what the history's items contributed, if it was asked for and a model answered.
    """

    best: TopK
    strategy: Strategy
    exhausted: bool
    degraded: tuple[Degradation, ...]
    source: Source
    history: History
    used: int
    model: Model
    contributions: Contributions | None = None


Refusal = NoHistoryError | StoreUnavailableError | FilterError
"""Why one query of several has no answer."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """A query whose history has been read and looked up."""

    query: Query
    stored: bool
    history: History
    window: ItemIndices
    exclude: ItemIndices
    candidates: ItemIndices | None

    @property
    def needs_pool(self) -> bool:
        """Whether the answer takes more than a glance at the most popular items."""
        return bool(self.window.size or self.query.filters or self.candidates is not None)


class Recommender:
    """One model, the sequences of its users, and the threads that run it.

    Attributes:
        model: which.
        variant: what it is for the service.
    """

    def __init__(
        self,
        model: Model,
        store: SequenceStore,
        pool: InferencePool,
        *,
        stored_events: int,
        explained_items: int,
        read_timeout_s: float,
        variant: Variant = "champion",
    ) -> None:
        """Take what answers need.

        Args:
            model: as the attribute.
            store: ends a read after `read_timeout_s` by itself.
            pool: of threads.
            stored_events: how many of a user's events are read.
            explained_items: how many of a history's newest items `explain` weighs.
            read_timeout_s: of the store.
            variant: as the attribute.
        """
        self.model = model
        self.variant = variant
        self._store = store
        self._pool = pool
        self._stored_events = stored_events
        self._explained_items = explained_items
        self._read_timeout_s = read_timeout_s

    async def recommend(
        self,
        queries: Sequence[Query],
        timings: Timings,
        deadline: float | None = None,
        client_gone: ClientGone | None = None,
    ) -> list[Recommendation | Refusal]:
        """Answer queries together: one read of the store, one place in the queue.

        Args:
            queries: at least one.
            timings: told how long each stage took.
            deadline: as `InferencePool.run`.
            client_gone: as `InferencePool.run`.

        Returns:
            For each query its answer, or the error that it alone has: NoHistoryError (no known item, and no
            fallback wanted), StoreUnavailableError (the same, but perhaps only because the store could not
            be read) or FilterError.

        Raises:
            OverloadedError, DeadlineError, ClientGoneError: for all of them.
        """
        stored = await self._read(queries, timings, deadline)
        plans = [self._plan(query, items) for query, items in zip(queries, stored, strict=True)]
        refusals = [self._refusal(plan) for plan in plans]
        jobs = [
            self._job(plan)
            for plan, refusal in zip(plans, refusals, strict=True)
            if refusal is None and plan.needs_pool
        ]
        outcomes = iter(await self._pool.run(jobs, timings, deadline, client_gone) if jobs else ())
        answers: list[Recommendation | Refusal] = []
        for plan, refusal in zip(plans, refusals, strict=True):
            if refusal is not None:
                answers.append(refusal)
            elif plan.needs_pool:
                answers.append(self._answer(plan, next(outcomes)))
            else:
                best = popular(self.model.catalogue, plan.query.k, plan.exclude)
                answers.append(self._answer(plan, Outcome(best)))
        return answers

    async def _read(
        self, queries: Sequence[Query], timings: Timings, deadline: float | None
    ) -> list[list[str] | None]:
        """Return each user's stored item ids, oldest first; None if the store failed.

        Raises:
            DeadlineError: it passed before the store answered.
        """
        users = list(dict.fromkeys(query.user_id for query in queries if query.user_id is not None))
        if not users:
            return [[] for _ in queries]
        with timings.measure("store"):
            try:
                sequences = await self._in_time(self._store.read_items(users, self._stored_events), deadline)
            except StoreUnavailableError:  # counted where it happened; the answer says so
                sequences = [None] * len(users)
        items: dict[str | None, list[str] | None] = dict(zip(users, sequences, strict=True))
        return [items.get(query.user_id, []) for query in queries]

    async def _in_time(self, reading: Coroutine[Any, Any, T], deadline: float | None) -> T:
        """Wait for a read until the deadline; it goes on, so that the store's guard learns how it ends."""
        left_s = inf if deadline is None else deadline - perf_counter()
        if left_s > self._read_timeout_s:
            return await reading
        task = asyncio.ensure_future(reading)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # retrieved
        done, _ = await asyncio.wait({task}, timeout=max(0.0, left_s))
        if not done:
            raise DeadlineError("the deadline passed before the store answered")
        return task.result()

    def _plan(self, query: Query, stored: list[str] | None) -> _Plan:
        catalogue = self.model.catalogue
        history = History.look_up([*(stored or ()), *(query.history or ())], catalogue)
        unwanted = catalogue.indices_of(query.exclude)
        seen = history.known if query.exclude_seen else history.known[:0]
        candidates = None
        if query.candidates is not None:
            found = catalogue.indices_of(query.candidates)
            candidates = found[found >= 0]
        return _Plan(
            query,
            stored is not None,
            history,
            history.window(self.model.description.max_length),
            np.concatenate([seen, unwanted[unwanted >= 0]]),
            candidates,
        )

    def _refusal(self, plan: _Plan) -> Refusal | None:
        if plan.query.filters:
            try:
                self.model.catalogue.check_filters(plan.query.filters)
            except FilterError as error:
                return error
        if plan.window.size or plan.query.fallback:
            return None
        if plan.stored:
            return NoHistoryError("The history has no item that the model knows.")
        return StoreUnavailableError("no history without the store, and no fallback wanted")

    def _job(self, plan: _Plan) -> Job:
        query = plan.query
        explained = self._explained_items if query.explain else 0
        return Job(
            self.model, plan.window, query.k, plan.exclude, plan.candidates, query.filters or None, explained
        )

    def _answer(self, plan: _Plan, outcome: Outcome) -> Recommendation:
        query = plan.query
        return Recommendation(
            outcome.best,
            strategy="model" if plan.window.size else "popular",
            exhausted=len(outcome.best.ids) < query.k,
            degraded=() if plan.stored else ("store_unavailable",),
            source=_source(query, plan.stored),
            history=plan.history,
            used=len(plan.window),
            model=self.model,
            contributions=outcome.contributions,
        )


def _source(query: Query, stored: bool) -> Source:
    from_store = query.user_id is not None and stored
    if query.history is None:
        return "store" if from_store else "none"
    return "both" if from_store else "request"
