"""Several processes that serve on one port, under a supervisor that serves nothing itself.

The first worker goes ahead: if it cannot start, none can, and the whole ends with its status. Later a
worker that dies is started again, at once or, if it keeps dying, after ever longer waits; the others go on.

uvicorn's own supervisor starts a dying worker again without end or wait, has no place to clean up after
one, loses the exit status, and leaves its workers running when it is killed.

A worker ends by itself when the supervisor is gone (see `server.work`). SIGINT is blocked in workers: a
terminal sends it to all, and it is for the supervisor to say when they end.
"""

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from time import monotonic

from prometheus_client.multiprocess import mark_process_dead

from service.process.listen import let_nobody_in
from service.settings import Settings

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Prometheus-client's variable: the directory of the workers' values, read when it is imported."""

_STABLE_S = 10.0
"""A worker that served for so long is started again at once."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 30.0
_GRACE_S = 10.0
"""How much longer than its settings allow a worker may take to end before it is killed."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Worker:
    slot: int
    process: SpawnProcess
    ready: Connection
    ready_at: float | None = None


class Supervisor:
    """Keeps as many workers as the settings say until it is told to stop."""

    def __init__(self, settings: Settings, listeners: Sequence[socket.socket], values: Path) -> None:
        self._settings = settings
        self._listeners = list(listeners)
        self._values = values
        self._workers: list[_Worker] = []
        self._due = {0: 0.0}  # when to start the worker of a slot
        self._deaths = dict.fromkeys(range(settings.workers), 0)  # in a row, each soon after its start
        self._signals: list[int] = []
        self._served = False
        self._stopping = False
        self._close_at = self._kill_at = float("inf")
        self._status = 0

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT; return the exit status, 0 if all ended well."""
        with self._signals_caught() as wakeup:
            while self._workers or self._due:
                self._start_due()
                for event in wait(self._awaited(wakeup), self._wait_s()):
                    self._handle(event, wakeup)
                self._obey()
        return self._status

    def _start_due(self) -> None:
        for slot in [slot for slot, due in self._due.items() if due <= monotonic()]:
            del self._due[slot]
            self._start(slot)

    def _start(self, slot: int) -> None:
        context = multiprocessing.get_context("spawn")
        ready, told = context.Pipe(duplex=False)
        process = context.Process(
            target=_work, args=(self._settings, slot, self._listeners, told), name=f"worker-{slot}"
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        told.close()
        self._workers.append(_Worker(slot, process, ready))

    def _awaited(self, wakeup: socket.socket) -> list[int | Connection | socket.socket]:
        starting = [worker.ready for worker in self._workers if worker.ready_at is None]
        return [wakeup, *starting, *(worker.process.sentinel for worker in self._workers)]

    def _wait_s(self) -> float | None:
        next_at = min([self._close_at, self._kill_at, *self._due.values()])
        return None if next_at == float("inf") else max(0.0, next_at - monotonic())

    def _handle(self, event: object, wakeup: socket.socket) -> None:
        if event is wakeup:
            wakeup.recv(64)
            return
        for worker in list(self._workers):
            if event == worker.process.sentinel:
                self._ended(worker)
            elif event is worker.ready and worker.ready_at is None:
                self._said_ready(worker)

    def _said_ready(self, worker: _Worker) -> None:
        try:
            worker.ready.recv()
        except EOFError:  # it died; its sentinel says so too
            worker.ready_at = monotonic()
            return
        worker.ready_at = monotonic()
        if not self._served:
            self._served = True
            self._due.update(dict.fromkeys(range(1, self._settings.workers), 0.0))

    def _ended(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.join()
        worker.ready.close()
        mark_process_dead(worker.slot, str(self._values))
        status = worker.process.exitcode
        if self._stopping:
            # SIGTERM's own end: it had not come so far as to handle it.
            self._status = self._status or int(status not in (0, -signal.SIGTERM))
        elif not self._served:
            self._status = status if status and status > 0 else 1
            self._stop()
        else:
            self._due[worker.slot] = monotonic() + self._wait_before_restart(worker)

    def _wait_before_restart(self, worker: _Worker) -> float:
        served_s = monotonic() - (worker.ready_at or monotonic())
        deaths = 0 if served_s >= _STABLE_S else self._deaths[worker.slot] + 1
        self._deaths[worker.slot] = deaths
        wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**deaths) if deaths else 0.0
        fields = {
            "worker": worker.slot,
            "worker_pid": worker.process.pid,
            "exit_status": worker.process.exitcode,
            "restart_in_s": wait_s,
        }
        _log.error("a worker ended", extra=fields)
        return wait_s

    def _obey(self) -> None:
        """Do what signals and the clock ask for: end all; on a second SIGINT, or too late, at once."""
        if self._signals and not self._stopping:
            self._stop()
        if monotonic() >= self._close_at:
            self._close()
        if self._signals.count(signal.SIGINT) > 1 or monotonic() >= self._kill_at:
            for worker in self._workers:
                _log.error(
                    "killing a worker", extra={"worker": worker.slot, "worker_pid": worker.process.pid}
                )
                worker.process.kill()
            self._kill_at = float("inf")

    def _stop(self) -> None:
        self._stopping = True
        self._due.clear()
        for worker in self._workers:
            worker.process.terminate()
        self._close_at = monotonic() + self._settings.drain_s
        self._kill_at = self._close_at + self._settings.shutdown_timeout_s + _GRACE_S

    def _close(self) -> None:
        """Let nobody in any more; the workers, which have drained by now, accept who is waiting.

        Not for them to do: one that ends alone must not close the others' port.
        """
        self._close_at = float("inf")
        let_nobody_in(self._listeners)
        for listener in self._listeners:
            listener.close()

    @contextmanager
    def _signals_caught(self) -> Iterator[socket.socket]:
        """Note signals; the socket that this yields becomes readable with each."""
        awake, wake = socket.socketpair()
        with closing(awake), closing(wake):
            wake.setblocking(False)
            old_fd = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
            caught = (signal.SIGTERM, signal.SIGINT)
            old = {number: signal.signal(number, lambda n, _: self._signals.append(n)) for number in caught}
            try:
                yield awake
            finally:
                for number, handler in old.items():
                    signal.signal(number, handler)
                signal.set_wakeup_fd(old_fd)


def supervise(settings: Settings, listeners: Sequence[socket.socket]) -> int:
    """Serve in several processes until a signal; return the exit status."""
    memory = Path("/dev/shm")  # noqa: S108  # values change with each request: no disk should write them
    directory = tempfile.mkdtemp(prefix="recjpq-", dir=memory if os.access(memory, os.W_OK) else None)
    os.environ[DIRECTORY_VARIABLE] = directory  # for the workers' imports
    try:
        return Supervisor(settings, listeners, Path(directory)).run()
    finally:
        for listener in listeners:
            listener.close()
        shutil.rmtree(directory, ignore_errors=True)


def _work(settings: Settings, slot: int, listeners: Sequence[socket.socket], ready: Connection) -> None:
    from service.process.server import work  # noqa: PLC0415  # in the worker only: it needs 50 MB

    work(settings, slot, listeners, ready)
