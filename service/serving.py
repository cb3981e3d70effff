"""What one process serves, from start to stop."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

from service.errors import NotReadyError, StoreUnavailableError
from service.inference import ROW_POSITIONS, InferencePool
from service.lifecycle.models import Lineup, LoadModel, Models, version_of
from service.lifecycle.versions import LocalVersions, Versions
from service.lifecycle.versions_remote import RemoteVersions
from service.metrics import Metrics
from service.model import Model
from service.process.workers import DIRECTORY_VARIABLE
from service.recommender import Recommender, Variant
from service.settings import Settings
from service.similar import SimilarItems
from service.store import Retention, SequenceStore, open_store
from service.store.guard import Breaker, GuardedStore
from service.store.open import StoreOptions

WATCH_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Served:
    """What answers, replaced as a whole."""

    champion: Recommender
    challenger: Recommender | None
    share: float


class Serving:
    """Holds what requests need while `running` is entered; `draining` once the process is to end."""

    def __init__(self, settings: Settings, metrics: Metrics, load_model: LoadModel) -> None:
        self.settings = settings
        self.metrics = metrics
        self.draining = False
        self._load_model = load_model
        self._store: SequenceStore | None = None
        self._pool: InferencePool | None = None
        self._models: Models | None = None
        self._similar: SimilarItems | None = None
        self._served: _Served | None = None

    @property
    def recommender(self) -> Recommender:
        """The champion; raises NotReadyError before the model is loaded."""
        if self._served is None:
            raise NotReadyError("the model is not loaded")
        return self._served.champion

    def recommender_for(self, user_id: str | None) -> Recommender:
        """Return who answers a user, always the same while the versions stay; nobody's is the champion's.

        Raises:
            NotReadyError: the model is not loaded.
        """
        served = self._served
        if served is None or served.challenger is None or user_id is None:
            return self.recommender
        version = version_of(served.challenger.model)
        return served.challenger if is_chosen(user_id, version, served.share) else served.champion

    @property
    def store(self) -> SequenceStore:
        """The sequence store; raises NotReadyError before it is open."""
        if self._store is None:
            raise NotReadyError("the store is not open")
        return self._store

    @property
    def models(self) -> Models:
        """The loaded models; raises NotReadyError before there is one."""
        if self._models is None or self._served is None:
            raise NotReadyError("the model is not loaded")
        return self._models

    @property
    def similar(self) -> SimilarItems:
        """What finds similar items; raises NotReadyError before the model is loaded."""
        if self._similar is None:
            raise NotReadyError("the model is not loaded")
        return self._similar

    @property
    def model_version(self) -> str | None:
        """The champion's version, or None before there is one."""
        return None if self._served is None else version_of(self._served.champion.model)

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

    def catalogue_changed(self) -> None:
        """Tell the metrics that items were added to the champion, or retired."""
        if self._served is not None:
            self.metrics.model_grown(self._served.champion.model)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the store, load the models, serve, follow other processes, and close everything.

        Raises:
            StartupError, RecJPQError: what cannot be opened or loaded.
        """
        settings = self.settings
        async with AsyncExitStack() as opened:
            opened.callback(self._end)
            self._store = self._open_store()
            opened.push_async_callback(self._store.close)
            opened.callback(self._close_pool)
            self._similar = SimilarItems(settings.inference_workers, settings.queue_limit)
            opened.callback(self._similar.close)
            self._models = Models(
                settings,
                _open_versions(settings),
                self._load_model,
                serve=self._serve,
                grown=self.catalogue_changed,
                count=self.metrics.reloaded,
                run_directory=Path(run) if (run := os.environ.get(DIRECTORY_VARIABLE)) else None,
            )
            await self._models.start()
            self.metrics.watch_queue(lambda: 0 if self._pool is None else self._pool.waiting)
            for task in (self._models.follow(), self._watch()):
                opened.push_async_callback(_cancel, asyncio.create_task(task))
            yield

    async def _watch(self) -> None:
        """Look at the store and the queue now and then: their metrics hold also when no request comes."""
        while True:
            self.metrics.look_at_queue()
            with suppress(StoreUnavailableError):  # the guard has counted and logged it
                await self.store.ping()
            await asyncio.sleep(WATCH_S)

    def _serve(self, lineup: Lineup) -> None:
        pool = self._pool = self._pool or self._open_pool()
        longest = lineup.champion.description.max_length
        pool.queue_positions = self.settings.queue_limit * (longest + ROW_POSITIONS)
        champion = self._recommender_of(lineup.champion, "champion", pool)
        challenger = None
        if lineup.challenger is not None:
            challenger = self._recommender_of(lineup.challenger, "challenger", pool)
        before, self._served = self._served, _Served(champion, challenger, lineup.share)
        # Afterwards, so that the metrics never name a model that does not answer yet.
        if before is None or before.champion.model is not lineup.champion:
            self.metrics.model_loaded(lineup.champion, "champion")
        self.metrics.model_gone("challenger")
        if lineup.challenger is not None:
            self.metrics.model_loaded(lineup.challenger, "challenger")
        model = lineup.champion
        fields = {
            "version": version_of(model),
            "items": model.catalogue.num_items,
            "provider": model.encoder.providers[0],
            "scorer": model.scorer.backend,
        }
        if lineup.challenger is not None:
            fields |= {"challenger": version_of(lineup.challenger), "share": lineup.share}
        _log.info("serving", extra=fields)

    def _recommender_of(self, model: Model, variant: Variant, pool: InferencePool) -> Recommender:
        return Recommender(
            model,
            self.store,
            pool,
            stored_events=self.settings.store_max_events,
            explained_items=self.settings.explained_items,
            read_timeout_s=self.settings.store_read_timeout_s,
            variant=variant,
        )

    def _open_pool(self) -> InferencePool:
        settings = self.settings
        return InferencePool(
            workers=settings.inference_workers,
            queue_positions=0,  # set with each champion, whose histories may be longer
            batch_positions=settings.batch_positions,
            observe_batch=self.metrics.observe_batch,
        )

    def _close_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()

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

    def _end(self) -> None:
        # Lets go of everything, and with it of the models.
        self._served = self._models = self._similar = self._pool = self._store = None


def is_chosen(user_id: str, version: str, share: float) -> bool:
    """Say whether a user is among the share that a challenger serves.

    The user's place is a hash keyed by the version: the same in every process and after every restart, and
    another for another experiment. A larger share keeps whoever a smaller one chose.
    """
    key = blake2b(version.encode(), digest_size=32).digest()
    place = blake2b(user_id.encode(), digest_size=8, key=key).digest()
    return int.from_bytes(place) < share * 2**64


def _open_versions(settings: Settings) -> Versions:
    if "://" in settings.model_path:
        return RemoteVersions.open(settings.model_path, settings.model_cache)
    return LocalVersions(Path(settings.model_path))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
