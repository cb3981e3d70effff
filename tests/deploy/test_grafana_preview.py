"""The drawing of the dashboard, from the answers of a server that stands in for Prometheus."""

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from deploy.grafana import preview
from deploy.grafana.dashboard import PATH, dashboard
from deploy.grafana.prometheus import PreviewError, Prometheus

pytest.importorskip("matplotlib")
EMPTY, WITHOUT_OBSERVATIONS = "recjpq_store_errors_total", "recjpq_store_operation_duration_seconds"
GAP = range(20, 30)


class Handler(BaseHTTPRequestHandler):
    """Answers with two series that miss some points; one query with nothing, one with NaN, and keeps them."""

    asked: list[dict[str, str]]

    def do_GET(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.asked.append(asked)
        if "(" not in asked["query"]:
            self.answer(400, {"status": "error", "error": "parse error"})
            return
        start, step = float(asked["start"]), float(asked["step"])
        count = 1 + int((float(asked["end"]) - start) / step + 0.5)
        factor = math.nan if WITHOUT_OBSERVATIONS in asked["query"] else 1
        result = [
            {
                "metric": {"__name__": "x", "le": bound, "stage": f"stage-{bound}", "version": "v1"},
                "values": [[start + step * n, str(factor * n)] for n in range(count) if n not in GAP],
            }
            for bound in ("0.005", "+Inf")
        ]
        found = [] if EMPTY in asked["query"] else result
        self.answer(200, {"status": "success", "data": {"result": found}})

    def answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Handler.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def prometheus(url: str, *, minutes: float = 5, scrape_s: float = 5) -> Prometheus:
    return Prometheus(url, job="shop", minutes=minutes, scrape_s=scrape_s)


def panel(expression: str, legend: str = "__auto") -> dict[str, Any]:
    return {"targets": [{"expr": expression, "legendFormat": legend}]}


def test_the_dashboard_is_drawn_and_what_is_empty_is_named(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "dashboard.png"
    arguments = ["--prometheus", url, "--minutes", "5", "--output", str(output)]
    assert preview.main(arguments) == 0
    assert output.read_bytes().startswith(b"\x89PNG")
    empty = "nothing to show: Store, failed calls\nnothing to show: Store, p99\n"
    assert capsys.readouterr().err == empty
    assert preview.main([*arguments, "--strict"]) == 1


def test_a_dashboard_without_any_data_is_drawn_too(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.EMPTY", "")
    panels = [panel["title"] for panel in dashboard()["panels"] if panel["type"] != "row"]
    assert preview.draw(dashboard(), prometheus(url), tmp_path / "x.png") == panels


def test_a_kind_of_panel_that_it_does_not_know_is_refused(url: str, tmp_path: Path) -> None:
    changed = dashboard()
    changed["panels"][3]["type"] = "piechart"
    with pytest.raises(PreviewError, match=r"'Served' is of kind 'piechart', expected one of row, stat"):
        preview.draw(changed, prometheus(url), tmp_path / "x.png")


@pytest.mark.parametrize(
    ("minutes", "scrape_s", "step", "interval"),
    [(5, 5, 5, "20000ms"), (5, 15, 15, "60000ms"), (120, 5, 30, "35000ms")],
)
def test_queries_are_asked_as_grafana_asks(
    minutes: float, scrape_s: float, step: float, interval: str, url: str
) -> None:
    source = prometheus(url, minutes=minutes, scrape_s=scrape_s)
    source.lines(panel('sum (rate(x{job="$job"}[$__rate_interval]))'))
    (asked,) = Handler.asked
    assert (asked["query"], float(asked["step"])) == (f'sum (rate(x{{job="shop"}}[{interval}]))', step)


def test_it_takes_for_granted_how_often_the_provisioned_data_source_is_scraped(url: str) -> None:
    provisioned = PATH.parents[1] / "provisioning" / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(provisioned.read_text(encoding="utf-8"))["datasources"]
    assert preview.options([]).scrape_s == float(source["jsonData"]["timeInterval"].removesuffix("s"))


def test_a_line_has_its_legend_and_no_value_where_it_has_no_point(url: str) -> None:
    first, second = prometheus(url).lines(panel("max(x)", "{{stage}} of {{ version }}{{other}}"))
    assert (first.name, second.name) == ("stage-0.005 of v1", "stage-+Inf of v1")
    assert [n for n, value in enumerate(first.values) if math.isnan(value)] == list(GAP)
    assert first.values[-1] == len(first.values) - 1 == 60


@pytest.mark.parametrize(
    ("expression", "message"),
    [("sum(x{y='$zone'})", r"has \$zone, which only Grafana knows"), ("x y", "refuses x y: .*parse error")],
)
def test_a_query_that_cannot_be_asked_is_named(expression: str, message: str, url: str) -> None:
    with pytest.raises(PreviewError, match=message):
        prometheus(url).lines(panel(expression))


def test_without_prometheus_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert preview.main(["--prometheus", "http://127.0.0.1:9", "--output", str(tmp_path / "x.png")]) == 1
    assert "http://127.0.0.1:9 does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.00025, "s", "0.25 ms"), (1.5, "s", "1.5 s"), (90, "s", "1.5 min"), (7200, "s", "2 h"),
        (0.9995, "percentunit", "99.95%"), (12.345, "reqps", "12.3 req/s"), (0, "ops", "0 /s"),
        (505_840, "short", "505.8 k"), (3, "short", "3"), (0, "short", "0"),
    ],
)  # fmt: skip
def test_a_value_as_it_is_read(value: float, unit: str, expected: str) -> None:
    assert preview.shown(value, unit) == expected
