"""The k6 script, run by node with stand-ins for k6's modules, against a real service."""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from service.timings import STAGES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NODE, CURL = shutil.which("node"), shutil.which("curl")
ITERATIONS = 20
USERS = 4
ENVIRONMENT = {"RATE": "300", "EVENTS": "0.3", "K": "3", "HISTORY": "5", "USERS": str(USERS)}

pytestmark = pytest.mark.skipif(not (NODE and CURL), reason="node or curl is not installed")


@pytest.fixture(scope="module")
def ran(serve: Callable[..., AbstractContextManager[str]]) -> dict[str, Any]:
    script = ROOT / "deploy" / "loadtest" / "recommend.js"
    command = [str(NODE), str(HERE / "k6_stub.mjs"), str(script), str(ITERATIONS)]
    with serve() as url:
        environment = os.environ | ENVIRONMENT | {"URL": url}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        stored = [stored_of(url, f"{json.loads(done.stdout)['run']}-{i}") for i in range(USERS)]
    result: dict[str, Any] = json.loads(done.stdout)
    return result | {"stored": stored}


def stored_of(url: str, user: str) -> int:
    with urllib.request.urlopen(f"{url}/users/{user}/events") as answer:
        return len(json.load(answer)["events"])


def test_arrivals_do_not_wait_for_answers(ran: dict[str, Any]) -> None:
    (scenario,) = ran["options"]["scenarios"].values()
    assert scenario["executor"] == "constant-arrival-rate"
    assert (scenario["rate"], scenario["timeUnit"]) == (300, "1s")
    assert "dropped_iterations" in ran["options"]["thresholds"]


def test_every_request_is_one_that_the_service_takes(ran: dict[str, Any]) -> None:
    assert ran["recorded"]["checks"] == [True] * ITERATIONS
    sent = [request for request in ran["recorded"]["requests"] if "name" in request]
    assert {request["name"] for request in sent} == {"recommend", "events", "forget"}
    assert len(ran["items"]) == len(set(ran["items"])) > 0


def test_users_who_got_events_are_forgotten_and_are_no_other_runs(ran: dict[str, Any]) -> None:
    requests = ran["recorded"]["requests"]
    named = {r["body"]["user_id"] for r in requests if "user_id" in r.get("body", {})}
    assert named
    assert all(user.startswith(f"{ran['run']}-") for user in named)
    forgotten = [r for r in requests if r.get("name") == "forget"]
    assert [r["status"] for r in forgotten] == [204] * USERS
    assert ran["stored"] == [0] * USERS


def test_stages_are_read_from_server_timing(ran: dict[str, Any]) -> None:
    samples = ran["recorded"]["samples"]
    assert set(samples) == {f"stage_{stage}" for stage in STAGES}
    assert all(samples[f"stage_{stage}"] for stage in ("store", "encode", "score", "respond"))


def test_the_summary_has_the_percentiles_of_each_stage_and_what_failed(ran: dict[str, Any]) -> None:
    lines = ran["summary"].splitlines()
    assert lines[0].startswith("asked for 300 requests a second, sent 10.0, dropped 0")
    assert lines[1].split() == ["milliseconds", "median", "p90", "p99", "p99.9", "longest", "count"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:-1]}
    assert rows["recommend"] == ["2.00", "3.00", "3.00", "3.00", "3.00", "3"]
    assert set(STAGES) < set(rows)
    assert len(rows["encode"]) == 6
    assert lines[-1] == "http_req_failed{scenario:open_loop}: not rate<0.001"
