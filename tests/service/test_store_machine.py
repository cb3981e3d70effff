"""Any calls of two clients of a store, against the simplest program that does the same."""

import copy
from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from service.store import TOMBSTONE_MS, Event
from tests.service.stores import HOUR, NOW, Clock, Stores, at, new_user


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
        self.prefix = new_user()

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
