"""Bring docker-compose.yml up and check what it promises, end to end: `python -m deploy.check_compose`.

Needs a container engine, a few gigabytes and some minutes; says so, with status 3, where there is no engine.
It is a compose project of its own, on ports that are free and with keys of its own: what runs from the same
checkout is left alone. Its containers and volumes are gone afterwards, its images stay.
"""

import argparse
import secrets
import sys
from collections.abc import Sequence
from typing import Any

from deploy.stack import DOWN, CheckError, Stack, say, until

SERVICES = ("trainer", "redis", "service", "prometheus", "grafana")
NO_ENGINE = 3
HISTORY = ["50", "172", "174"]  # Star Wars, The Empire Strikes Back, Raiders of the Lost Ark


def main(arguments: Sequence[str] | None = None) -> int:
    """Check; return 0, 1 when a check failed, or 3 where nothing could be checked."""
    options = _parser().parse_args(arguments)
    try:
        stack = Stack([name for name in SERVICES if name not in options.without])
    except CheckError as error:
        say(f"not checked: {error}")
        return NO_ENGINE
    try:
        check(stack)
    except CheckError as error:
        say(f"FAILED: {error}")
        say(stack.compose("logs", "--tail=30"))
        return 1
    finally:
        if options.keep:
            say(f"left running: {stack.urls}, with the key {stack.key}; `{stack.take_down}` ends it")
        else:
            stack.compose(*DOWN)
    say("all as promised")
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


def check(stack: Stack) -> None:
    """Go through everything that is promised; raises CheckError at the first that is not so."""
    stack.up("--build")
    expect("the trainer has finished", stack.inspect("trainer", "{{.State.ExitCode}}"), "0")
    version = stack.get("service", "/model")["version"]
    user = f"check-{secrets.token_hex(4)}"
    check_images(stack)
    check_keys(stack)
    check_recommendations(stack, user)
    check_graphs(stack)
    check_store_failure(stack, user)

    say(stack.compose("down").strip())
    stack.up()
    said = stack.compose("logs", "trainer")
    expect("the second start does not train", "trained before" in said, True)
    expect("the same model is served", stack.get("service", "/model")["version"], version)
    expect("the user's history has outlived the containers", used(stack, user), len(HISTORY) + 1)


def check_images(stack: Stack) -> None:
    """The service has no more than it needs, in its image and in its rights."""
    for service in ("service", "trainer"):
        say(f"   the image of {service}: {stack.size_mb(service):.0f} MB")
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


def check_keys(stack: Stack) -> None:
    """The keys of compose's environment are those of the service."""
    asked = {"history": HISTORY}
    expect("without a key: 401", stack.call("service", "/recommend", asked, key="")[0], 401)
    expect("a caller does not administer", stack.call("service", "/admin/models")[0], 403)
    admin = f"admin-{stack.key}"
    expect("the admin key does", stack.call("service", "/admin/models", key=admin)[0], 200)


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
    say(f"ok {what}")


if __name__ == "__main__":
    sys.exit(main())
