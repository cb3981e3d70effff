"""What users ask: half of the requests name a user whose history is stored, half bring their own."""

import json
from dataclasses import dataclass

import numpy as np

from benchmarks import load
from benchmarks.load_process import post
from benchmarks.service_data import Histories, item_ids

EXPECTED = (b'"strategy":"model"', b'"degraded":[]', b'"exhausted":false')


@dataclass(frozen=True, slots=True)
class Traffic:
    """Whole HTTP requests.

    Attributes:
        appends: one for each user, to be sent once.
        requests: of `/recommend`, to be sent in turn.
    """

    appends: list[bytes]
    requests: list[bytes]


def make_traffic(
    histories: Histories, requests: int, *, k: int = 10, stored: float = 0.5, seed: int = 0
) -> Traffic:
    """Return requests of users drawn at random; a share `stored` of them by name."""
    rng = np.random.default_rng([seed, requests])
    ids = [item_ids(history) for history in histories]
    appends = [
        post(f"/users/user-{user}/events", _json({"events": [{"item_id": item} for item in items]}))
        for user, items in enumerate(ids)
    ]
    bodies: list[dict[str, object]] = [
        {"user_id": f"user-{user}", "k": k} if by_name else {"history": ids[user], "k": k}
        for user, by_name in zip(
            rng.integers(0, len(ids), size=requests).tolist(), rng.random(requests) < stored, strict=True
        )
    ]
    return Traffic(appends, [post("/recommend", _json(body)) for body in bodies])


def fill_store(port: int, traffic: Traffic) -> load.Plan:
    """Return the plan that stores every user's history, as fast as a few clients do it."""
    return load.Plan(
        port, traffic.appends, load.all_at_once(len(traffic.appends)), connections=8, patience_s=300,
        expected=(b'"unknown":0',),
    )  # fmt: skip


def _json(body: dict[str, object]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
