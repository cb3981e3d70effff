"""The Kubernetes manifests: valid against the API's schemas, locked down, and true of this service."""

import re
from pathlib import Path

import kubernetes_validate
import pytest

from deploy.promql import Series, unanswered
from service.app import create_app
from service.settings import Settings
from tests.deploy.manifests import (
    API_VERSION,
    FOLDER,
    ROOT,
    Resource,
    base,
    kustomize,
    literals,
    named,
    pod_specs,
    read,
)

OVERLAYS = ("cpu", "gpu")


@pytest.fixture(scope="module", params=OVERLAYS)
def built(request: pytest.FixtureRequest) -> list[Resource]:
    return kustomize(FOLDER / "overlays" / request.param)


@pytest.mark.parametrize("resource", base(), ids=lambda r: f"{r['kind']}-{r['metadata']['name']}")
def test_each_resource_is_valid(resource: Resource) -> None:
    kubernetes_validate.validate(resource, API_VERSION, strict=True)


def test_what_kustomize_makes_of_an_overlay_is_valid(built: list[Resource]) -> None:
    for resource in built:
        kubernetes_validate.validate(resource, API_VERSION, strict=True)
    for spec in pod_specs(built):
        for container in spec["containers"]:
            assert container["image"].endswith(":0.1.0")
    names = {resource["metadata"]["name"] for resource in built if resource["kind"] == "ConfigMap"}
    used = {source["configMapRef"]["name"] for spec in pod_specs(built) for container in spec["containers"]
            for source in container.get("envFrom", [])}  # fmt: skip
    assert used <= names


def test_the_gpu_overlay_asks_for_gpus_and_uses_them() -> None:
    (kustomization,) = read(FOLDER / "overlays" / "gpu" / "kustomization.yaml")
    patched = {
        patch["target"]["kind"] for patch in kustomization["patches"] if "nvidia.com~1gpu" in patch["patch"]
    }
    assert patched == {"Deployment", "Job", "CronJob"}
    assert "RECJPQ_DEVICE=cuda" in kustomization["configMapGenerator"][0]["literals"]


@pytest.mark.parametrize("spec", list(pod_specs(base())), ids=lambda spec: spec["containers"][0]["name"])
def test_every_container_is_locked_down(spec: Resource) -> None:
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec["automountServiceAccountToken"]
    for container in spec["containers"] + spec.get("initContainers", []):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}


def test_every_volume_that_is_mounted_exists() -> None:
    claims = {
        resource["metadata"]["name"] for resource in base() if resource["kind"] == "PersistentVolumeClaim"
    }
    for spec in pod_specs(base()):
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for container in spec["containers"] + spec.get("initContainers", []):
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
        used = {
            v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v
        }
        assert used <= claims


def test_probes_ask_for_routes_that_the_service_has(tmp_path: Path) -> None:
    app = create_app(Settings(store_url=f"sqlite:///{tmp_path}/store.sqlite3"))
    routes = set(app.openapi()["paths"])
    container = named(base(), "Deployment", "recjpq")["spec"]["template"]["spec"]["containers"][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in routes


def test_a_pod_has_the_time_to_drain() -> None:
    spec = named(base(), "Deployment", "recjpq")["spec"]["template"]["spec"]
    shutdown = Settings.model_fields["shutdown_timeout_s"].default
    assert (
        float(literals("recjpq-settings")["RECJPQ_DRAIN_S"]) + shutdown
        < spec["terminationGracePeriodSeconds"]
    )


def test_selectors_find_the_pods() -> None:
    labels = named(base(), "Deployment", "recjpq")["spec"]["template"]["metadata"]["labels"]
    assert named(base(), "Service", "recjpq")["spec"]["selector"].items() <= labels.items()
    for kind, name in (("PodDisruptionBudget", "recjpq"), ("NetworkPolicy", "recjpq-service")):
        spec = named(base(), kind, name)["spec"]
        selector = spec.get("selector") or spec["podSelector"]
        assert selector["matchLabels"].items() <= labels.items()


def test_the_job_and_the_nightly_job_are_the_same() -> None:
    nightly = named(base(), "CronJob", "recjpq-retrain")["spec"]["jobTemplate"]["spec"]["template"]
    assert named(base(), "Job", "recjpq-train")["spec"]["template"] == nightly
    told = literals("recjpq-training")
    assert nightly["spec"]["containers"][0]["envFrom"] == [{"configMapRef": {"name": "recjpq-training"}}]
    assert (ROOT / "training" / told["CONFIG"]).exists()
    assert literals("recjpq-settings")["RECJPQ_MODEL_PATH"] == f"/app/{told['RUN']}/artifacts"
    assert told["SERVICE"] == f"http://{named(base(), 'Service', 'recjpq')['metadata']['name']}"
    script = (FOLDER / "base" / "retrain.sh").read_text(encoding="utf-8")
    assert set(told) == set(re.findall(r"\$\{?([A-Z]+)\b", script))


def test_the_autoscaler_asks_for_the_metric_that_the_adapter_makes(series: Series) -> None:
    (adapter,) = read(FOLDER / "prometheus-adapter.yaml")
    (rule,) = adapter["rules"]["custom"]
    pods = named(base(), "HorizontalPodAutoscaler", "recjpq")["spec"]["metrics"][0]["pods"]
    assert pods["metric"]["name"] == rule["name"]["as"]
    query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace(", <<.LabelMatchers>>", "")
    assert not list(unanswered(query, series))
