"""What one process serves, from start to stop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from service.errors import NotReadyError
from service.inference import ROW_POSITIONS, InferencePool
from service.metrics import Metrics
from service.model import Model
from service.recommender import Recommender
from service.settings import Settings
from service.store import Retention, SequenceStore, open_store
from service.store.guard import Breaker, GuardedStore
from service.store.open import StoreOptions

LoadModel = Callable[[Settings], Model]

_log = logging.getLogger(__name__)


class Serving:
    """Holds what requests need while `running` is entered; `draining` once the process is to end."""

    def __init__(self, settings: Settings, metrics: Metrics, load_model: LoadModel) -> None:
        self.settings = settings
        self.metrics = metrics
        self.draining = False
        self._load_model = load_model
        self._recommender: Recommender | None = None
        self._store: SequenceStore | None = None

    @property
    def recommender(self) -> Recommender:
        """The recommender; raises NotReadyError before the model is loaded."""
        if self._recommender is None:
            raise NotReadyError("the model is not loaded")
        return self._recommender

    def recommender_for(self, user_id: str | None) -> Recommender:  # noqa: ARG002  # one variant yet
        """Return the recommender that answers a user, always the same for each."""
        return self.recommender

    @property
    def store(self) -> SequenceStore:
        """The sequence store; raises NotReadyError before it is open."""
        if self._store is None:
            raise NotReadyError("the store is not open")
        return self._store

    @property
    def model_version(self) -> str | None:
        """The served model's version, or None before there is one."""
        return None if self._recommender is None else self._recommender.model.description.version

    async def check_ready(self) -> None:
        """Raise an UnavailableError unless new requests should be sent here."""
        if self.draining:
            raise NotReadyError("draining")
        self.recommender  # noqa: B018  # raises
        if self.settings.ready_needs_store:
            await self.store.ping()

    def begin_drain(self) -> None:
        """Stop being ready; requests are still answered."""
        self.draining = True
        _log.info("draining")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the store, load the model, serve, and close both.

        Raises:
            StartupError, RecJPQError: what cannot be opened or loaded.
        """
        async with AsyncExitStack() as opened:
            store = self._open_store()
            opened.push_async_callback(store.close)
            model = await asyncio.to_thread(self._load_model, self.settings)
            pool = self._open_pool(model)
            opened.callback(pool.close)
            opened.callback(self._end)
            self._begin(
                Recommender(
                    model,
                    store,
                    pool,
                    stored_events=self.settings.store_max_events,
                    explained_items=self.settings.explained_items,
                ),
                store,
            )
            self.metrics.watch_queue(lambda: pool.waiting)
            yield

    def _open_store(self) -> SequenceStore:
        settings = self.settings
        options = StoreOptions(
            Retention(settings.store_max_events, settings.store_ttl_s * 1000),
            write_timeout_s=settings.store_write_timeout_s,
        )
        return GuardedStore(
            open_store(settings.store_url, options),
            partial(Breaker, settings.store_breaker_failures, settings.store_breaker_reset_s),
            self.metrics.store_called,
            read_timeout_s=settings.store_read_timeout_s,
            write_timeout_s=settings.store_write_timeout_s,
        )

    def _open_pool(self, model: Model) -> InferencePool:
        settings = self.settings
        return InferencePool(
            workers=settings.inference_workers,
            queue_positions=settings.queue_limit * (model.description.max_length + ROW_POSITIONS),
            batch_positions=settings.batch_positions,
            observe_batch=self.metrics.observe_batch,
        )

    def _begin(self, recommender: Recommender, store: SequenceStore) -> None:
        model = recommender.model
        self._store, self._recommender = store, recommender
        self.metrics.model_loaded(model)
        fields = {
            "version": model.description.version,
            "items": model.catalogue.num_items,
            "provider": model.encoder.providers[0],
            "scorer": model.scorer.backend,
        }
        _log.info("serving", extra=fields)

    def _end(self) -> None:
        self._store = self._recommender = None
        self.metrics.watch_queue(lambda: 0)  # lets go of the pool, and with it of the model
