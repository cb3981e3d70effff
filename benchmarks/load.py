"""An open-loop load generator for HTTP: requests leave when a schedule says, whatever the answers do.

A closed loop waits for an answer before it asks again, so a slow server is asked less and its queue is
never seen. Here the times are decided beforehand, and a latency counts from the time at which its request was
*due*: waiting for a free connection, or for a late generator, is part of it.

Linux only: a timer of microseconds (`timerfd`) wakes the loop, for libuv's own are of whole milliseconds. Run
it in a process of its own (`benchmarks.load_process`).
"""

import asyncio
import ctypes
import gc
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import uvloop

Floats = npt.NDArray[np.float64]

HEAD_END = b"\r\n\r\n"
LENGTH, TIMING = b"\ncontent-length:", b"\nserver-timing:"
PENDING = 0
"""The status of a request that has had no answer."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, and when.

    Attributes:
        port: of the server, on this machine.
        requests: whole HTTP/1.1 requests, sent in turn, from the first again after the last.
        due_s: when each is due, seconds from the start, ascending; float64 (R,).
        connections: how many may be open; a request that finds none idle opens one, or waits for one.
        patience_s: how long after the last request is due its answers are waited for.
        expected: what the body of a good answer holds, all of it.
    """

    port: int
    requests: list[bytes]
    due_s: Floats
    connections: int = 256
    patience_s: float = 10.0
    expected: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of a plan's R requests.

    Attributes:
        latency_s: from when each was due to the last byte of its answer; NaN for one without an answer.
        late_s: from when each was due to when it was sent; NaN for one that was not.
        status: HTTP's, or 0; int16 (R,).
        timings: the `Server-Timing` of each answer, empty where there is none.
        unexpected: how many answers of status 200 were not as expected.
        example: one of those, or an answer of another status, for the reader.
        wall_s: from the first request's due time to the last answer.
        cpu_s: processor time of the generator meanwhile.
    """

    latency_s: Floats
    late_s: Floats
    status: npt.NDArray[np.int16]
    timings: list[bytes]
    unexpected: int
    example: bytes
    wall_s: float
    cpu_s: float


def poisson(rate: float, seconds: float, seed: int) -> Floats:
    """Return due times of independent arrivals at `rate` per second."""
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(1 / rate, size=int(rate * seconds * 1.2) + 20))
    return due[due < seconds]


def constant(rate: float, seconds: float) -> Floats:
    """Return due times at equal distances."""
    return np.arange(int(rate * seconds), dtype=np.float64) / rate


def all_at_once(requests: int) -> Floats:
    """Return due times for a closed loop of as many clients as there are connections."""
    return np.zeros(requests)


def run(plan: Plan) -> Answers:
    """Carry a plan out, in this process."""
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection would look like the server's latency
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_Load(plan).run())
    finally:
        gc.enable()
        gc.unfreeze()


class _Load:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        total = len(plan.due_s)
        self.due: list[float] = []
        self.answered_at = [0.0] * total
        self.sent_at = [0.0] * total
        self.status = [PENDING] * total
        self.timings = [b""] * total
        self.next = 0
        self.open = total  # requests without an answer
        self.connections: set[_Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()  # that open one
        self.opening = 0
        self.idle: list[_Connection] = []
        self.unused: list[_Connection] = []  # opened for a request that another took: the next one's
        self.waiting: deque[int] = deque()
        self.unexpected = 0
        self.example = b""
        self.closing = False

    async def run(self) -> Answers:
        loop = asyncio.get_running_loop()
        self.finished = asyncio.Event()
        timer, started, cpu = _Timer(), time.monotonic() + 0.01, time.process_time()
        self.due = (self.plan.due_s + started).tolist()
        loop.add_reader(timer.descriptor, self.send_due, timer)
        timer.set(started)
        patience_s = (self.due[-1] if self.due else started) - time.monotonic() + self.plan.patience_s
        with suppress(TimeoutError):
            await asyncio.wait_for(self.finished.wait(), patience_s)
        loop.remove_reader(timer.descriptor)
        timer.close()
        wall_s, cpu_s = time.monotonic() - started, time.process_time() - cpu
        self.closing = True
        for connection in self.connections:
            connection.transport.abort()
        while self.connections or self.tasks:
            await asyncio.sleep(0)  # they end
        return self.answers(wall_s, cpu_s)

    def answers(self, wall_s: float, cpu_s: float) -> Answers:
        due, status = np.array(self.due), np.array(self.status, dtype=np.int16)
        answered, sent = np.array(self.answered_at), np.array(self.sent_at)
        return Answers(
            np.where(answered > 0, answered - due, np.nan), np.where(sent > 0, sent - due, np.nan), status,
            self.timings, self.unexpected, self.example, wall_s, cpu_s,
        )  # fmt: skip

    def open_one(self) -> None:
        """Open one more connection: only now that it is needed, for a server closes those never used."""
        if len(self.connections) + self.opening < self.plan.connections:
            self.opening += 1
            task = asyncio.get_running_loop().create_task(self.connect())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), "127.0.0.1", self.plan.port
            )
        except OSError:  # a server that is away: the requests it would carry stay without an answer
            self.opening -= 1

    def send_due(self, timer: "_Timer") -> None:
        due, number, now = self.due, self.next, time.monotonic()
        while number < len(due) and due[number] <= now:
            if free := self.unused or self.idle:
                free.pop().send(number)
            else:
                self.waiting.append(number)
                self.open_one()
            number += 1
        self.next = number
        if number < len(due):
            timer.set(due[number])  # which also makes it unreadable until then
        else:
            asyncio.get_running_loop().remove_reader(timer.descriptor)

    def free(self, connection: "_Connection", among: list["_Connection"]) -> None:
        if self.waiting:
            connection.send(self.waiting.popleft())
        else:
            among.append(connection)

    def answered(self, number: int, status: int, timing: bytes, body: bytes) -> None:
        self.answered_at[number] = time.monotonic()
        self.status[number] = status
        self.timings[number] = timing
        if status != 200:
            self.example = self.example or body
        elif not all(part in body for part in self.plan.expected):
            self.unexpected += 1
            self.example = self.example or body
        self.end_one()

    def end_one(self) -> None:
        self.open -= 1
        if not self.open:
            self.finished.set()

    def lost(self, connection: "_Connection", number: int | None) -> None:
        self.connections.discard(connection)
        if self.closing:
            return
        if number is not None:
            self.end_one()
        for free in (self.idle, self.unused):
            if connection in free:
                free.remove(connection)
        if self.waiting:
            self.open_one()


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self, load: _Load) -> None:
        self.load = load
        self.number: int | None = None
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self.load.opening -= 1
        self.load.connections.add(self)
        if self.load.closing:
            self.transport.abort()
        else:
            self.load.free(self, self.load.unused)

    def send(self, number: int) -> None:
        self.number = number
        self.load.sent_at[number] = time.monotonic()
        requests = self.load.plan.requests
        self.transport.write(requests[number % len(requests)])

    def data_received(self, data: bytes) -> None:
        if self.received:
            data = self.received + data
        end = data.find(HEAD_END)
        if end < 0:
            self.received = data
            return
        head = data[:end].lower()
        body_at = end + len(HEAD_END)
        if len(data) < body_at + int(_value(head, LENGTH) or 0):
            self.received = data
            return
        number, self.number, self.received = self.number, None, b""
        if number is None:  # the server tells that it gives an idle connection up
            self.transport.close()
            return
        self.load.answered(number, int(head[9:12]), _value(head, TIMING), data[body_at:])
        if b"\nconnection: close" in head:
            self.transport.close()  # and, once that is done, another is opened if one is waited for
        else:
            self.load.free(self, self.load.idle)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self.load.lost(self, self.number)


def _value(head: bytes, name: bytes) -> bytes:
    at = head.find(name)
    if at < 0:
        return b""
    end = head.find(b"\r", at)
    return head[at + len(name) : end if end >= 0 else len(head)].strip()


class _Timer:
    """A `timerfd`, set to times of `time.monotonic`; see timerfd_create(2)."""

    _ABSOLUTE, _NONBLOCK = 1, os.O_NONBLOCK

    def __init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self.descriptor = library.timerfd_create(time.CLOCK_MONOTONIC, self._NONBLOCK)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = (ctypes.c_long * 4)()  # interval and value, each seconds and nanoseconds
        self._settime: Callable[..., int] = library.timerfd_settime

    def set(self, at_s: float) -> None:
        """Become readable at a time; at once if it has passed."""
        seconds, fraction = divmod(at_s, 1)
        self._spec[2], self._spec[3] = int(seconds), max(1, int(fraction * 1e9))
        if self._settime(self.descriptor, self._ABSOLUTE, self._spec, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)
