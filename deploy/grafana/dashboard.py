"""Write the dashboard: `python -m deploy.grafana.dashboard` renews `dashboards/recjpq.json`."""

import json
from pathlib import Path
from typing import Any

from deploy.grafana.panels import ROWS, Kind, Panel

PATH = Path(__file__).parent / "dashboards" / "recjpq.json"

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana reads it."""
    return {
        "title": "RecJPQ: recommendations",
        "uid": "recjpq",
        "schemaVersion": 41,
        "editable": False,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "tags": ["recjpq"],
        "templating": {"list": _variables()},
        "panels": _laid_out(),
    }


def expressions() -> list[str]:
    """Return what the panels and variables ask, with Grafana's variables filled in."""
    asked = [query for panels in ROWS.values() for panel in panels for query in panel.queries.values()]
    return [filled_in(query, job="recjpq", interval="1m") for query in asked]


def filled_in(query: str, *, job: str, interval: str) -> str:
    """Return a query with the dashboard's variable and the interval of a rate in place of their names."""
    return query.replace("$__rate_interval", interval).replace("$job", job)


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "label": "Data", "type": "datasource", "query": "prometheus"},
        {
            "name": "job",
            "label": "Job",
            "type": "query",
            "datasource": DATASOURCE,
            "query": {"query": "label_values(recjpq_workers, job)", "refId": "job"},
            "refresh": 2,
            "sort": 1,
        },
    ]


def _laid_out() -> list[dict[str, Any]]:
    laid: list[dict[str, Any]] = []
    y = 0
    for row, panels in ROWS.items():
        laid.append(_placed(len(laid), 0, y, WIDTH, 1) | {"type": "row", "title": row, "collapsed": False})
        x, y, height = 0, y + 1, 0
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            height = panel.height
            laid.append(_placed(len(laid), x, y, panel.width, height) | _panel(panel))
            x += panel.width
        y += height
    return laid


def _placed(index: int, x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {"id": index + 1, "gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _panel(panel: Panel) -> dict[str, Any]:
    table, heatmap = panel.kind == "table", panel.kind == "heatmap"
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": expression,
                "legendFormat": legend or "__auto",
                "instant": table,
                "range": not table,
                "format": "table" if table else "heatmap" if heatmap else "time_series",
            }
            for index, (legend, expression) in enumerate(panel.queries.items())
        ],
        "options": _OPTIONS[panel.kind] | panel.options,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, **panel.defaults}, "overrides": []},
        **({"transformations": [_WITHOUT_TIME_AND_VALUE]} if table else {}),
    }


_WITHOUT_TIME_AND_VALUE = {"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}}}

_OPTIONS: dict[Kind, dict[str, Any]] = {
    "stat": {"graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}},
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "heatmap": {
        "calculate": False,
        "yAxis": {"unit": "s"},
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
    },
    "table": {"showHeader": True},
}


if __name__ == "__main__":
    PATH.write_text(json.dumps(dashboard(), indent=1) + "\n", encoding="utf-8")
