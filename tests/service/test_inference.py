"""Micro-batches, the bound on what waits, and work that nobody wants any more."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from service.errors import ClientGoneError, DeadlineError, OverloadedError
from service.inference import ROW_POSITIONS, InferencePool, Job
from service.model import Model, load_model
from service.settings import Settings
from service.timings import Timings

NOTHING = np.zeros(0, dtype=np.int32)


class Gate:
    """An encoder that waits until it may go on, and remembers what it was asked."""

    providers = ["CPUExecutionProvider"]  # noqa: RUF012

    def __init__(self, model: Model) -> None:
        self._encoder = model.encoder
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.calls: list[list[int]] = []

    def encode(self, item_codes: Any, lengths: Any) -> Any:
        self.calls.append(lengths.tolist())
        self.entered.release()
        assert self.open.wait(20)
        return self._encoder.encode(item_codes, lengths)


@pytest.fixture(scope="module")
def model(artifact: Path) -> Model:
    return load_model(Settings(), artifact)


@pytest.fixture
def gate(model: Model) -> Gate:
    return Gate(model)


@pytest.fixture
def gated(model: Model, gate: Gate) -> Iterator[Model]:
    yield replace(model, encoder=gate)
    gate.open.set()


@pytest.fixture
def open_pool() -> Iterator[Callable[..., InferencePool]]:
    pools: list[InferencePool] = []

    def open_one(**options: Any) -> InferencePool:
        defaults = {
            "workers": 1, "queue_positions": 1000, "batch_positions": 100, "observe_batch": lambda _: None
        }  # fmt: skip
        pools.append(InferencePool(**defaults | options))
        return pools[-1]

    yield open_one
    for pool in pools:
        pool.close()


def job(model: Model, *history: int, **options: Any) -> Job:
    return Job(model, np.array(history, dtype=np.int32), options.pop("k", 3), NOTHING, **options)


async def entered(gate: Gate) -> None:
    while not gate.entered.acquire(blocking=False):
        await asyncio.sleep(0)


async def waits(pool: InferencePool, tickets: int) -> None:
    while pool.waiting < tickets:
        await asyncio.sleep(0)


def alone(model: Model, asked: Job) -> Any:
    """The specification: one history, no pool."""
    codes = model.catalogue.item_codes[asked.history][None]
    tables = model.encoder.encode(codes, np.array([len(asked.history)]))
    return model.scorer.top_k(tables, asked.k, exclude=[asked.exclude])[0]


def test_a_batch_is_what_waited_and_changes_no_answer(runner, model, gate, gated, open_pool):
    sizes: list[int] = []
    pool = open_pool(observe_batch=sizes.append)
    histories = [(1,), (2, 3), (4, 5, 6), (7, 8, 9, 10), (11, 0)]

    async def ask() -> list[Any]:
        first = asyncio.create_task(pool.run([job(gated, 3)], Timings()))
        await entered(gate)
        others = [asyncio.create_task(pool.run([job(gated, *h)], Timings())) for h in histories]
        await waits(pool, len(histories))
        gate.open.set()
        return [await first, *[await other for other in others]]

    first, *others = runner.run(ask())
    assert sizes == [1, 5]
    assert gate.calls == [[1], [1, 2, 2, 3, 4]]
    for (outcome,), history in zip([first, *others], [(3,), *histories], strict=True):
        expected = alone(model, job(model, *history))
        np.testing.assert_array_equal(outcome.best.ids, expected.ids)
        np.testing.assert_allclose(outcome.best.scores, expected.scores, rtol=1e-5)


def test_a_batch_is_bounded_by_its_padded_positions_and_holds_one_model(
    runner, model, gate, gated, open_pool
):
    pool = open_pool(batch_positions=8)
    other = replace(gated, scorer=model.scorer)
    jobs = [
        job(gated, 1, 2, 3),
        job(gated, 1, 2),
        job(gated, 4, 5, 6),
        job(other, 1),
        job(gated, 7, 8, 9, 1, 2),
    ]
    gate.open.set()
    outcomes = runner.run(pool.run(jobs, Timings()))
    assert sorted(gate.calls) == [[1], [2, 3], [3], [5]]
    for outcome, asked in zip(outcomes, jobs, strict=True):
        np.testing.assert_array_equal(outcome.best.ids, alone(model, asked).ids)


def test_an_idle_worker_takes_its_share(runner, gate, gated, open_pool):
    pool = open_pool(workers=2)

    async def ask() -> None:
        tasks = [asyncio.create_task(pool.run([job(gated, item)], Timings())) for item in (1, 2)]
        await entered(gate)
        await entered(gate)  # both run at once: the first to wake did not take both
        gate.open.set()
        await asyncio.gather(*tasks)

    runner.run(ask())
    assert gate.calls == [[1], [1]]


def test_work_bounds_the_queue_and_room_is_made_at_once(runner, gate, gated, open_pool):
    pool = open_pool(queue_positions=3 * (1 + ROW_POSITIONS))

    async def ask() -> None:
        running = asyncio.create_task(pool.run([job(gated, 1)], Timings()))
        await entered(gate)
        two = asyncio.create_task(pool.run([job(gated, 1), job(gated, 2)], Timings()))
        await waits(pool, 1)
        with pytest.raises(OverloadedError):
            await pool.run([job(gated, 1), job(gated, 2)], Timings())
        one = asyncio.create_task(pool.run([job(gated, 3)], Timings()))
        await waits(pool, 2)
        with pytest.raises(OverloadedError):
            await pool.run([job(gated, 4)], Timings())
        gate.open.set()
        assert [len(outcomes) for outcomes in await asyncio.gather(running, two, one)] == [1, 2, 1]
        await pool.run([job(gated, 4)], Timings())

    runner.run(ask())


def test_what_is_larger_than_the_queue_is_taken_when_nothing_waits(runner, gate, gated, open_pool):
    pool = open_pool(queue_positions=1)
    gate.open.set()
    assert len(runner.run(pool.run([job(gated, 1)] * 7, Timings()))) == 7


def test_a_deadline_ends_the_wait_and_the_work_is_not_begun(runner, gate, gated, open_pool):
    pool = open_pool()

    async def ask() -> None:
        running = asyncio.create_task(pool.run([job(gated, 1)], Timings()))
        await entered(gate)
        with pytest.raises(DeadlineError):
            await pool.run([job(gated, 1, 2)], Timings(), deadline=perf_counter() + 0.01)
        assert pool.waiting == 1  # its place is only free when a worker has passed over it
        gate.open.set()
        await running
        await pool.run([job(gated, 1, 2, 3)], Timings())

    runner.run(ask())
    assert gate.calls == [[1], [3]]


def test_a_deadline_that_has_passed_costs_nothing(runner, gate, gated, open_pool):
    pool = open_pool()
    gate.open.set()
    with pytest.raises(DeadlineError):
        runner.run(pool.run([job(gated, 1)], Timings(), deadline=perf_counter() - 1))
    runner.run(pool.run([job(gated, 1, 2)], Timings()))
    assert gate.calls == [[2]]


@pytest.mark.parametrize("explained", [0, 9])
def test_a_deadline_that_passes_under_way_ends_the_work(runner, gate, gated, open_pool, explained):
    """Of many calls of the encoder, for histories or for their explanation, only the first is made."""
    pool = open_pool(batch_positions=1)
    histories = [(1, 2, 3, 4)] if explained else [(1, 2), (3, 4, 5), (6,)]
    jobs = [job(gated, *history, explained=explained) for history in histories]

    async def ask() -> None:
        asked = asyncio.create_task(pool.run(jobs, Timings(), deadline=perf_counter() + 0.2))
        await entered(gate)
        with pytest.raises(DeadlineError):
            await asked
        gate.open.set()
        await pool.run([job(gated, 1, 2, 3, 4, 5, 6)], Timings())

    runner.run(ask())
    assert len(gate.calls) == 2


def test_a_client_that_left_is_not_worked_for(runner, gate, gated, open_pool):
    pool = open_pool()

    async def ask() -> None:
        left = asyncio.Event()
        running = asyncio.create_task(pool.run([job(gated, 1)], Timings()))
        await entered(gate)

        async def client_gone() -> None:
            await left.wait()

        waiting = asyncio.create_task(pool.run([job(gated, 1, 2)], Timings(), client_gone=client_gone))
        await waits(pool, 1)
        left.set()
        with pytest.raises(ClientGoneError):
            await waiting
        gate.open.set()
        await running

    runner.run(ask())
    pool.close()
    assert gate.calls == [[1]]


def test_abandoned_work_still_fills_the_queue_until_it_is_passed_over(runner, gate, gated, open_pool):
    """Else an encoder that hangs would let the queue grow with every request that gives up."""
    pool = open_pool(queue_positions=2 * (1 + ROW_POSITIONS))

    async def ask() -> None:
        running = asyncio.create_task(pool.run([job(gated, 1)], Timings()))
        await entered(gate)
        for _ in range(2):
            with pytest.raises(DeadlineError):
                await pool.run([job(gated, 2)], Timings(), deadline=perf_counter() + 0.001)
        with pytest.raises(OverloadedError):
            await pool.run([job(gated, 2)], Timings(), deadline=perf_counter() + 0.001)
        gate.open.set()
        await running

    runner.run(ask())


def test_a_failure_of_the_encoder_reaches_everyone_who_waits_for_it(runner, model, open_pool):
    class Broken(Gate):
        def encode(self, item_codes: Any, lengths: Any) -> Any:
            super().encode(item_codes, lengths)
            raise RuntimeError("no more memory")

    broken = Broken(model)
    asked = job(replace(model, encoder=broken), 1)
    pool = open_pool()

    async def ask() -> list[Any]:
        first = asyncio.create_task(pool.run([asked], Timings()))
        await entered(broken)
        others = [asyncio.create_task(pool.run([asked], Timings())) for _ in range(3)]
        await waits(pool, 3)
        broken.open.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    assert [str(error) for error in runner.run(ask())] == ["no more memory"] * 4
    assert len(runner.run(pool.run([job(model, 1)], Timings()))) == 1  # the worker lives on


def test_closing_answers_what_was_accepted(runner, gate, gated, open_pool):
    pool = open_pool()

    async def ask() -> list[Any]:
        running = asyncio.create_task(pool.run([job(gated, 1)], Timings()))
        await entered(gate)
        waiting = asyncio.create_task(pool.run([job(gated, 2)], Timings()))
        await waits(pool, 1)
        closing = asyncio.create_task(asyncio.to_thread(pool.close))
        gate.open.set()
        await closing
        return [await running, await waiting]

    assert [len(outcomes) for outcomes in runner.run(ask())] == [1, 1]


def test_contributions_are_score_differences(runner, model, open_pool):
    history = np.array([1, 2, 1, 3], dtype=np.int32)
    (outcome,) = runner.run(open_pool().run([job(model, *history, explained=2, k=4)], Timings()))
    codes = model.catalogue.item_codes[np.arange(model.catalogue.num_items)]

    def scores(kept: Any) -> Any:
        """Scores of all items, less their mean."""
        tables = model.encoder.encode(codes[kept][None], np.array([len(kept)]))[0]
        every = sum(tables[j][codes[:, j]] for j in range(codes.shape[1]))
        return (every - every.mean())[outcome.best.ids]

    assert outcome.contributions is not None
    assert outcome.contributions.history.tolist() == [3, 1]  # the newest first, each once
    for column, item in enumerate((3, 1)):
        expected = scores(history) - scores(history[history != item])
        np.testing.assert_allclose(outcome.contributions.scores[:, column], expected, atol=1e-5)


def test_the_only_item_of_a_history_contributes_all_above_the_mean(runner, model, open_pool):
    (outcome,) = runner.run(open_pool().run([job(model, 5, 5, explained=9)], Timings()))
    assert outcome.contributions is not None
    tables = model.encoder.encode(model.catalogue.item_codes[[5, 5]][None], np.array([2]))[0]
    codes = model.catalogue.item_codes[np.arange(model.catalogue.num_items)]
    every = sum(tables[j][codes[:, j]] for j in range(2))
    expected = (every - every.mean())[outcome.best.ids]
    np.testing.assert_allclose(outcome.contributions.scores[:, 0], expected, atol=1e-5)


def test_a_model_that_fails_harms_no_other(runner, model, gate, gated, open_pool):
    class Broken(Gate):
        def encode(self, item_codes: Any, lengths: Any) -> Any:
            raise RuntimeError("no more memory")

    pool = open_pool()
    broken = replace(model, encoder=Broken(model))

    async def ask() -> list[Any]:
        first = asyncio.create_task(pool.run([job(gated, 1)], Timings()))
        await entered(gate)
        others = [asyncio.create_task(pool.run([job(of, 2, 3)], Timings())) for of in (broken, model)]
        await waits(pool, 2)
        gate.open.set()
        return [await first, *await asyncio.gather(*others, return_exceptions=True)]

    _, failed, (answered,) = runner.run(ask())
    assert str(failed) == "no more memory"
    np.testing.assert_array_equal(answered.best.ids, alone(model, job(model, 2, 3)).ids)


def test_without_a_history_the_most_popular_are_the_result(runner, model, open_pool):
    candidates = np.array([3, 8, 0], dtype=np.int32)
    (outcome,) = runner.run(open_pool().run([job(model, candidates=candidates, k=2)], Timings()))
    counts = model.catalogue.counts[candidates]
    assert outcome.best.ids.tolist() == candidates[np.argsort(-counts)][:2].tolist()


def test_an_idle_worker_keeps_no_model(runner, artifact, open_pool, eventually):
    pool, own = open_pool(), load_model(Settings(), artifact)
    runner.run(pool.run([job(own, 1)], Timings()))
    gone = weakref.ref(own.catalogue)
    del own

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    eventually(is_gone)  # the worker may not have come back to its queue yet
