"""Images and compose: versions are pinned, settings exist, and the check says when it can check nothing."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from deploy import check_compose
from service.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
PINNED = re.compile(r"[a-z/0-9]+:v?\d+\.\d+\.\d+[a-z-]*")


def constraints(name: str) -> dict[str, str]:
    lines = (ROOT / "deploy" / "docker" / name).read_text(encoding="utf-8").splitlines()
    pinned = (line.split("==") for line in lines if line and line[0] not in "#-")
    return dict(pinned)


def test_images_are_pinned() -> None:
    (python,) = re.findall(r"^ARG PYTHON_IMAGE=(.*)$", DOCKERFILE, flags=re.MULTILINE)
    assert PINNED.fullmatch(python)
    for name, service in COMPOSE["services"].items():
        assert "build" in service or PINNED.fullmatch(service["image"]), name


def test_targets_of_compose_are_stages_of_the_dockerfile() -> None:
    stages = set(re.findall(r" AS ([a-z-]+)$", DOCKERFILE, flags=re.MULTILINE))
    targets = {s["build"]["target"] for s in COMPOSE["services"].values() if "build" in s}
    assert targets == {"service", "service-gpu", "training"} <= stages


@pytest.mark.parametrize(
    ("name", "extras"), [("constraints.txt", ("cpu", "training")), ("constraints-gpu.txt", ("gpu",))]
)
def test_constraints_pin_what_the_project_allows(name: str, extras: tuple[str, ...]) -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [r for e in extras for r in project["optional-dependencies"][e]]
    pinned = constraints("constraints.txt") | constraints(name)
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned[requirement.name.lower()]), requirement


def test_the_wheel_is_built_by_pinned_versions() -> None:
    import tomllib

    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    pinned = constraints("constraints-build.txt")
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned[requirement.name]), requirement
    (installed,) = re.findall(r"pip install .*-c constraints-build\.txt (.*)$", DOCKERFILE, re.MULTILINE)
    assert set(installed.split()) <= set(pinned)
    (build,) = re.findall(r"pip wheel .*$", DOCKERFILE, flags=re.MULTILINE)
    assert "--no-build-isolation" in build


@pytest.mark.parametrize(
    "path",
    [
        "Dockerfile",
        "docker-compose.yml",
        "deploy/kubernetes/base/deployment.yaml",
        "deploy/kubernetes/base/kustomization.yaml",
        "deploy/kubernetes/overlays/gpu/kustomization.yaml",
    ],
)
def test_settings_that_are_made_exist(path: str) -> None:
    named = set(re.findall(rf"\b{PREFIX}([A-Z_]+)\b", (ROOT / path).read_text(encoding="utf-8")))
    assert named
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_every_container_is_hardened() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_compose_starts_in_order() -> None:
    waits = COMPOSE["services"]["service"]["depends_on"]
    assert waits["trainer"] == {"condition": "service_completed_successfully"}
    assert waits["redis"] == {"condition": "service_healthy"}
    without_profile = {name for name, service in COMPOSE["services"].items() if "profiles" not in service}
    assert without_profile == set(check_compose.SERVICES)


@pytest.mark.parametrize("path", ["service", "training", "recjpq", "README.md", "deploy/docker"])
def test_what_the_images_copy_is_in_the_context(path: str) -> None:
    assert f"!{path}" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def test_the_check_says_when_there_is_no_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_compose.main([]) == check_compose.NO_ENGINE
    assert "not checked: there is no docker" in capsys.readouterr().out
