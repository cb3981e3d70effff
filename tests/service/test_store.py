"""One suite for every sequence store: what it promises does not depend on where the data is."""

import asyncio
import copy
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from service.store import TOMBSTONE_MS, AppendResult, Event, Retention, SequenceStore
from service.store.redis_cluster import RedisCluster
from service.store.redis_connection import RedisCommands, RedisConnection
from service.store.redis_store import RedisStore
from service.store.sqlite_store import SqliteStore

NOW = 1_800_000_000_000
HOUR = 3_600_000
_users = itertools.count()


class Clock:
    """A clock that stands still until a test moves it."""

    now_ms = NOW

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def user() -> str:
    """A user of whom no other test knows."""
    return f"user-{next(_users)}"


class Stores:
    """Opens stores of one kind over the same data, and calls them on one event loop."""

    def __init__(self, runner: asyncio.Runner, make: Callable[..., SequenceStore]) -> None:
        self._runner = runner
        self._make = make
        self._opened: list[SequenceStore] = []

    def open(self, clock: Callable[[], int], max_events: int = 4, ttl_ms: int = 30 * 24 * HOUR) -> "Calls":
        async def make() -> SequenceStore:
            return self._make(Retention(max_events, ttl_ms), clock)

        store = self._runner.run(make())
        self._opened.append(store)
        return Calls(self._runner, store)

    def close(self) -> None:
        while self._opened:
            self._runner.run(self._opened.pop().close())


class Calls:
    """A store whose methods wait for their result."""

    def __init__(self, runner: asyncio.Runner, store: SequenceStore) -> None:
        self.store = store
        self._runner = runner

    def append(self, user: str, *events: Event) -> AppendResult:
        return self._runner.run(self.store.append(user, events))

    def read(self, user: str, limit: int = 1000) -> list[Event]:
        return self._runner.run(self.store.read(user, limit))

    def read_items(self, *users: str, limit: int = 1000) -> list[list[str]]:
        return self._runner.run(self.store.read_items(users, limit))

    def delete(self, user: str) -> None:
        self._runner.run(self.store.delete(user))

    def together(self, *calls: Awaitable[Any]) -> list[Any]:
        async def gather() -> list[Any]:
            return await asyncio.gather(*calls)

        return self._runner.run(gather())

    def ping(self) -> None:
        self._runner.run(self.store.ping())


@pytest.fixture
def stores(store_kind: str, runner: asyncio.Runner, redis_servers: Any, tmp_path: Path) -> Iterator[Stores]:
    if store_kind == "sqlite":
        path = tmp_path / "store.sqlite3"

        def make(retention: Retention, clock: Callable[[], int]) -> SequenceStore:
            return SqliteStore.open(str(path), retention, lock_timeout_s=5, clock=clock)
    else:
        url = redis_servers(store_kind).url

        def make(retention: Retention, clock: Callable[[], int]) -> SequenceStore:
            server: RedisCommands
            if store_kind == "cluster":
                server = RedisCluster(url, timeout_s=5)
            else:
                server = RedisConnection(url, timeout_s=5)
            return RedisStore(server, retention, clock=clock)

    stores = Stores(runner, make)
    yield stores
    stores.close()


@pytest.fixture
def store(stores: Stores, clock: Clock) -> Calls:
    return stores.open(clock)


def at(time: int, item: str = "i", event_id: str | None = None) -> Event:
    return Event(item, NOW - 1_000_000 + time, event_id)


def test_nothing_is_known_of_a_new_user(store, user):
    assert store.read(user) == []


def test_events_are_ordered_by_time_and_ties_by_arrival(store, user):
    events = [at(5, "a"), at(1, "b"), at(5, "c"), at(3, "d")]
    assert store.append(user, *events) == (4, 0, 0)
    assert store.read(user) == [at(1, "b"), at(3, "d"), at(5, "a"), at(5, "c")]


def test_one_append_or_many_is_the_same(store, user):
    events = [at(5, "a"), at(1, "b"), at(5, "c", "e"), at(5, "d", "e"), at(0, "f"), at(9, "g"), at(2, "h")]
    store.append(f"{user}-at-once", *events)
    for event in events:
        store.append(f"{user}-each", event)
    assert store.read(f"{user}-at-once") == store.read(f"{user}-each")


def test_read_gives_the_last_ones(store, user):
    store.append(user, at(1, "a"), at(2, "b"), at(3, "c"))
    assert store.read(user, 2) == [at(2, "b"), at(3, "c")]


def test_read_items_gives_the_items_of_what_each_read_gives(store, user):
    other, nobody = f"{user}-ü", f"{user}-nobody"
    store.append(user, at(1, "a"), at(2, "ü \u2028/", "e"), at(3, "c"))
    store.append(other, at(5, "d", "e"))
    users = [other, nobody, user, other]
    for limit in (1, 2, 1000):
        expected = [[event.item_id for event in store.read(name, limit)] for name in users]
        assert store.read_items(*users, limit=limit) == expected
    assert store.read_items() == []
    store.delete(user)
    assert store.read_items(user, other) == [[], ["d"]]


def test_many_users_are_read_at_once(store, user):
    users = [f"{user}-{number}" for number in range(300)]
    for number, name in enumerate(users[::3]):
        store.append(name, at(number, f"i{number}"))
    assert store.read_items(*users) == [
        [f"i{number // 3}"] if number % 3 == 0 else [] for number in range(300)
    ]


def test_an_event_id_is_stored_once(store, user):
    assert store.append(user, at(1, "a", "e1"), at(2, "b", "e2")) == (2, 0, 0)
    assert store.append(user, at(1, "a", "e1"), at(9, "c", "e2"), at(9, "c", "e3")) == (1, 2, 0)
    assert store.read(user) == [at(1, "a", "e1"), at(2, "b", "e2"), at(9, "c", "e3")]


def test_event_ids_are_compared_whole_and_only_with_event_ids(store, user):
    store.append(user, at(1, "x", "12"), at(2, "y"))
    assert store.append(user, at(3, "a", "1"), at(4, "b", "2")) == (2, 0, 0)
    store.delete(user)
    other = f"{user}-other"
    assert store.append(other, at(1, "e"), at(2, "a", "e")) == (2, 0, 0)  # an item of that name


def test_without_event_ids_each_event_is_new(store, user):
    assert store.append(user, at(1, "a"), at(1, "a")) == (2, 0, 0)
    assert store.append(user, at(1, "a")) == (1, 0, 0)


def test_of_a_full_list_the_oldest_goes(store, user):
    store.append(user, at(1, "a"), at(2, "b"), at(3, "c"), at(4, "d"))
    assert store.append(user, at(5, "e")) == (1, 0, 0)
    assert [event.item_id for event in store.read(user)] == ["b", "c", "d", "e"]
    assert store.append(user, at(3, "f")) == (1, 0, 0)  # in between
    assert [event.item_id for event in store.read(user)] == ["c", "f", "d", "e"]


def test_older_than_the_oldest_of_a_full_list_is_stale(store, user):
    store.append(user, at(2, "a"), at(3, "b"), at(4, "c"))
    assert store.append(user, at(1, "d")) == (1, 0, 0)  # there was room
    assert store.append(user, at(0, "e"), at(1, "f")) == (1, 0, 1)  # as old as the oldest is not older
    assert [event.item_id for event in store.read(user)] == ["f", "a", "b", "c"]


def test_an_event_id_that_was_trimmed_away_is_stale_not_new(store, user):
    for second in range(1, 6):
        store.append(user, at(second, "a", f"e{second}"))
    assert store.append(user, at(1, "a", "e1")) == (0, 0, 1)


def test_a_smaller_maximum_holds_from_the_next_append(stores, store, clock, user):
    store.append(user, at(1, "a"), at(2, "b"), at(3, "c"), at(4, "d"))
    smaller = stores.open(clock, max_events=2)
    assert smaller.append(user, at(2, "x")) == (0, 0, 1)
    assert smaller.append(user, at(5, "e")) == (1, 0, 0)
    assert [event.item_id for event in store.read(user)] == ["d", "e"]


def test_a_list_of_one(stores, clock, user):
    store = stores.open(clock, max_events=1)
    assert store.append(user, at(2, "a"), at(1, "b"), at(2, "c"), at(3, "d")) == (3, 0, 1)
    assert store.read(user) == [at(3, "d")]


def test_any_characters_and_the_earliest_and_latest_times(store, user):
    latest = 253_402_300_799_999  # the year 9999
    events = [Event("ü/{}%s\\ 💡", 0, "'\"[]"), Event("a" * 256, latest, "%d+"), Event(" ", latest - 1)]
    store.append(f"{user} }}{{ % 💡", *events)
    assert store.read(f"{user} }}{{ % 💡") == [events[0], events[2], events[1]]


def test_users_do_not_touch_each_other(store, user):
    store.append(user, at(1, "a", "e"))
    store.append(f"{user}2", at(2, "b", "e"))
    store.delete(user)
    assert store.read(f"{user}2") == [at(2, "b", "e")]


@pytest.mark.parametrize("known_before", [True, False])
def test_a_deleted_user_is_not_brought_back_by_replays(store, clock, user, known_before):
    if known_before:
        store.append(user, at(1, "a", "e1"))
    store.delete(user)
    store.delete(user)
    assert store.read(user) == []
    until_now = [Event("a", NOW - 1, "e1"), Event("b", NOW)]
    assert store.append(user, *until_now) == (0, 0, 2)
    assert store.append(user, Event("c", NOW + 1)) == (1, 0, 0)
    clock.now_ms = NOW + TOMBSTONE_MS - 1
    assert store.append(user, *until_now) == (0, 0, 2)
    assert store.read(user) == [Event("c", NOW + 1)]


def test_after_a_day_a_deletion_is_forgotten(store, clock, user):
    store.delete(user)
    assert store.append(user, Event("new", NOW + 1)) == (1, 0, 0)  # outlives the tombstone
    clock.now_ms = NOW + TOMBSTONE_MS - 1
    assert store.append(user, at(1, "old")) == (0, 0, 1)
    clock.now_ms = NOW + TOMBSTONE_MS
    assert store.append(user, at(1, "old")) == (1, 0, 0)
    clock.now_ms = NOW + 1  # even by a clock that goes back
    assert store.append(user, at(2, "old")) == (1, 0, 0)


def test_a_user_expires(stores, user, eventually):
    store = stores.open(lambda: time.time_ns() // 1_000_000, ttl_ms=30)
    store.append(user, at(1, "a"))
    eventually(lambda: store.read(user) == [])
    assert store.append(user, at(2, "b")) == (1, 0, 0)


def test_what_was_stored_is_there_for_the_next_process(stores, store, clock, user):
    store.append(user, at(1, "a", "e"))
    assert stores.open(clock).read(user) == [at(1, "a", "e")]


def test_appends_at_the_same_time_lose_nothing(stores, clock, user, runner):
    store = stores.open(clock, max_events=100).store

    async def all_at_once() -> list[AppendResult]:
        return await asyncio.gather(*(store.append(user, [at(i, f"i{i}", str(i % 30))]) for i in range(60)))

    results = runner.run(all_at_once())
    assert sum(result.stored for result in results) == 30
    assert sum(result.duplicate for result in results) == 30
    events = runner.run(store.read(user, 100))
    assert len(events) == 30
    assert [event.time_ms for event in events] == sorted(event.time_ms for event in events)


def test_an_id_that_would_break_the_stored_form_is_refused(store, user):
    for event in (at(1, "a\tb"), at(1, "a", "e\nf")):
        with pytest.raises(Exception, match="tab or a newline"):
            store.append(user, event)
    assert store.read(user) == []


def test_ping_answers(store):
    store.ping()


class Specification:
    """What a store is to do for one user, in the simplest words: a list that is sorted after each event."""

    def __init__(self, max_events: int, ttl_ms: int) -> None:
        self.max_events, self.ttl_ms = max_events, ttl_ms
        self.events: list[Event] = []
        self.deleted_at: int | None = None
        self.expires_at: int | None = None

    def append(self, events: Sequence[Event], now_ms: int) -> tuple[int, int, int]:
        self.look(now_ms)
        results = [self._append_one(event, now_ms) for event in events]
        if "stored" in results:
            self.expires_at = now_ms + self.ttl_ms
        return results.count("stored"), results.count("duplicate"), results.count("stale")

    def _append_one(self, event: Event, now_ms: int) -> str:
        deleted = self.deleted_at is not None and now_ms - self.deleted_at < TOMBSTONE_MS
        if deleted and event.time_ms <= self.deleted_at:
            return "stale"
        if len(self.events) == self.max_events and event.time_ms < min(e.time_ms for e in self.events):
            return "stale"
        if event.event_id is not None and event.event_id in [e.event_id for e in self.events]:
            return "duplicate"
        self.events = sorted([*self.events, event], key=lambda e: e.time_ms)[-self.max_events :]
        return "stored"

    def delete(self, now_ms: int) -> None:
        self.events, self.deleted_at, self.expires_at = [], now_ms, None

    def look(self, now_ms: int) -> list[Event]:
        if self.expires_at is not None and now_ms >= self.expires_at:
            self.__init__(self.max_events, self.ttl_ms)
        return self.events


MACHINE_USERS = ("a", "b", "ü }{ 3")
_events = st.lists(
    st.builds(
        at,
        st.integers(0, 6),
        st.sampled_from(["a", "b", "ü"]),
        st.none() | st.sampled_from(["1", "2", "3", "12"]),
    ),
    min_size=1,
    max_size=6,
)
_names, _clients = st.sampled_from(MACHINE_USERS), st.integers(0, 1)


class StoreMachine(RuleBasedStateMachine):
    """Two clients of one store, several users and a clock, beside the specification."""

    def __init__(self, stores: Stores, ttl_ms: int) -> None:
        super().__init__()
        self.stores, self.ttl_ms, self.clock = stores, ttl_ms, Clock()
        self.clock.now_ms = NOW - 1_000_001  # before the events, so that deletions can be among them
        self.prefix = f"machine-{next(_users)}"

    @initialize(max_events=st.integers(1, 5))
    def begin(self, max_events: int) -> None:
        self.clients = [self.stores.open(self.clock, max_events, self.ttl_ms) for _ in range(2)]
        self.expected = {name: Specification(max_events, self.ttl_ms) for name in MACHINE_USERS}

    def key(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    @rule(client=_clients, name=_names, events=_events)
    def append(self, client: int, name: str, events: list[Event]) -> None:
        result = self.clients[client].append(self.key(name), *events)
        assert result == self.expected[name].append(events, self.clock.now_ms)

    @rule(name=_names, first=_events, second=_events)
    def append_both_at_once(self, name: str, first: list[Event], second: list[Event]) -> None:
        """One of them comes first, whichever it is."""
        key, now_ms = self.key(name), self.clock.now_ms
        results = self.clients[0].together(
            self.clients[0].store.append(key, first), self.clients[1].store.append(key, second)
        )
        found = [*results, self.clients[0].read(key)]
        possible = []
        for order in ((0, 1), (1, 0)):
            outcome = copy.deepcopy(self.expected[name])
            answers = {number: outcome.append((first, second)[number], now_ms) for number in order}
            possible.append(([answers[0], answers[1], outcome.events], outcome))
        matching = [outcome for told, outcome in possible if told == found]
        assert matching, (found, possible)
        self.expected[name] = matching[0]

    @rule(client=_clients, name=_names, moved_to=st.none() | st.integers(-1_000_000, -999_994))
    def delete(self, client: int, name: str, moved_to: int | None) -> None:
        if moved_to is not None and NOW + moved_to >= self.clock.now_ms:
            self.clock.now_ms = NOW + moved_to  # among the events' times
        self.clients[client].delete(self.key(name))
        self.expected[name].delete(self.clock.now_ms)

    @rule(wait=st.sampled_from([1, 1, 1, 1, TOMBSTONE_MS - 1, TOMBSTONE_MS, 20 * HOUR]))
    def wait(self, wait: int) -> None:
        self.clock.now_ms += wait

    @rule(client=_clients, names=st.lists(_names, max_size=6), limit=st.integers(1, 6))
    def read_items(self, client: int, names: list[str], limit: int) -> None:
        keys = [self.key(name) for name in names]
        assert self.clients[client].read_items(*keys, limit=limit) == [
            [event.item_id for event in self.expected[name].look(self.clock.now_ms)[-limit:]]
            for name in names
        ]

    @rule(client=_clients, name=_names, limit=st.integers(1, 6))
    def read(self, client: int, name: str, limit: int) -> None:
        expected = self.expected[name].look(self.clock.now_ms)[-limit:]
        assert self.clients[client].read(self.key(name), limit) == expected

    def teardown(self) -> None:
        self.stores.close()


def test_any_calls_of_two_clients_give_what_the_specification_gives(stores, store_kind):
    # A server expires by its own clock, which no test can move; there nobody lives to see it.
    ttl_ms = 36 * HOUR if store_kind == "sqlite" else 1000 * 24 * HOUR
    run_state_machine_as_test(
        lambda: StoreMachine(stores, ttl_ms),
        settings=settings(max_examples=80, stateful_step_count=25, deadline=None, derandomize=True),
    )
