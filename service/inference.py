"""Encoding and scoring off the event loop: micro-batches, a bound on what may wait, nothing done in vain.

A batch is whatever waited while the last one ran, up to a bound on its work. There is no timer: a request
that finds a thread idle starts at once.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import perf_counter

import numpy as np
import numpy.typing as npt

from recjpq.attributes import Filters
from recjpq.errors import ScoringError
from recjpq.scoring import ItemIndices, ScoreTables, TopK
from service.errors import ClientGoneError, DeadlineError, OverloadedError
from service.explanation import Contributions, above_mean, newest_distinct
from service.model import Model
from service.popular import popular_among
from service.timings import Timings

CALL_POSITIONS = 25
"""What a call of the encoder costs by itself, in positions (docs/log.md): no batch pads more to save one."""
ROW_POSITIONS = 8
"""What scoring and the overhead of a row weigh in the bounds on work, in positions of a history."""

ObserveBatch = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One history to encode and score; see `Scorer.top_k`.

    Attributes:
        model: which model answers.
        history: item indices, oldest first; with none the most popular of the eligible items are the result.
        k: how many items.
        exclude: items never to return.
        candidates: the only items to consider, or None for all.
        filters: what the items' attributes must be, or None.
        explained: how many of the newest distinct items of the history to explain the result by; 0: none.
    """

    model: Model
    history: ItemIndices
    k: int
    exclude: ItemIndices
    candidates: ItemIndices | None = None
    filters: Filters | None = None
    explained: int = 0

    @property
    def positions(self) -> int:
        """Its work: positions to encode, with what a row costs besides."""
        return (len(self.history) + ROW_POSITIONS) * (1 + min(self.explained, len(self.history)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job's result; `contributions` is there if the job asked for it."""

    best: TopK
    contributions: Contributions | None = None


@dataclass(slots=True, eq=False)
class _Ticket:
    """Jobs that came together and are answered together."""

    jobs: Sequence[Job]
    timings: Timings
    deadline: float | None
    done: asyncio.Future[list[Outcome]]
    loop: asyncio.AbstractEventLoop
    positions: int
    queued: float = field(default_factory=perf_counter)

    def is_wanted(self, now: float) -> bool:
        """Say whether somebody still waits for the result; from any thread."""
        return not self.done.done() and (self.deadline is None or now <= self.deadline)

    def check(self) -> None:
        """Raise DeadlineError if nobody waits any more: what is left of the work would be done in vain."""
        if not self.is_wanted(perf_counter()):
            raise DeadlineError("nobody waits for the result any more")

    def finish(self, outcomes: list[Outcome]) -> None:
        """Hand the result over from a worker's thread."""
        self._hand_over(lambda: self.done.set_result(outcomes))

    def fail(self, error: Exception) -> None:
        """Hand an error over from a worker's thread."""
        self._hand_over(lambda: self.done.set_exception(error))

    def expire(self) -> None:
        """End the wait, on the event loop, because the deadline has passed."""
        if not self.done.done():
            self.done.set_exception(DeadlineError("the deadline passed"))

    async def abandon_after(self, client_gone: Callable[[], Awaitable[None]]) -> None:
        """End the wait when the client has left."""
        await client_gone()
        if not self.done.done():
            self.done.set_exception(ClientGoneError("the client left while its request waited"))

    def _hand_over(self, answer: Callable[[], None]) -> None:
        def unless_done() -> None:
            if not self.done.done():
                answer()

        with suppress(RuntimeError):  # the event loop has ended, and with it whoever waited
            self.loop.call_soon_threadsafe(unless_done)


class InferencePool:
    """Threads that run models; ONNX Runtime and the scorer release the GIL.

    One for each process, whatever number of models it serves: a job holds on to its model, so that a
    model can be replaced while its jobs wait.

    Attributes:
        queue_positions: bound on the work that waits, see `Job.positions`; may be changed.
    """

    def __init__(
        self, *, workers: int, queue_positions: int, batch_positions: int, observe_batch: ObserveBatch
    ) -> None:
        """Start the threads.

        Args:
            workers: how many.
            queue_positions: as the attribute; a ticket larger than that is taken when nothing waits.
            batch_positions: bound on the padded positions of one encoder call; at least one history.
            observe_batch: told the number of histories of each encoder call, from a worker's thread.
        """
        self._workers = workers
        self.queue_positions = queue_positions
        self._batch_positions = batch_positions
        self._observe_batch = observe_batch
        self._accepted = 0  # tickets not yet answered; touched by the event loop only
        self._lock = threading.Lock()  # for what follows, which workers change too
        self._idle = 0
        self._waiting = 0
        self._waiting_positions = 0
        self._queue: SimpleQueue[_Ticket | None] = SimpleQueue()
        # Daemons: a process that ends without `close`, because it failed, must not wait for them.
        self._threads = [
            threading.Thread(target=self._work, name=f"inference-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many accepted jobs no worker has taken yet."""
        return self._waiting

    async def run(
        self,
        jobs: Sequence[Job],
        timings: Timings,
        deadline: float | None = None,
        client_gone: Callable[[], Awaitable[None]] | None = None,
    ) -> list[Outcome]:
        """Return the jobs' results, and record the stages queue, encode and score.

        Args:
            jobs: at least one.
            timings: of their request.
            deadline: on `perf_counter`'s clock; no call of the encoder or the scorer begins after it.
            client_gone: returns when nobody waits for the answer any more; asked only if there is a wait.

        Raises:
            OverloadedError: as much waits as may; nothing was queued.
            DeadlineError, ClientGoneError: it happened first.
        """
        loop = asyncio.get_running_loop()
        positions = sum(job.positions for job in jobs)
        ticket = _Ticket(jobs, timings, deadline, loop.create_future(), loop, positions)
        starts_at_once = self._accept(positions)
        self._queue.put(ticket)
        self._accepted += 1
        timer = None if deadline is None else loop.call_later(deadline - perf_counter(), ticket.expire)
        watcher = None
        if client_gone is not None and not starts_at_once:
            watcher = loop.create_task(ticket.abandon_after(client_gone))
        try:
            return await ticket.done
        finally:
            self._accepted -= 1
            if timer is not None:
                timer.cancel()
            if watcher is not None:
                watcher.cancel()

    def close(self) -> None:
        """Wait for the jobs that were accepted, and end the threads."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _accept(self, positions: int) -> bool:
        """Count a ticket as waiting, or refuse it; say whether a worker is free to begin it."""
        with self._lock:
            free = self._accepted < self._workers and self._waiting < self._workers
            fits = self._waiting_positions + positions <= self.queue_positions
            if not free and not (fits or (self.queue_positions and not self._waiting)):
                raise OverloadedError(f"{self._waiting} requests are waiting")
            self._waiting += 1
            self._waiting_positions += positions
        return free

    def _work(self) -> None:
        ends = False
        while not ends:
            tickets, ends = self._take()
            if tickets:
                self._serve(tickets)
            del tickets  # with them their models, which may be replaced while this thread waits

    def _take(self) -> tuple[list[_Ticket], bool]:
        """Wait for a ticket and take what else waits, up to one batch, unless another worker is idle."""
        tickets: list[_Ticket] = []
        positions, ends = 0, False
        with self._lock:
            self._idle += 1
        ticket = self._queue.get()
        with self._lock:
            self._idle -= 1
        while True:
            if ticket is None:
                ends = True
                break
            tickets.append(ticket)
            positions += ticket.positions
            if self._idle or positions >= self._batch_positions:
                break
            try:
                ticket = self._queue.get_nowait()
            except Empty:
                break
        with self._lock:
            self._waiting -= len(tickets)
            self._waiting_positions -= sum(ticket.positions for ticket in tickets)
        return tickets, ends

    def _serve(self, tickets: list[_Ticket]) -> None:
        now = perf_counter()
        alive = []
        for ticket in tickets:
            ticket.timings.started["queue"] = ticket.queued
            ticket.timings.seconds["queue"] = now - ticket.queued
            if ticket.is_wanted(now):
                alive.append(ticket)
        tables = self._encode(alive)
        for ticket in alive:
            ticket.timings.started["encode"] = now
            ticket.timings.seconds["encode"] = perf_counter() - now
        for ticket in alive:
            if not ticket.is_wanted(perf_counter()):
                continue
            try:
                with ticket.timings.measure("score"):
                    outcomes = [self._outcome(ticket, job, tables.get(id(job))) for job in ticket.jobs]
            except Exception as error:  # whatever it is, who waits must hear of it
                ticket.fail(error)
            else:
                ticket.finish(outcomes)

    def _encode(self, tickets: list[_Ticket]) -> dict[int, ScoreTables | Exception]:
        """Return by each job's identity its score table (1, M, V), or why its batch has none."""
        jobs = [job for ticket in tickets for job in ticket.jobs if len(job.history)]
        tables: dict[int, ScoreTables | Exception] = {}
        for planned in _batches(sorted(jobs, key=_by_model_and_length), self._batch_positions):
            now = perf_counter()
            wanted = {id(job) for ticket in tickets if ticket.is_wanted(now) for job in ticket.jobs}
            batch = [job for job in planned if id(job) in wanted]
            if not batch:
                continue
            try:
                encoded = self._encode_histories(batch[0].model, [job.history for job in batch])
            except Exception as error:  # those of other batches have done nothing wrong
                tables |= {id(job): error for job in batch}
            else:
                tables |= {id(job): encoded[row : row + 1] for row, job in enumerate(batch)}
        return tables

    def _encode_histories(self, model: Model, histories: Sequence[ItemIndices]) -> ScoreTables:
        lengths = np.array([len(history) for history in histories], dtype=np.int64)
        indices = np.zeros((len(histories), lengths.max()), dtype=np.int32)
        for row, history in enumerate(histories):
            indices[row, : len(history)] = history
        self._observe_batch(len(histories))
        on_gpu = model.scorer.backend == "cuda"
        encode = model.encoder.encode_in_place if on_gpu else model.encoder.encode
        return encode(model.catalogue.item_codes[indices], lengths)

    def _outcome(self, ticket: _Ticket, job: Job, tables: ScoreTables | Exception | None) -> Outcome:
        ticket.check()  # who is wanted here was so while encoding: without a table there is no history
        if tables is None:
            catalogue = job.model.catalogue
            return Outcome(popular_among(catalogue, job.k, job.exclude, job.candidates, job.filters))
        if isinstance(tables, Exception):
            raise tables
        return self._score(ticket, job, tables)

    def _score(self, ticket: _Ticket, job: Job, tables: ScoreTables) -> Outcome:
        best = _top_k(job, tables)
        if not job.explained:
            return Outcome(best)
        distinct = newest_distinct(job.history, job.explained)
        without = [job.history[job.history != item] for item in distinct]
        scores = np.zeros((len(distinct), len(best.ids)), dtype=np.float32)
        whole = above_mean(job.model, tables, best.ids)[0]
        left = [row for row, history in enumerate(without) if len(history)]
        width = max(1, self._batch_positions // len(job.history))
        for start in range(0, len(left), width):
            ticket.check()
            rows = left[start : start + width]
            encoded = self._encode_histories(job.model, [without[row] for row in rows])
            scores[rows] = above_mean(job.model, encoded, best.ids)
        return Outcome(best, Contributions(distinct, (whole - scores).T))


def _by_model_and_length(job: Job) -> tuple[int, int]:
    return id(job.model), len(job.history)


def _batches(jobs: Sequence[Job], positions: int) -> Iterator[list[Job]]:
    """Cut jobs, which are in order of length, into batches of one model that are worth their padding."""
    batch: list[Job] = []
    for job in jobs:
        if batch and not _joins(job, batch, positions):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _joins(job: Job, batch: Sequence[Job], positions: int) -> bool:
    length = len(job.history)
    padding = len(batch) * (length - len(batch[-1].history))  # what the batch pads more because of it
    return (
        batch[0].model is job.model and (len(batch) + 1) * length <= positions and padding <= CALL_POSITIONS
    )


def _top_k(job: Job, tables: ScoreTables) -> TopK:
    scorer = job.model.scorer
    while True:
        num_items = scorer.num_items
        try:
            return scorer.top_k(tables, job.k, exclude=[job.exclude], allow=_allowed(job, num_items))[0]
        except ScoringError:
            if scorer.num_items == num_items:
                raise  # else an item came between: what may be returned is decided once more


def _allowed(job: Job, num_items: int) -> list[ItemIndices] | npt.NDArray[np.bool_] | None:
    if job.filters is None:
        return None if job.candidates is None else [job.candidates]
    allowed = job.model.catalogue.allowed(job.filters)
    if job.candidates is None:
        return allowed[:num_items]
    return [job.candidates[allowed[job.candidates]]]
