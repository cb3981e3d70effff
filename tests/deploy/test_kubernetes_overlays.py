"""What a user adds to the manifests: an overlay of one's own, as documented, and a model from a URL."""

import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.deploy.manifests import API_VERSION, FOLDER, ROOT, Resource, base, kustomize, named, pod_specs
from training.config import Config, load_config

TEXT = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
SECRETS = {
    "redis.env": "url=redis://r:6379/0",
    "api.env": "keys=a-key-of-the-shop",
    "admin.env": "key=other-key",
}


def fenced(language: str, name: str) -> str:
    """The file of that name in the documentation."""
    (text,) = re.findall(rf"^```{language}\n(# {re.escape(name)}\n.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return str(text)


@pytest.fixture
def documented(tmp_path: Path) -> Path:
    """A user's directory beside a checkout."""
    shutil.copytree(FOLDER, tmp_path / "recjpq" / "deploy" / "kubernetes")
    own = tmp_path / "shop"
    own.mkdir()
    (own / "kustomization.yaml").write_text(fenced("yaml", "kustomization.yaml"))
    (own / "shop.toml").write_text(fenced("toml", "shop.toml"))
    for name, line in SECRETS.items():
        (own / name).write_text(f"{line}\n")
    return own


@pytest.fixture
def own(documented: Path) -> list[Resource]:
    return kustomize(documented)


def container(built: list[Resource]) -> Resource:
    found: Resource = named(built, "Deployment", "recjpq")["spec"]["template"]["spec"]["containers"][0]
    return found


def test_the_documented_overlay_is_valid(own: list[Resource]) -> None:
    for resource in own:
        assert resource["metadata"]["namespace"] == "shop"
        if resource["kind"] != "PodMonitor":  # not of the API's own
            kubernetes_validate.validate(resource, API_VERSION, strict=True)
    named(own, "PodMonitor", "recjpq")


def test_the_documented_overlay_sets_what_it_says(own: list[Resource]) -> None:
    for spec in pod_specs(own):
        for one in spec["containers"] + spec.get("initContainers", []):
            assert re.fullmatch(r"images\.example\.com/recjpq-(service|training):0\.1\.0", one["image"])
    assert container(own)["resources"]["limits"] == {"memory": "4Gi"}
    for claim in (r for r in own if r["kind"] == "PersistentVolumeClaim"):
        assert claim["spec"]["storageClassName"] == "nfs"


def test_the_documented_secrets_are_those_that_the_pods_read(own: list[Resource]) -> None:
    secrets = {r["metadata"]["name"]: set(r["data"]) for r in own if r["kind"] == "Secret"}
    references = {
        entry["name"]: entry["valueFrom"]["secretKeyRef"]
        for spec in pod_specs(own)
        for one in spec["containers"]
        for entry in one.get("env", [])
    }
    assert set(references) == {"RECJPQ_STORE_URL", "RECJPQ_API_KEYS", "RECJPQ_ADMIN_KEY"}
    for reference in references.values():
        assert reference["key"] in secrets[reference["name"]]


def test_the_documented_training_exports_where_the_service_looks(
    own: list[Resource], documented: Path
) -> None:
    told = named(own, "ConfigMap", "recjpq-training")["data"]
    settings = named(own, "ConfigMap", "recjpq-settings")["data"]
    files = named(own, "ConfigMap", "recjpq-retrain")["data"]
    assert settings["RECJPQ_MODEL_PATH"] == f"/app/{told['RUN']}/artifacts"
    assert set(files) == {"retrain.sh", told["CONFIG"].removeprefix("/config/")}
    config: Config = load_config(documented / "shop.toml")
    assert str(config.run.directory) == told["RUN"]
    used = {source["configMapRef"]["name"] for source in container(own)["envFrom"]}
    assert used == {named(own, "ConfigMap", "recjpq-settings")["metadata"]["name"]}


@pytest.fixture(params=["cpu", "gpu"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> list[Resource]:
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    overlay = {
        "resources": [f"kubernetes/overlays/{request.param}"],
        "components": ["kubernetes/components/remote-model"],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return kustomize(tmp_path)


def test_a_remote_model_is_reached_and_nothing_is_trained(remote: list[Resource]) -> None:
    for resource in remote:
        kubernetes_validate.validate(resource, API_VERSION, strict=True)
    kinds = [resource["kind"] for resource in remote]
    assert not {"Job", "CronJob"} & set(kinds)
    ports = {
        port["port"]
        for rule in named(remote, "NetworkPolicy", "recjpq-service")["spec"]["egress"]
        for port in rule["ports"]
    }
    assert ports == {53, 443, 6379}
    volumes = named(remote, "Deployment", "recjpq")["spec"]["template"]["spec"]["volumes"]
    claims = {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}
    assert claims == {r["metadata"]["name"] for r in remote if r["kind"] == "PersistentVolumeClaim"}
    assert claims == {"recjpq-state"}


@pytest.mark.parametrize("url", ["s3://bucket/models", "https://host/models", "https://host/models/v1"])
def test_no_pod_waits_for_a_directory_where_the_model_is_at_a_url(url: str) -> None:
    spec = named(base(), "Deployment", "recjpq")["spec"]["template"]["spec"]["initContainers"][0]
    command = [*spec["command"], *spec["args"]]
    environment = {"PATH": "/usr/bin:/bin", "RECJPQ_MODEL_PATH": url}
    ran = subprocess.run(command, env=environment, capture_output=True, timeout=10, check=False)
    assert ran.returncode == 0


@pytest.mark.parametrize("place", ["manifest.json", "v1/manifest.json"])
def test_a_pod_goes_on_as_soon_as_there_is_an_artifact(place: str, tmp_path: Path) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).touch()
    spec = named(base(), "Deployment", "recjpq")["spec"]["template"]["spec"]["initContainers"][0]
    command = [*spec["command"], *spec["args"]]
    environment = {"PATH": "/usr/bin:/bin", "RECJPQ_MODEL_PATH": str(tmp_path)}
    ran = subprocess.run(command, env=environment, capture_output=True, timeout=10, check=False)
    assert ran.returncode == 0
