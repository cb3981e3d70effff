"""The Kubernetes manifests, as they are written and as kustomize makes them."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
API_VERSION = "1.31"
KUBECTL = shutil.which("kubectl")

Resource = dict[str, Any]


def read(path: Path) -> list[Resource]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def base() -> list[Resource]:
    """The resources as they are written, without what kustomize adds."""
    (kustomization,) = read(FOLDER / "base" / "kustomization.yaml")
    return [resource for name in kustomization["resources"] for resource in read(FOLDER / "base" / name)]


def literals(name: str) -> dict[str, str]:
    """What a generated ConfigMap of the base holds."""
    (kustomization,) = read(FOLDER / "base" / "kustomization.yaml")
    (generator,) = (g for g in kustomization["configMapGenerator"] if g["name"] == name)
    return dict(literal.split("=", 1) for literal in generator["literals"])


def kustomize(folder: Path) -> list[Resource]:
    """What is applied; skips the test where there is no kubectl."""
    if KUBECTL is None:
        pytest.skip("kubectl is not installed (kubernetes.io, Install Tools)")
    ran = subprocess.run([KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return list(yaml.safe_load_all(ran.stdout))


def named(resources: list[Resource], kind: str, name: str) -> Resource:
    (found,) = (r for r in resources if (r["kind"], r["metadata"]["name"].startswith(name)) == (kind, True))
    return found


def pod_specs(resources: list[Resource]) -> Iterator[Resource]:
    for resource in resources:
        spec = resource.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield spec["template"]["spec"]
