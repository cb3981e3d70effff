"""The deadline and the breaker around a store."""

import asyncio
import time

import pytest

from service.errors import StoreUnavailableError
from service.store import AppendResult, Event
from service.store.guard import Breaker, GuardedStore


class ScriptedStore:
    """A store whose next calls end as the test says: an exception, or `None` to hang for ever."""

    def __init__(self):
        self.ends = []
        self.calls = 0

    async def _next(self, result):
        self.calls += 1
        end = self.ends.pop(0) if self.ends else "well"
        if end is None:
            await asyncio.Event().wait()
        if isinstance(end, Exception):
            raise end
        return result

    async def append(self, user_id, events):
        return await self._next(AppendResult(len(events), 0, 0))

    async def read(self, user_id, limit):
        return await self._next([Event("i", 1)])

    async def read_items(self, user_ids, limit):
        return await self._next([["i"] for _ in user_ids])

    def shard_of(self, user_id):
        return ""

    async def delete(self, user_id):
        await self._next(None)

    async def ping(self):
        await self._next(None)

    async def close(self):
        self.calls = -1


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def observed():
    return []


@pytest.fixture
def scripted():
    return ScriptedStore()


@pytest.fixture
def guarded(scripted, now, observed):
    def observe(operation, seconds, succeeded):
        observed.append((operation, succeeded))

    def make_breaker():
        return Breaker(failures=2, reset_s=1.0, clock=lambda: now[0])

    return GuardedStore(scripted, make_breaker, observe, read_timeout_s=0.01, write_timeout_s=0.02)


def fail(runner, guarded):
    with pytest.raises(StoreUnavailableError) as raised:
        runner.run(guarded.read("u", 1))
    return str(raised.value)


def test_calls_pass_through_and_are_observed(runner, guarded, scripted, observed):
    async def every_call():
        assert await guarded.append("u", [Event("i", 1)]) == (1, 0, 0)
        assert await guarded.read("u", 1) == [Event("i", 1)]
        assert await guarded.read_items(["u", "v"], 1) == [["i"], ["i"]]
        await guarded.delete("u")
        await guarded.ping()
        await guarded.close()

    runner.run(every_call())
    operations = ["append", "read", "read_items", "delete", "ping"]
    assert observed == [(operation, True) for operation in operations]
    assert scripted.calls == -1


@pytest.mark.parametrize("method", ["append", "read", "read_items", "delete", "ping"])
def test_a_call_that_hangs_ends_at_the_deadline(runner, guarded, scripted, observed, method):
    arguments = {
        "append": ("u", []),
        "read": ("u", 1),
        "read_items": (["u"], 1),
        "delete": ("u",),
        "ping": (),
    }[method]
    scripted.ends = [None]
    with pytest.raises(StoreUnavailableError, match="no answer in"):
        runner.run(getattr(guarded, method)(*arguments))
    assert observed == [(method, False)]


def test_after_failures_in_a_row_the_store_is_left_alone(runner, guarded, scripted, now, observed):
    scripted.ends = [StoreUnavailableError("one"), StoreUnavailableError("two")]
    assert [fail(runner, guarded), fail(runner, guarded)] == ["one", "two"]
    assert "not tried" in fail(runner, guarded)
    now[0] = 0.99
    assert "not tried" in fail(runner, guarded)
    assert scripted.calls == len(observed) == 2


def test_one_call_tries_again_after_the_interval(runner, guarded, scripted, now):
    scripted.ends = [StoreUnavailableError(name) for name in ("one", "two", "three")]
    fail(runner, guarded), fail(runner, guarded)
    now[0] = 1.0
    assert fail(runner, guarded) == "three"
    assert "not tried" in fail(runner, guarded)  # the interval starts anew
    now[0] = 2.0
    assert runner.run(guarded.read("u", 1))
    assert runner.run(guarded.read("u", 1))  # closed again


def test_only_one_of_many_waiting_calls_tries(runner, guarded, scripted, now):
    scripted.ends = [StoreUnavailableError("one"), StoreUnavailableError("two"), None]
    fail(runner, guarded), fail(runner, guarded)
    now[0] = 1.0

    async def many():
        return await asyncio.gather(*(guarded.read("u", 1) for _ in range(5)), return_exceptions=True)

    results = runner.run(many())
    assert [type(result) for result in results] == [StoreUnavailableError] * 5
    assert scripted.calls == 3


def test_a_success_between_failures_starts_the_count_anew(runner, guarded, scripted):
    scripted.ends = [StoreUnavailableError("one"), "well", StoreUnavailableError("two"), "well"]
    fail(runner, guarded)
    runner.run(guarded.ping())
    fail(runner, guarded)
    runner.run(guarded.ping())
    assert scripted.calls == 4


def test_writes_that_fail_do_not_stop_reads(runner, guarded, scripted, now):
    scripted.ends = [StoreUnavailableError("READONLY"), StoreUnavailableError("READONLY")]
    for expected in ("READONLY", "READONLY", "not tried"):
        with pytest.raises(StoreUnavailableError, match=expected):
            runner.run(guarded.append("u", [Event("i", 1)]))
    assert scripted.calls == 2
    assert runner.run(guarded.read("u", 1))


def test_the_log_says_when_the_store_goes_and_when_it_is_back(runner, guarded, scripted, now, caplog):
    caplog.set_level("INFO", logger="service.store")
    scripted.ends = ["well", StoreUnavailableError("cable cut"), StoreUnavailableError("cable cut")]
    runner.run(guarded.ping())
    fail(runner, guarded), fail(runner, guarded)
    now[0] = 1.0
    runner.run(guarded.ping())
    assert caplog.messages == [
        "the sequence store is unavailable for reads: read: cable cut",
        "the sequence store is back for reads",
    ]


def test_a_busy_event_loop_is_no_failure_of_the_store(runner, observed):
    """The answer came long ago, but the loop finds it together with the timer of its deadline."""

    class RemoteStore(ScriptedStore):
        async def read(self, user_id, limit):
            loop = asyncio.get_running_loop()
            answer = loop.create_future()

            def be_busy():
                time.sleep(0.2)
                loop.call_soon(answer.set_result, [Event("i1", 1)])

            loop.call_soon(be_busy)
            return await answer

    store = GuardedStore(
        RemoteStore(), lambda: Breaker(1, 60), lambda *call: observed.append(call),
        read_timeout_s=0.05, write_timeout_s=0.05,
    )  # fmt: skip
    assert runner.run(store.read("u", 1)) == [Event("i1", 1)]
    assert [succeeded for _, _, succeeded in observed] == [True]
