"""In a cluster the pods' series have the labels that rules, dashboard and autoscaler want."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.manifests import FOLDER, base, kustomize, named, read

ROLE = {
    "__meta_kubernetes_namespace": "shop",
    "__meta_kubernetes_pod_name": "recjpq-1",
    "__meta_kubernetes_pod_phase": "Running",
    "__meta_kubernetes_pod_label_app_kubernetes_io_name": "recjpq",
    "__meta_kubernetes_pod_label_app_kubernetes_io_component": "service",
    "__meta_kubernetes_pod_container_port_name": "http",
}
"""What Prometheus' service discovery of the role `pod` says of a pod of the service."""


def test_the_discovered_pod_is_the_deployments() -> None:
    template = named(base(), "Deployment", "recjpq")["spec"]["template"]
    (kustomization,) = read(FOLDER / "base" / "kustomization.yaml")
    labels = template["metadata"]["labels"] | kustomization["labels"][0]["pairs"]
    for label, value in labels.items():
        assert ROLE[f"__meta_kubernetes_pod_label_{re.sub(r'[./-]', '_', label)}"] == value
    (port,) = template["spec"]["containers"][0]["ports"]
    assert ROLE["__meta_kubernetes_pod_container_port_name"] == port["name"]


def scraped(promtool: str, tmp_path: Path, labels: dict[str, str]) -> dict[str, str]:
    """The labels of a discovered pod's series as Prometheus computes them; none if it is not scraped."""
    (config,) = read(FOLDER / "prometheus-scrape.yaml")
    (job,) = config["scrape_configs"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]  # Debian's promtool has no such discovery
    job["static_configs"] = [{"targets": ["10.0.0.1:8000"], "labels": labels}]
    path = tmp_path / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    for command in (["config", path], ["service-discovery", "--timeout=1s", path, job["job_name"]]):
        ran = subprocess.run([promtool, "check", *command], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    (target,) = json.loads(ran.stdout)
    found = target.get("labels") or {}
    return {name: value for name, value in found.items() if not name.startswith("__")}


def test_a_scraped_pod_has_the_job_of_the_rules_and_the_adapters_labels(
    promtool: str, tmp_path: Path
) -> None:
    expected = {"job": "recjpq", "instance": "10.0.0.1:8000", "namespace": "shop", "pod": "recjpq-1"}
    assert scraped(promtool, tmp_path, ROLE) == expected
    (adapter,) = read(FOLDER / "prometheus-adapter.yaml")
    assert set(adapter["rules"]["custom"][0]["resources"]["overrides"]) <= set(expected)
    rules = (FOLDER.parent / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    assert set(re.findall(r'job="(\w+)"', rules)) == {expected["job"]}


@pytest.mark.parametrize(
    "other",
    [
        {"__meta_kubernetes_pod_label_app_kubernetes_io_component": "training"},
        {"__meta_kubernetes_pod_label_app_kubernetes_io_name": "shop"},
        {"__meta_kubernetes_pod_container_port_name": "proxy"},
        {"__meta_kubernetes_pod_phase": "Failed"},
    ],
    ids=lambda other: next(iter(other.values())),
)
def test_other_pods_are_not_scraped(promtool: str, other: dict[str, str], tmp_path: Path) -> None:
    assert scraped(promtool, tmp_path, ROLE | other) == {}


def test_no_annotation_lets_another_job_scrape_the_pods_too() -> None:
    metadata: dict[str, Any] = named(base(), "Deployment", "recjpq")["spec"]["template"]["metadata"]
    assert "annotations" not in metadata


def test_the_pod_monitor_selects_the_pods_and_names_the_job(tmp_path: Path) -> None:
    overlay = {
        "resources": ["kubernetes/overlays/cpu"],
        "components": ["kubernetes/components/pod-monitor"],
    }
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    built = kustomize(tmp_path)
    monitor = named(built, "PodMonitor", "recjpq")["spec"]
    template = named(built, "Deployment", "recjpq")["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "recjpq"}]
