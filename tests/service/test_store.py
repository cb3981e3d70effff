"""One suite for every sequence store: what it promises does not depend on where the data is."""

import asyncio
import time

import pytest

from service.store import TOMBSTONE_MS, AppendResult, Event
from tests.service.stores import NOW, Calls, Clock, Stores, at, new_user


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def user() -> str:
    return new_user()


@pytest.fixture
def store(stores: Stores, clock: Clock) -> Calls:
    return stores.open(clock)


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
