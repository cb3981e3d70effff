"""The containers of docker-compose.yml, as a project beside one that may run from the same checkout."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT = "recjpq-check"
PORTS = ("service", "prometheus", "grafana")
DOWN = ("down", "--volumes", "--remove-orphans")
DEADLINE_S = 900.0
ATTEMPT_S = 1.0


class CheckError(Exception):
    """Something is not as promised."""


class Stack:
    """The project's containers, and the ports that they publish."""

    def __init__(self, services: Sequence[str]) -> None:
        self.services = services
        self._environment: Mapping[str, str] = os.environ
        if not shutil.which("docker"):
            raise CheckError("there is no docker on this machine")
        if self._run("docker", "info").returncode:
            raise CheckError("no container engine answers `docker info`")
        plugin = ("docker", "compose")
        program = plugin if not self._run(*plugin, "version").returncode else ("docker-compose",)
        if not shutil.which(program[0]):
            raise CheckError("there is neither `docker compose` nor docker-compose")
        self._compose = (*program, "--project-name", PROJECT)
        ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        self.key = secrets.token_hex(16)
        self._environment = _environment(ports, self.key)
        if self.compose("ps", "--quiet").strip():
            raise CheckError(f"a check runs, or one was left running; `{self.take_down}` ends it")

    @property
    def take_down(self) -> str:
        """The command that ends what a check left running."""
        return " ".join((*self._compose, *DOWN))

    def compose(self, *arguments: str) -> str:
        """Run a command of compose; return what it printed."""
        return self._checked(*self._compose, *arguments)

    def up(self, *flags: str) -> None:
        """Start the services, and wait until requests are answered."""
        say(self.compose("up", "--detach", *flags, *self.services).strip())
        until("the service is ready", lambda: self.get("service", "/readyz"))

    def inspect(self, service: str, template: str) -> str:
        """Return what the engine knows of a service's container."""
        container = self.compose("ps", "--all", "--quiet", service).strip()
        return self._checked("docker", "inspect", "--format", template, container).strip()

    def size_mb(self, service: str) -> float:
        """Return the size of a service's image in megabytes."""
        image = self.inspect(service, "{{.Image}}")
        return int(self._checked("docker", "image", "inspect", "--format", "{{.Size}}", image)) / 1e6

    def inside(self, service: str, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in a service's container."""
        return self._run(*self._compose, "exec", "-T", service, *command)

    def get(self, service: str, path: str) -> Any:
        """Return a JSON answer; raises CheckError for any status but 200."""
        status, answer = self.call(service, path)
        if status != 200:
            raise CheckError(f"GET {service}{path}: status {status}, {answer}")
        return answer

    def call(self, service: str, path: str, body: object = None, key: str | None = None) -> tuple[int, Any]:
        """Return status and answer of a GET, or of a POST if there is a body; an empty key is none."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if service == "service" and (key := self.key if key is None else key):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.urls[service] + path, data, headers)  # noqa: S310  # http, here
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            raise CheckError(f"{request.full_url}: {error}") from error

    def query(self, expression: str) -> list[Any]:
        """Return what Prometheus answers to an expression."""
        path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        result: list[Any] = self.get("prometheus", path)["data"]["result"]
        return result

    def _checked(self, *command: str) -> str:
        ran = self._run(*command)
        if ran.returncode:
            raise CheckError(f"{' '.join(command)}: status {ran.returncode}\n{ran.stdout}{ran.stderr}")
        return ran.stdout

    def _run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(  # noqa: S603
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False
        )


def _environment(ports: Mapping[str, int], key: str) -> dict[str, str]:
    """Return the environment of compose: what is set here wins over the checkout's .env."""
    return {
        **os.environ,
        **{f"{name.upper()}_PORT": str(port) for name, port in ports.items()},
        "RECJPQ_API_KEYS": key,
        "RECJPQ_ADMIN_KEY": f"admin-{key}",
        "RECJPQ_MODEL_PATH": "/app/runs/demo/artifacts",
        "TRAIN_CONFIG": "configs/demo.toml",
        # docker-compose 1 would else build every stage, also those of the other images.
        "DOCKER_BUILDKIT": "1",
        "COMPOSE_DOCKER_CLI_BUILD": "1",
    }


def _free_ports(count: int) -> list[int]:
    """Return ports of this machine that nothing listens at."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in found]


def until(what: str, attempt: Callable[[], object]) -> None:
    """Repeat an attempt until it raises no CheckError; the last one is raised after a quarter of an hour."""
    started = time.monotonic()
    while True:
        try:
            attempt()
        except CheckError as error:
            if time.monotonic() - started > DEADLINE_S:
                raise CheckError(f"{what}: {error}, for {DEADLINE_S:.0f} s") from error
            time.sleep(ATTEMPT_S)
        else:
            say(f"ok {what} ({time.monotonic() - started:.0f} s)")
            return


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
