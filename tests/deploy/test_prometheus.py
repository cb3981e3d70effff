"""Prometheus' configuration: what the rules ask for exists, and each alert is seen to fire."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.promql import Series, unanswered

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
WRITTEN_BY_PROMETHEUS = {"up": [{}], "ALERTS": [{"alertname": "RecJPQDown", "alertstate": "firing"}]}


def load(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Return the rules of a kind, `alert` or `record`, by name."""
    files = load("prometheus.yml")["rule_files"]
    groups = [group for name in files for group in load(name)["groups"]]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


@pytest.fixture(scope="module")
def known(series: Series) -> Series:
    return {**series, **WRITTEN_BY_PROMETHEUS, **{name: [{}] for name in rules("record")}}


@pytest.mark.parametrize("kind", ["record", "alert"])
def test_the_rules_ask_only_for_series_that_the_service_has(kind: str, known: Series) -> None:
    problems = [text for rule in rules(kind).values() for text in unanswered(rule["expr"], known)]
    assert not problems


def test_the_check_finds_a_misspelt_metric_label_or_value(known: Series) -> None:
    assert list(unanswered("rate(recjpq_request_total[5m])", known))
    assert list(unanswered('recjpq_events_total{results="stored"}', known))
    assert list(unanswered('recjpq_requests_total{route=~"/recommended.*"}', known))
    assert not list(unanswered('recjpq_requests_total{job="x", route!="/livez", status=~"2.."}', known))


def test_every_alert_is_tested_and_explained() -> None:
    cases = [case for test in load("tests.yml")["tests"] for case in test.get("alert_rule_test", [])]
    tested = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert tested == set(rules("alert"))
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    anchors = {line.lstrip("# ").lower() for line in re.findall(r"^#+ .*$", text, flags=re.MULTILINE)}
    for name, rule in rules("alert").items():
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (page, anchor) == ("docs/operations.md", name.lower())
        assert anchor in anchors, name
        assert rule["labels"]["severity"] in {"page", "ticket"}


@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "tests.yml")], ids=" ".join
)
def test_promtool_accepts(promtool: str, arguments: tuple[str, ...]) -> None:
    ran = subprocess.run([promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
