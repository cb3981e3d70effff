"""What the nightly job runs: a new version is activated in the running service, an old one left alone."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "kubernetes" / "base" / "retrain.sh"
ARTIFACT = ROOT / "tests" / "data" / "artifact-schema-1"
KEY = "a-key-for-the-administrator"

pytestmark = pytest.mark.skipif(not shutil.which("flock"), reason="flock is not installed")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the job runs, with a training that exports v2."""
    program = tmp_path / "bin" / "recjpq-train"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        'case "$*" in *--restart) rm -f other-data;; esac\n'
        "if [ -e other-data ]; then echo 'made from other data; pass --restart' >&2; exit 2; fi\n"
        "if [ -e worse ]; then echo 'does not beat popularity' >&2; touch refused; rm worse; exit 2; fi\n"
        '[ -e trained ] || cp -r exported "$RUN/artifacts/v2"\n'
    )
    program.chmod(0o755)
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    version(tmp_path / "runs" / "artifacts" / "v1", "v1")
    version(tmp_path / "exported", "v2")
    return tmp_path


def version(path: Path, name: str) -> None:
    shutil.copytree(ARTIFACT, path)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"version": name}))


def retrain(directory: Path, url: str, status: int = 0, **environment: str) -> str:
    ran = subprocess.run(
        ["sh", SCRIPT],
        cwd=directory,
        env={
            "PATH": f"{directory}/bin:{os.environ['PATH']}",
            "CONFIG": "own.toml",
            "RUN": "runs",
            "SERVICE": url,
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == status, ran.stderr
    return ran.stdout


def served(url: str) -> str:
    with urllib.request.urlopen(f"{url}/model") as answer:
        name: str = json.load(answer)["version"]
        return name


def activate(url: str, name: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"{url}/admin/models/{name}/activate", b"", headers)
    urllib.request.urlopen(request).close()


def test_a_new_version_is_served_without_a_restart(
    directory: Path, serve: Callable[..., AbstractContextManager[str]]
) -> None:
    with serve(model_path=str(directory / "runs" / "artifacts"), admin_key=KEY) as url:
        assert served(url) == "v1"
        retrain(directory, url, RECJPQ_ADMIN_KEY=KEY)
        assert served(url) == "v2"


def test_nothing_happens_when_nothing_has_changed_or_nobody_may_activate(directory: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    assert "v2 is not served yet" in retrain(directory, nowhere)
    (directory / "trained").touch()
    assert "nothing has changed since v2" in retrain(directory, nowhere, RECJPQ_ADMIN_KEY=KEY)


def test_an_activation_that_failed_is_made_by_the_next_run(
    directory: Path, serve: Callable[..., AbstractContextManager[str]]
) -> None:
    retrain(directory, "http://127.0.0.1:9", status=1, RECJPQ_ADMIN_KEY=KEY)
    (directory / "trained").touch()
    with serve(model_path=str(directory / "runs" / "artifacts"), admin_key=KEY) as url:
        activate(url, "v1")  # as a pod that was started before
        retrain(directory, url, RECJPQ_ADMIN_KEY=KEY)
        assert served(url) == "v2"
    assert "nothing has changed since v2" in retrain(directory, "http://127.0.0.1:9", RECJPQ_ADMIN_KEY=KEY)


def test_other_data_are_trained_on_from_the_start(directory: Path) -> None:
    (directory / "other-data").touch()
    assert "v2 is not served yet" in retrain(directory, "http://127.0.0.1:9")


def test_a_model_that_is_refused_is_not_trained_again(directory: Path) -> None:
    (directory / "worse").touch()
    retrain(directory, "http://127.0.0.1:9", status=2)
    assert (directory / "refused").exists()
    assert not (directory / "runs" / "artifacts" / "v2").exists()
