"""The drawing of the dashboard, from the answers of a server that stands in for Prometheus."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from deploy.grafana import preview
from deploy.grafana.dashboard import dashboard

pytest.importorskip("matplotlib")
EMPTY = "recjpq_store_errors_total"


class Handler(BaseHTTPRequestHandler):
    """Answers a query with two series over five minutes, and one query with nothing."""

    def do_GET(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        times = [float(asked["start"]) + 60 * n for n in range(5)]
        result = [
            {
                "metric": {"__name__": "x", "le": bound, "stage": f"stage-{bound}", "version": "v1"},
                "values": [[at, str(factor * n)] for n, at in enumerate(times)],
            }
            for factor, bound in enumerate(("0.005", "+Inf"), 1)
        ]
        assert "$" not in asked["query"]
        found = [] if EMPTY in asked["query"] else result
        body = json.dumps({"status": "success", "data": {"result": found}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_dashboard_is_drawn_and_what_is_empty_is_named(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "dashboard.png"
    arguments = ["--prometheus", url, "--minutes", "5", "--output", str(output)]
    assert preview.main(arguments) == 0
    assert output.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().err == "nothing to show: Store, failed calls\n"
    assert preview.main([*arguments, "--strict"]) == 1


def test_a_kind_of_panel_that_it_does_not_know_is_refused(url: str, tmp_path: Path) -> None:
    changed = dashboard()
    changed["panels"][3]["type"] = "piechart"
    with pytest.raises(
        preview.PreviewError, match=r"'Served' is of kind 'piechart', expected one of row, stat"
    ):
        preview.draw(changed, preview.Prometheus(url, "recjpq", 5), tmp_path / "x.png")


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
