"""Bring docker-compose.yml up and check what it promises, end to end: `python -m deploy.check_compose`.

Needs a container engine, a few gigabytes and some minutes; says so, with status 3, where there is no engine.
Volumes are kept: run it twice, and the second run checks the case of an artifact that is there already.
"""

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SERVICES = ("trainer", "redis", "service", "prometheus", "grafana")
NO_ENGINE = 3
HISTORY = ["50", "172", "174"]  # Star Wars, The Empire Strikes Back, Raiders of the Lost Ark
DEADLINE_S = 900.0
ATTEMPT_S = 1.0


class CheckError(Exception):
    """Something is not as promised."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check; return 0, 1 when a check failed, or 3 where nothing could be checked."""
    options = _parser().parse_args(arguments)
    try:
        stack = Stack([name for name in SERVICES if name not in options.without])
    except CheckError as error:
        _say(f"not checked: {error}")
        return NO_ENGINE
    try:
        check(stack)
    except CheckError as error:
        _say(f"FAILED: {error}")
        _say(stack.compose("logs", "--tail=30"))
        return 1
    finally:
        if not options.keep:
            stack.compose("down")
    _say("all as promised")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.check_compose", description=__doc__)
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=SERVICES[-2:],
        help="a service whose image cannot be had; may be repeated",
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    return parser


class Stack:
    """The project's containers, and the ports that they publish."""

    def __init__(self, services: Sequence[str]) -> None:
        self.services = services
        if not shutil.which("docker"):
            raise CheckError("there is no docker on this machine")
        if self._run("docker", "info").returncode:
            raise CheckError("no container engine answers `docker info`")
        plugin = ("docker", "compose")
        self._compose = plugin if not self._run(*plugin, "version").returncode else ("docker-compose",)
        if not shutil.which(self._compose[0]):
            raise CheckError("there is neither `docker compose` nor docker-compose")
        self.urls = {
            name: f"http://127.0.0.1:{os.environ.get(f'{name.upper()}_PORT', port)}"
            for name, port in {"service": 8000, "prometheus": 9090, "grafana": 3000}.items()
        }

    def compose(self, *arguments: str) -> str:
        """Run a command of compose; return what it printed."""
        return self._checked(*self._compose, *arguments)

    def up(self, *flags: str) -> None:
        """Start the services, and wait until requests are answered."""
        _say(self.compose("up", "--detach", *flags, *self.services).strip())
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

    def call(self, service: str, path: str, body: object = None) -> tuple[int, Any]:
        """Return status and answer of a GET, or of a POST if there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310  # http, to this machine
            self.urls[service] + path, data, headers={"Content-Type": "application/json"}
        )
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

    @staticmethod
    def _run(*command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603


def check(stack: Stack) -> None:
    """Go through everything that is promised; raises CheckError at the first that is not so."""
    stack.up("--build")
    expect("the trainer has finished", stack.inspect("trainer", "{{.State.ExitCode}}"), "0")
    version = stack.get("service", "/model")["version"]
    user = f"check-{secrets.token_hex(4)}"
    check_images(stack)
    check_recommendations(stack, user)
    check_graphs(stack)
    check_store_failure(stack, user)

    _say(stack.compose("down").strip())
    stack.up()
    said = stack.compose("logs", "trainer")
    expect("the second start does not train", "trained before" in said, True)
    expect("the same model is served", stack.get("service", "/model")["version"], version)
    expect("the user's history has outlived the containers", used(stack, user), len(HISTORY) + 1)


def check_images(stack: Stack) -> None:
    """The service has no more than it needs, in its image and in its rights."""
    for service in ("service", "trainer"):
        _say(f"   the image of {service}: {stack.size_mb(service):.0f} MB")
    expect("not root", stack.inside("service", "id", "-u").stdout.strip(), "10001")
    expect(
        "no writing to the root file system", stack.inside("service", "touch", "/app/x").returncode != 0, True
    )
    for what, command in {
        "no PyTorch": ("python", "-c", "import torch"),
        "no training code": ("python", "-c", "import training"),
        "no pip": ("/opt/venv/bin/python", "-m", "pip", "--version"),
        "no compiler": ("sh", "-c", "command -v cc gcc g++ c++"),
    }.items():
        expect(what, stack.inside("service", *command).returncode != 0, True)


def check_recommendations(stack: Stack, user: str) -> None:
    """A history that was sent as events is kept in Redis, and recommended from."""
    expect("events are stored", append(stack, user, *HISTORY), (200, len(HISTORY)))
    status, answer = recommend(stack, user)
    expect("a recommendation comes by the model", (status, answer["strategy"]), (200, "model"))
    expect("ten of them", len(answer["items"]), 10)
    expect("from the stored history", answer["history"]["source"], "store")
    keys = stack.inside("redis", "redis-cli", "--scan", "--pattern", f"*{user}*").stdout.split()
    expect("the history is one key in the Redis container", len(keys), 1)
    expect("nothing is degraded", answer["degraded"], [])


def check_graphs(stack: Stack) -> None:
    """Prometheus scrapes the service and knows the rules; Grafana shows its dashboard."""
    until("Prometheus shows the target up", lambda: one(stack.query('up{job="recjpq"} == 1')))
    until(
        "the recommendation is counted",
        lambda: one(stack.query('recjpq_recommendations_total{strategy="model", variant="champion"} > 0')),
    )
    until("rules are evaluated", lambda: one(stack.query("job:recjpq_served_requests:rate5m")))
    groups = stack.get("prometheus", "/api/v1/rules?type=alert")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    expect("alerts are loaded, each healthy", {rule["health"] for rule in rules}, {"ok"})
    if "grafana" in stack.services:
        until("Grafana has the dashboard", lambda: stack.get("grafana", "/api/dashboards/uid/recjpq"))
        asked = {"refId": "A", "datasource": {"uid": "prometheus"}, "expr": "up", "instant": True}
        body = {"queries": [asked], "from": "now-5m", "to": "now"}
        expect("Grafana reaches Prometheus", stack.call("grafana", "/api/ds/query", body)[0], 200)


def check_store_failure(stack: Stack, user: str) -> None:
    """Without Redis, answers are poorer and say so, and nothing is acknowledged; with it, all is well."""
    started = stack.inspect("service", "{{.State.StartedAt}}")
    stack.compose("stop", "redis")
    status, answer = recommend(stack, user)
    expect("without Redis: 200", status, 200)
    expect("without Redis: it says so", answer["degraded"], ["store_unavailable"])
    expect("without Redis: popular items", (answer["strategy"], len(answer["items"])), ("popular", 10))
    _, answer = stack.call("service", "/recommend", {"user_id": user, "history": HISTORY})
    expect("without Redis: a request's own history is used", answer["strategy"], "model")
    expect("without Redis: no event is acknowledged", append(stack, user, "98")[0], 503)
    expect("without Redis: ready all the same", stack.call("service", "/readyz")[0], 200)
    until("Prometheus sees it", lambda: one(stack.query("recjpq_store_up == 0")))
    stack.compose("start", "redis")
    until("with Redis again: nothing is degraded", lambda: healed(stack, user))
    expect("with Redis again: the history is as it was", used(stack, user), len(HISTORY))
    expect("with Redis again: events are stored", append(stack, user, "98"), (200, 1))
    expect("the service was not restarted", stack.inspect("service", "{{.State.StartedAt}}"), started)


def append(stack: Stack, user: str, *item_ids: str) -> tuple[int, int | None]:
    """Append events; return the status, and how many were stored."""
    events = [{"item_id": item_id} for item_id in item_ids]
    status, answer = stack.call("service", f"/users/{user}/events", {"events": events})
    return status, answer["stored"] if status == 200 else None


def recommend(stack: Stack, user: str) -> tuple[int, Any]:
    """Return status and answer of a recommendation from a user's stored history."""
    return stack.call("service", "/recommend", {"user_id": user, "k": 10})


def used(stack: Stack, user: str) -> int:
    """Return how many items of the stored history the model saw."""
    count: int = recommend(stack, user)[1]["history"]["used"]
    return count


def healed(stack: Stack, user: str) -> None:
    """Raise CheckError while recommendations are degraded."""
    if degraded := recommend(stack, user)[1]["degraded"]:
        raise CheckError(f"found degraded {degraded}, expected none")


def one(found: list[Any]) -> None:
    """Raise CheckError unless something was found."""
    if not found:
        raise CheckError("found no series")


def expect(what: str, found: object, expected: object) -> None:
    """Raise CheckError unless what was found is what was expected."""
    if found != expected:
        raise CheckError(f"{what}: found {found!r}, expected {expected!r}")
    _say(f"ok {what}")


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
            _say(f"ok {what} ({time.monotonic() - started:.0f} s)")
            return


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
