"""Traces, as a collector gets them over HTTP."""

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

TRACE_ID, CALLER_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Takes spans over OTLP and HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def resources(self) -> list:
        return [resource for request in self.requests for resource in request.resource_spans]

    @property
    def spans(self) -> list:
        return [span for r in self.resources for scope in r.scope_spans for span in scope.spans]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def attributes_of(span) -> dict:
    return {
        attribute.key: attribute.value.string_value or attribute.value.int_value
        for attribute in span.attributes
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_a_request_and_its_stages_are_spans_of_the_callers_trace(
    start_service, collector, monkeypatch, workers
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    service = start_service(workers=workers)
    traced = {"traceparent": f"00-{TRACE_ID}-{CALLER_ID}-01", "tracestate": "vendor=x", "X-Request-ID": "r-1"}
    body = {"user_id": "very-private", "history": ["i1"]}
    assert httpx.post(f"{service.url}/recommend", json=body, headers=traced).status_code == 200
    unsampled = {"traceparent": f"00-{TRACE_ID[::-1]}-{CALLER_ID}-00"}
    assert httpx.post(f"{service.url}/recommend", json=body, headers=unsampled).status_code == 200
    assert httpx.get(f"{service.url}/users/very-private/events").status_code == 200
    service.process.terminate()  # sends what is left
    assert service.process.wait(20) == 0

    ours = [span for span in collector.spans if span.trace_id.hex() == TRACE_ID]
    [request] = [span for span in ours if span.kind == span.SPAN_KIND_SERVER]
    assert (request.name, request.parent_span_id.hex()) == ("POST /recommend", CALLER_ID)
    assert attributes_of(request) == {
        "http.request.method": "POST",
        "http.route": "/recommend",
        "http.response.status_code": 200,
        "recjpq.request_id": "r-1",
    }
    stages = sorted(
        (span for span in ours if span is not request), key=lambda span: span.start_time_unix_nano
    )
    assert [stage.name for stage in stages] == ["store", "queue", "encode", "score", "respond"]
    for stage, following in zip(stages, [*stages[1:], request], strict=True):
        assert stage.parent_span_id == request.span_id
        assert request.start_time_unix_nano <= stage.start_time_unix_nano <= stage.end_time_unix_nano
        assert stage.end_time_unix_nano <= max(following.start_time_unix_nano, request.end_time_unix_nano)

    assert TRACE_ID[::-1] not in {span.trace_id.hex() for span in collector.spans}
    names = {span.name for span in collector.spans}
    assert "GET /users/{user_id}/events" in names
    assert "very-private" not in str(collector.requests)
    resource = {a.key: a.value.string_value for a in collector.resources[0].resource.attributes}
    assert resource["service.name"] == "recjpq"


def test_a_collector_that_is_down_harms_nobody(start_service, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    service = start_service()
    assert httpx.post(f"{service.url}/recommend", json={"history": ["i1"]}).status_code == 200
    service.process.terminate()
    assert service.process.wait(20) == 0


def test_without_the_extra_it_serves_and_says_what_to_install(settings, monkeypatch, caplog):
    from service.app import create_app

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "service.tracing", None)
    create_app(settings)
    [record] = caplog.records
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set, but there are no traces" in record.getMessage()
    assert "install recjpq[tracing]" in record.getMessage()


def test_without_an_endpoint_it_is_not_imported():  # redis-py imports some of OpenTelemetry by itself
    code = "import sys, service.app as a, service.settings as s; a.create_app(s.Settings()); "
    code += "sys.exit('service.tracing' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
