"""Every metric of the service, and nothing that is measured elsewhere.

Base units, labels from closed sets, every series present from the start: a rate over a counter that
appears with its first increment misses that increment. Series are looked up once, when declared: on the
way of a request `labels()` would cost more than the rest.

With several workers (see process/workers.py) each writes its values into files of its own, which every
one of them adds up when it is asked; prometheus-client does so from its import on if its variable is set.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from service.model import Model
from service.process.workers import DIRECTORY_VARIABLE
from service.recommender import Degradation, Strategy
from service.store.guard import Operation
from service.store.protocol import AppendResult
from service.timings import STAGES, Timings

OTHER = "other"
"""Label of a route or method that the service does not have."""

Variant = Literal["champion", "challenger"]
Reload = Literal["succeeded", "failed"]
UnknownIn = Literal["history", "events"]

# From half a millisecond and from 50 microseconds: an answer takes about a millisecond, and the common
# first bucket of 5 or 10 ms would hold all of them.
_REQUEST_BUCKETS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
_STAGE_BUCKETS = (
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0,
)  # fmt: skip
_BATCH_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)
_MODEL_INFO = "recjpq_model_info"


def keep_values_of_worker(slot: int) -> None:
    """Name this worker's files by its slot, not its pid; call it before any metric is made.

    A worker that takes the place of a dead one goes on from its counts, so that there are as many files as
    workers, however often they die.
    """
    values.ValueClass = values.MultiProcessValue(lambda: slot)


@dataclass(frozen=True, slots=True)
class _Route:
    """One route's series."""

    duration: Histogram
    by_status: dict[int, Counter]


class Metrics(Collector):
    """One application's metrics, in a registry of their own; collects those of all workers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._directory = os.environ.get(DIRECTORY_VARIABLE)
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        if not self._directory:
            ProcessCollector(registry=self.registry)  # of one process: says nothing of several

        self._requests = counter("recjpq_requests", "Requests answered.", ("method", "route", "status"))
        self._request_seconds = histogram(
            "recjpq_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ("method", "route"),
            buckets=_REQUEST_BUCKETS,
        )
        self.in_progress = gauge(
            "recjpq_requests_in_progress", "Requests being answered.", multiprocess_mode="livesum"
        )
        stages = histogram(
            "recjpq_stage_duration_seconds",
            "Stages of answering: store, queue, encode, score, respond.",
            ("stage",),
            buckets=_STAGE_BUCKETS,
        )
        self._queue_depth = gauge(
            "recjpq_queue_depth", "Accepted requests that wait for inference.", multiprocess_mode="livesum"
        )
        self._batch_size = histogram(
            "recjpq_batch_size", "Histories in one call of the encoder.", buckets=_BATCH_BUCKETS
        )
        self._rejections = counter("recjpq_rejections", "Requests refused, by reason.", ("reason",))

        recommendations = counter(
            "recjpq_recommendations",
            "Recommendations given, by strategy and by which model was asked.",
            ("strategy", "variant"),
        )
        recommendation_seconds = histogram(
            "recjpq_recommendation_duration_seconds",
            "From a request's head to its recommendation, alone or in a batch, by which model was asked.",
            ("variant",),
            buckets=_REQUEST_BUCKETS,
        )
        degraded = counter(
            "recjpq_degraded", "Recommendations that had to do without something.", ("reason",)
        )
        unknown_items = counter("recjpq_unknown_items", "Item ids that the model does not know.", ("source",))
        events = counter("recjpq_events", "Events received, by what became of them.", ("result",))

        store_seconds = histogram(
            "recjpq_store_operation_duration_seconds",
            "Calls of the sequence store that were tried.",
            ("operation",),
            buckets=_STAGE_BUCKETS,
        )
        store_errors = counter(
            "recjpq_store_errors", "Calls of the sequence store that failed.", ("operation",)
        )
        self._store_up = gauge(
            "recjpq_store_up",
            "Whether the last call of the sequence store succeeded.",
            multiprocess_mode="livemostrecent",
        )

        self._model_info = gauge(
            _MODEL_INFO,
            "The served models; always 1.",
            ("variant", "name", "version", "backbone", "scorer", "provider"),
            multiprocess_mode="livemax",
        )
        self._model_items = gauge(
            "recjpq_model_items", "Items that the champion offers.", multiprocess_mode="livemostrecent"
        )
        self._added_items = gauge(
            "recjpq_added_items", "Items added to its catalogue.", multiprocess_mode="livemostrecent"
        )
        self._model_loaded = gauge(
            "recjpq_model_loaded_timestamp_seconds",
            "When the model became ready.",
            multiprocess_mode="livemostrecent",
        )
        reloads = counter("recjpq_model_reloads", "Changes of the served model, by result.", ("result",))
        gauge("recjpq_workers", "Processes that serve.", multiprocess_mode="livesum").set(1)
        counter("recjpq_worker_starts", "Starts of processes that serve, also again.").inc()

        self._routes: dict[tuple[str, str], _Route] = {}
        self._refused: dict[str, Counter] = {}
        self._served: dict[Variant, Gauge] = {}
        self._depth: Callable[[], int] = int
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._recommendations = {
            (strategy, variant): recommendations.labels(strategy, variant)
            for strategy in get_args(Strategy)
            for variant in get_args(Variant)
        }
        self._recommendation_seconds = {
            variant: recommendation_seconds.labels(variant) for variant in get_args(Variant)
        }
        self._degraded = {reason: degraded.labels(reason) for reason in get_args(Degradation)}
        self._unknown_items = {source: unknown_items.labels(source) for source in get_args(UnknownIn)}
        self._events = {result: events.labels(result) for result in AppendResult._fields}
        self._store_seconds = {name: store_seconds.labels(name) for name in get_args(Operation)}
        self._store_errors = {name: store_errors.labels(name) for name in get_args(Operation)}
        self._reloads = {result: reloads.labels(result) for result in get_args(Reload)}

    def declare_routes(self, routes: Mapping[tuple[str, str], Iterable[int]]) -> None:
        """Make the series of each (method, route template) present, with the statuses that it can have."""
        unknown = {(OTHER, OTHER): (401, 404, 405, 429)}
        for (method, route), statuses in {**routes, **unknown}.items():
            self._routes[method, route] = _Route(
                self._request_seconds.labels(method, route),
                {status: self._requests.labels(method, route, status) for status in (*statuses, 500)},
            )

    def declare_rejections(self, reasons: Iterable[str]) -> None:
        """Make the series of each reason present."""
        self._refused = {reason: self._rejections.labels(reason) for reason in reasons}

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Read the queue's depth from now on when metrics are collected, or whenever a request ends."""
        if self._directory:  # whichever worker is asked can read only what the others wrote
            self._depth = depth
            self._queue_depth.set(depth())
        else:
            self._queue_depth.set_function(depth)

    def answered(self, method: str, route: str, status: int) -> None:
        """Record that a request is about to be answered."""
        series = self._routes[method, route]
        count = series.by_status.get(status)
        if count is None:  # a status that the route did not declare
            count = series.by_status[status] = self._requests.labels(method, route, status)
        count.inc()

    def took(self, method: str, route: str, seconds: float, timings: Timings) -> None:
        """Record how long a request and its stages took, when its answer has been sent."""
        self._routes[method, route].duration.observe(seconds)
        for stage, stage_seconds in list(timings.seconds.items()):  # a worker may add to it
            self._stages[stage].observe(stage_seconds)
        self.look_at_queue()

    def rejected(self, reason: str) -> None:
        """Record a refusal."""
        self._refused[reason].inc()

    def observe_batch(self, size: int) -> None:
        """Record how many histories one call of the encoder had."""
        self._batch_size.observe(size)

    def recommended(
        self,
        strategy: Strategy,
        variant: Variant,
        degraded: Iterable[Degradation],
        unknown_items: int,
        seconds: float,
    ) -> None:
        """Record a recommendation, how many ids of its history were unknown, and how long it took."""
        self._recommendations[strategy, variant].inc()
        self._recommendation_seconds[variant].observe(seconds)
        for reason in degraded:
            self._degraded[reason].inc()
        if unknown_items:
            self._unknown_items["history"].inc(unknown_items)

    def appended(self, result: AppendResult, unknown_items: int) -> None:
        """Record an append of events, and how many of their items the model did not know."""
        for name, count in result._asdict().items():
            self._events[name].inc(count)
        self._unknown_items["events"].inc(unknown_items)

    def store_called(self, operation: Operation, seconds: float, succeeded: bool) -> None:
        """Record a call of the store."""
        self._store_seconds[operation].observe(seconds)
        self._store_up.set(succeeded)
        if not succeeded:
            self._store_errors[operation].inc()

    def model_loaded(self, model: Model, variant: Variant = "champion") -> None:
        """Record which model is served from now on, in the place of that variant's last one."""
        about = model.description
        self.model_gone(variant)
        self._served[variant] = self._model_info.labels(
            variant,
            about.name,
            about.version,
            about.backbone,
            model.scorer.backend,
            model.encoder.providers[0],
        )
        self._served[variant].set(1)
        if variant == "champion":
            self.model_grown(model)
            self._model_loaded.set_to_current_time()

    def model_grown(self, model: Model) -> None:
        """Record how many items the champion offers, and how many were added to those it was trained on."""
        self._model_items.set(model.catalogue.num_items - model.catalogue.num_retired)
        self._added_items.set(model.catalogue.num_added)

    def model_gone(self, variant: Variant) -> None:
        """Record that no model is served as that variant."""
        if gone := self._served.pop(variant, None):
            gone.set(0)  # not removed: the files of several workers only grow

    def reloaded(self, result: Reload) -> None:
        """Record that the served model was to be changed."""
        self._reloads[result].inc()

    def look_at_queue(self) -> None:
        """Read the queue's depth, for metrics that another worker is asked for: no request may end here."""
        if self._directory:
            self._queue_depth.set(self._depth())

    def collect(self) -> Iterator[Metric]:
        """Yield every metric's values, added up over the workers."""
        source: MultiProcessCollector | CollectorRegistry = self.registry
        self.look_at_queue()
        if self._directory:
            source = MultiProcessCollector(None, self._directory)
        for family in source.collect():
            if family.name == _MODEL_INFO:
                family.samples = [sample for sample in family.samples if sample.value]
            yield family
