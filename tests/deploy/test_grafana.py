"""Grafana's dashboard: as its script writes it, and every query finds a series of the service."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.grafana.dashboard import PATH, dashboard, expressions, filled_in
from deploy.promql import Series, unanswered

PROVISIONING = Path(PATH).parents[1] / "provisioning"
ALERTS = {"ALERTS": [{"alertname": "RecJPQDown", "alertstate": "firing"}]}


@pytest.mark.parametrize("expression", expressions())
def test_each_query_asks_for_series_that_the_service_has(expression: str, series: Series) -> None:
    assert not list(unanswered(expression, {**series, "up": [{}], **ALERTS}))


def test_the_file_is_what_the_script_writes() -> None:
    assert json.loads(PATH.read_text(encoding="utf-8")) == dashboard(), (
        "run python -m deploy.grafana.dashboard"
    )


def quantity(expression: str) -> str:
    """Return what an expression gives: "s", "per second", or "number"."""
    if "histogram_quantile" in expression or "timestamp_seconds" in expression:
        return "s"
    return "per second" if "rate(" in expression and " / " not in expression else "number"


def test_a_panel_has_one_unit_and_says_which() -> None:
    of_unit = {"s": "s", "ops": "per second", "reqps": "per second"}
    for panel in dashboard()["panels"]:
        found = {quantity(target["expr"]) for target in panel.get("targets", [])}
        assert len(found) <= 1, panel["title"]
        if panel["type"] in {"timeseries", "stat"} and (unit := panel["fieldConfig"]["defaults"]["unit"]) in (
            of_unit.keys() | {"short"}
        ):
            assert found == {of_unit.get(unit, "number")}, panel["title"]


# An instance comes after 5 minutes. Its counters begin at what it has done before it was first scraped: the
# start of two workers. At the tenth one of them dies, and a model is changed.
COMES = 'job="recjpq", instance="b"'
ARRIVES = f"""
rule_files: []
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - {{series: 'recjpq_model_reloads_total{{{COMES}, result="succeeded"}}', values: '_x20 0x20 1x40'}}
      - {{series: 'recjpq_worker_starts_total{{{COMES}}}', values: '_x20 2x20 3x40'}}
      - {{series: 'recjpq_workers{{{COMES}}}', values: '_x20 2x40 2x40'}}
      - {{series: 'recjpq_model_loaded_timestamp_seconds{{{COMES}}}', values: '_x20 300x20 601x40'}}
    promql_expr_test:
"""


@pytest.mark.parametrize(
    ("title", "labels", "at", "value"),
    [
        ("Model changes, by result", '{result="succeeded"}', "10m", 0),
        ("Model changes, by result", '{result="succeeded"}', "11m", 1),
        ("Age of the model, by instance", '{instance="b"}', "6m", 60),
        ("Age of the model, by instance", '{instance="b"}', "11m", 59),
        ("Workers started again, by instance", '{instance="b"}', "6m", 0),
        ("Workers started again, by instance", '{instance="b"}', "11m", 1),
    ],
)
def test_changes_and_starts_are_seen(
    promtool: str, title: str, labels: str, at: str, value: int, tmp_path: Path
) -> None:
    (panel,) = (panel for panel in dashboard()["panels"] if panel["title"] == title)
    (target,) = panel["targets"]
    expression = filled_in(target["expr"], job="recjpq", interval="1m")
    rounded = {"expr": f"round({expression})", "eval_time": at}
    case = [{**rounded, "exp_samples": [{"labels": labels, "value": value}]}]
    (tmp_path / "tests.yml").write_text(f"{ARRIVES}      {json.dumps(case)}\n")
    ran = subprocess.run(
        [promtool, "test", "rules", "tests.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_legends_name_labels_that_their_queries_keep() -> None:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            kept = {
                label.strip()
                for group in re.findall(r"by \(([^)]*)\)", target["expr"])
                for label in group.split(",")
            }
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, target


def test_panels_do_not_overlap_and_fill_their_rows() -> None:
    cells = [
        (x, y)
        for panel in dashboard()["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len(cells) == 24 * (1 + max(y for _, y in cells))


def test_the_provisioned_data_source_and_folder_are_those_of_compose() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "recjpq.yml").read_text())["providers"]
    compose = yaml.safe_load((PATH.parents[3] / "docker-compose.yml").read_text())
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
