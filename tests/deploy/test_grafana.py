"""Grafana's dashboard: as its script writes it, and every query finds a series of the service."""

import json
import re
from pathlib import Path

import pytest
import yaml

from deploy.grafana.dashboard import PATH, dashboard, expressions
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
