"""Every metric of the service, and nothing that is measured elsewhere.

Base units, labels from closed sets, every series present from the start: a rate over a counter that
appears with its first increment misses that increment.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from service.model import Model
from service.recommender import Degradation, Strategy
from service.store.guard import Operation
from service.timings import STAGES, Timings

OTHER = "other"
"""Label of a route or method that the service does not have."""

EVENT_RESULTS = ("stored", "duplicate", "stale")

# From half a millisecond and from 50 microseconds: an answer takes about a millisecond, and the common
# first bucket of 5 or 10 ms would hold all of them.
_REQUEST_BUCKETS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
_STAGE_BUCKETS = (
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0,
)  # fmt: skip


class Metrics:
    """One application's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        ProcessCollector(registry=self.registry)

        self._requests = counter("recjpq_requests", "Requests answered.", ("method", "route", "status"))
        self._request_seconds = histogram(
            "recjpq_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ("method", "route"),
            buckets=_REQUEST_BUCKETS,
        )
        self.in_progress = gauge("recjpq_requests_in_progress", "Requests being answered.")
        self._stage_seconds = histogram(
            "recjpq_stage_duration_seconds",
            "Stages of answering: store, queue, encode, score, respond.",
            ("stage",),
            buckets=_STAGE_BUCKETS,
        )
        self._queue_depth = gauge("recjpq_queue_depth", "Accepted requests that wait for a worker.")
        self._rejections = counter("recjpq_rejections", "Requests refused, by reason.", ("reason",))

        self.recommendations = counter(
            "recjpq_recommendations", "Recommendations given, by strategy.", ("strategy",)
        )
        self.degraded = counter(
            "recjpq_degraded", "Recommendations that had to do without something.", ("reason",)
        )
        self.unknown_items = counter(
            "recjpq_unknown_items", "Item ids that the model does not know.", ("source",)
        )
        self.events = counter("recjpq_events", "Events received, by what became of them.", ("result",))

        self._store_seconds = histogram(
            "recjpq_store_operation_duration_seconds",
            "Calls of the sequence store that were tried.",
            ("operation",),
            buckets=_STAGE_BUCKETS,
        )
        self._store_errors = counter(
            "recjpq_store_errors", "Calls of the sequence store that failed.", ("operation",)
        )
        self._store_up = gauge("recjpq_store_up", "Whether the last call of the sequence store succeeded.")

        self._model_info = gauge(
            "recjpq_model_info",
            "The served model; always 1.",
            ("name", "version", "backbone", "scorer", "provider"),
        )
        self._model_items = gauge("recjpq_model_items", "Items in the served catalogue.")
        self._model_loaded = gauge("recjpq_model_loaded_timestamp_seconds", "When the model became ready.")
        self._declare_labels()

    def declare_routes(self, routes: Mapping[tuple[str, str], Iterable[int]]) -> None:
        """Make the series of each (method, route template) present, with the statuses that it can have."""
        unknown = {(OTHER, OTHER): (404, 405)}
        for (method, route), statuses in {**routes, **unknown}.items():
            self._request_seconds.labels(method, route)
            for status in (*statuses, 500):
                self._requests.labels(method, route, status)

    def declare_rejections(self, reasons: Iterable[str]) -> None:
        """Make the series of each reason present."""
        for reason in reasons:
            self._rejections.labels(reason)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Read the queue's depth from now on when metrics are collected."""
        self._queue_depth.set_function(depth)

    def answered(self, method: str, route: str, status: int, seconds: float, timings: Timings) -> None:
        """Record the end of a request."""
        self._requests.labels(method, route, status).inc()
        self._request_seconds.labels(method, route).observe(seconds)
        for stage, stage_seconds in timings.seconds.items():
            self._stage_seconds.labels(stage).observe(stage_seconds)

    def rejected(self, reason: str) -> None:
        """Record a refusal."""
        self._rejections.labels(reason).inc()

    def store_called(self, operation: Operation, seconds: float, succeeded: bool) -> None:
        """Record a call of the store."""
        self._store_seconds.labels(operation).observe(seconds)
        self._store_up.set(succeeded)
        if not succeeded:
            self._store_errors.labels(operation).inc()

    def model_loaded(self, model: Model) -> None:
        """Record which model is served from now on."""
        about = model.description
        self._model_info.clear()
        self._model_info.labels(
            about.name, about.version, about.backbone, model.scorer.backend, model.encoder.providers[0]
        ).set(1)
        self._model_items.set(model.catalogue.num_items)
        self._model_loaded.set_to_current_time()

    def _declare_labels(self) -> None:
        for stage in STAGES:
            self._stage_seconds.labels(stage)
        for strategy in get_args(Strategy):
            self.recommendations.labels(strategy)
        for reason in get_args(Degradation):
            self.degraded.labels(reason)
        for source in ("history", "events"):
            self.unknown_items.labels(source)
        for result in EVENT_RESULTS:
            self.events.labels(result)
        for operation in get_args(Operation):
            self._store_seconds.labels(operation)
            self._store_errors.labels(operation)
