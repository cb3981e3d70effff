"""Images and compose: versions are pinned, settings exist, and the check says when it can check nothing."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from deploy import check_compose
from service.settings import PREFIX, Settings
from training.config import Config

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
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
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [r for e in extras for r in project["optional-dependencies"][e]]
    pinned = constraints("constraints.txt") | constraints(name)
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned[requirement.name.lower()]), requirement


def test_the_wheel_is_built_by_pinned_versions() -> None:
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


def test_what_users_set_reaches_the_service() -> None:
    for name in ("service", "service-gpu"):
        environment = COMPOSE["services"][name]["environment"]
        assert environment["RECJPQ_MODEL_PATH"] == "${RECJPQ_MODEL_PATH:-/app/runs/demo/artifacts}"
        # Passed on if it is set, and else not set: the service refuses an empty key.
        assert {environment[key] for key in ("RECJPQ_API_KEYS", "RECJPQ_ADMIN_KEY")} == {None}


def test_what_can_be_set_is_documented() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    names = set(re.findall(r"\$\{(\w+):-", text.split("services:", 1)[1])) | {"RECJPQ_API_KEYS"}
    assert not {name for name in names if f"`{name}`" not in DEPLOYMENT}


def trained(directory: Path, **environment: str) -> list[str]:
    """Run compose's trainer in a directory; return what it started."""
    trainer = COMPOSE["services"]["trainer"]
    defaults = {
        name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in trainer["environment"].items()
    }
    program = directory / "bin" / "recjpq-train"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\necho "$*" >> {directory}/started\n')
    program.chmod(0o755)
    started = directory / "started"
    started.write_text("")
    path = {"PATH": f"{program.parent}:/usr/bin:/bin"}
    (script,) = trainer["command"]
    subprocess.run(
        [*trainer["entrypoint"], script.replace("$$", "$")],
        env=defaults | environment | path,
        cwd=directory,
        check=True,
    )
    return started.read_text().splitlines()


def test_the_trainer_trains_once(tmp_path: Path) -> None:
    place = {"RECJPQ_MODEL_PATH": str(tmp_path / "artifacts")}
    demo = ["download runs/demo/data", "all --config configs/demo.toml"]
    assert trained(tmp_path) == trained(tmp_path, **place) == demo
    assert trained(tmp_path, **place, TRAIN_CONFIG="own/shop.toml") == ["all --config own/shop.toml"]
    (tmp_path / "artifacts" / "v1").mkdir(parents=True)
    (tmp_path / "artifacts" / "v1" / "manifest.json").touch()
    assert trained(tmp_path, **place) == []
    assert trained(tmp_path, RECJPQ_MODEL_PATH=str(tmp_path / "artifacts" / "v1")) == []
    assert trained(tmp_path, RECJPQ_MODEL_PATH="s3://bucket/models") == []


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


DOCKER = """#!/bin/sh
# An engine that has nothing but, perhaps, what a check left running.
echo "$SERVICE_PORT $RECJPQ_API_KEYS $*" >> "$CALLS"
case "$*" in *" ps --quiet") echo "$LEFT_RUNNING";; *" up "*) exit 1;; esac
"""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What an engine's program is called with: port, key, arguments."""
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("LEFT_RUNNING", "")
    monkeypatch.setenv("SERVICE_PORT", "8000")
    monkeypatch.setenv("RECJPQ_API_KEYS", "a-key-of-the-shop")
    return tmp_path / "calls"


def test_the_check_leaves_alone_what_runs_from_the_same_checkout(calls: Path) -> None:
    assert check_compose.main([]) == 1
    asked = [line.split() for line in calls.read_text().splitlines()]
    of_compose = [words for words in asked if words[2:3] == ["compose"] and words[3] != "version"]
    actions = [words[5] for words in of_compose]
    assert (actions[0], actions[1], actions[-1]) == ("ps", "up", "down")
    for port, key, _, *arguments in of_compose:
        assert arguments[:2] == ["--project-name", "recjpq-check"]
        assert port not in {"8000", "9090", "3000"}
        assert key != "a-key-of-the-shop"
    assert "--volumes" in of_compose[-1]


def test_a_check_that_was_left_running_is_named_and_not_ended(
    calls: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEFT_RUNNING", "3f2a")
    assert check_compose.main([]) == check_compose.NO_ENGINE
    assert "`docker compose --project-name recjpq-check down --volumes" in capsys.readouterr().out
    assert not re.search(r" (up|down)\b", calls.read_text())


def test_the_documented_training_on_own_data_is_what_is_served() -> None:
    (toml,) = re.findall(r"^```toml\n(# compose\.toml\n.*?)^```$", DEPLOYMENT, re.MULTILINE | re.DOTALL)
    (env,) = re.findall(r"^```bash\n# \.env\n(.*?)^```$", DEPLOYMENT, re.MULTILINE | re.DOTALL)
    config = Config.model_validate(tomllib.loads(toml))
    told = dict(line.split("=", 1) for line in env.splitlines())
    assert told["RECJPQ_MODEL_PATH"] == f"/app/{config.run.directory}/artifacts"
    mounts = [volume.rsplit(":", 2) for volume in COMPOSE["services"]["trainer"]["volumes"]]
    assert ["${TRAIN_FILES:-./training/configs}", "/app/own", "ro"] in mounts
    assert told["TRAIN_CONFIG"].startswith("own/")
    assert str(config.data.interactions).startswith("own/")
