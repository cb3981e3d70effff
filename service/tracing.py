"""Traces of requests in OpenTelemetry's form, sent to a collector over OTLP and HTTP.

Imported only where they are wanted (see app.py). Where to, how many and under which name is for
OpenTelemetry's own variables to say, such as `OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_TRACES_SAMPLER`.

Spans are made once a request has ended, of times that were taken for `Server-Timing` anyway; they hold the
route's template, never the path, in which the user's id is.
"""

import threading
from collections.abc import Iterable
from time import perf_counter, time_ns

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from recjpq import __version__
from service.timings import Timings

_CONTEXT_HEADERS = (b"traceparent", b"tracestate")  # W3C Trace Context
_LONGEST_CLOSE_S = 3.0


class Tracing:
    """Makes the spans of requests and sends them in the background."""

    def __init__(self) -> None:
        named = Resource({SERVICE_NAME: "recjpq", SERVICE_VERSION: __version__})
        self._provider = TracerProvider(
            resource=named.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("recjpq", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def record(
        self,
        name: str,
        headers: Iterable[tuple[bytes, bytes]],
        started: float,
        ended: float,
        timings: Timings,
        attributes: dict[str, str | int],
    ) -> None:
        """Make the span of a request, child of the caller's if the headers name one, and of each stage.

        Args:
            name: method and route.
            headers: the request's.
            started: when the request came, by `perf_counter`.
            ended: when its answer was sent, by the same.
            timings: its stages.
            attributes: the span's, in OpenTelemetry's names.
        """
        since_epoch_ns = time_ns() - round(perf_counter() * 1e9)

        def at(counter: float) -> int:
            return since_epoch_ns + round(counter * 1e9)

        span = self._tracer.start_span(
            name, self._caller(headers), SpanKind.SERVER, attributes, start_time=at(started)
        )
        if not span.is_recording():  # not among those to be sampled
            return
        context = set_span_in_context(span, Context())
        stage_ended = started
        for stage, seconds in list(timings.seconds.items()):
            stage_started = timings.started.get(stage, stage_ended)
            stage_ended = stage_started + seconds
            child = self._tracer.start_span(stage, context, start_time=at(stage_started))
            child.end(at(stage_ended))
        if int(attributes["http.response.status_code"]) >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(at(ended))

    def close(self) -> None:
        """Send what is left, and end; what a collector does not take in a few seconds is lost."""
        # In a thread of its own: the library would wait for half a minute, and no process has so long to end.
        thread = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        thread.start()
        thread.join(_LONGEST_CLOSE_S)

    def _caller(self, headers: Iterable[tuple[bytes, bytes]]) -> Context:
        carrier = {
            name.decode(): value.decode("latin-1") for name, value in headers if name in _CONTEXT_HEADERS
        }
        return self._propagator.extract(carrier, Context())
