"""The README's commands, run as they stand there."""

import json
import os
import re
import shlex
import signal
import subprocess
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from service.settings import Settings
from tests.service.servers import free_port
from training.config import Config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEADLINE_S = 240


def _fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def demo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`make demo`, short, in a directory of its own that links to the project."""
    here = tmp_path_factory.mktemp("demo")
    for name in ("Makefile", ".venv", "recjpq", "training", "service"):
        (here / name).symlink_to(ROOT / name)
    port = free_port()
    installed = ["--assume-old", ".venv/.installed-training"]  # this test runs in that environment
    command = ["make", *installed, "demo", "DEMO_TRAIN=--set train.max_epochs=1 --force"]
    environment = os.environ | {"RECJPQ_PORT": str(port)}
    with (
        (here / "log").open("w+") as log,
        subprocess.Popen(
            command, cwd=here, env=environment, stdout=log, stderr=log, start_new_session=True
        ) as process,
    ):
        try:
            _wait_ready(f"http://127.0.0.1:{port}/readyz", process, here / "log")
            yield f"localhost:{port}"
        finally:
            with suppress(ProcessLookupError):  # it has ended by itself, as `_wait_ready` said
                os.killpg(process.pid, signal.SIGTERM)


def _wait_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.2)  # between attempts at a port that is not open yet
    pytest.fail(f"the demo did not become ready:\n{log.read_text()}")


@pytest.fixture(scope="module")
def curls() -> list[list[str]]:
    lines = [line for block in _fenced("bash") for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("curl ")]


def _run(curl: list[str], url: str) -> dict[str, object]:
    command = [part.replace("localhost:8000", url) for part in curl]
    answered = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, object] = json.loads(answered.stdout)
    return answer


def test_the_first_curl_returns_ten_titles_in_the_form_that_is_shown(
    demo_url: str, curls: list[list[str]]
) -> None:
    answer = _run(curls[0], demo_url)
    titles = [item["metadata"]["title"] for item in answer["items"]]  # type: ignore[index, attr-defined]
    assert len(set(titles)) == 10
    assert all(titles)
    (shown,) = _fenced("json")
    assert set(re.findall(r'^[ {]"(\w+)":', shown, flags=re.MULTILINE)) <= set(answer)
    assert (answer["strategy"], answer["exhausted"]) == ("model", False)


def test_a_remembered_user_is_recommended_to(demo_url: str, curls: list[list[str]]) -> None:
    _, append, recommend = curls
    assert _run(append, demo_url) == {"stored": 1, "duplicate": 0, "stale": 0, "unknown": 0}
    answer = _run(recommend, demo_url)
    assert answer["strategy"] == "model"
    assert len(answer["items"]) == 3  # type: ignore[arg-type]


def test_the_commands_and_targets_that_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)`", README)) <= targets
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_settings_that_it_names_exist_with_their_defaults() -> None:
    for row in re.findall(r"^\| (`RECJPQ_.*?) \| (.*?) \|", README, flags=re.MULTILINE):
        names, defaults = (re.findall(r"`([^`]+)`", cell) for cell in row)
        for name, default in zip(names, defaults, strict=True):
            assert str(Settings.model_fields[name.removeprefix("RECJPQ_").lower()].default) == default


def test_the_configuration_that_it_shows_is_valid() -> None:
    (shown,) = _fenced("toml")
    assert Config.model_validate(tomllib.loads(shown)).train.loss == "sampled_softmax"
    assert f"```toml\n{shown}```" in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_training_documentation_lists_every_setting_with_its_default() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    for section, field in Config.model_fields.items():
        for key in field.annotation.model_fields:  # type: ignore[union-attr]
            assert f"`{section}.{key}`" in text, f"{section}.{key}"
