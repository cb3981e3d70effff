"""What is SQLite's own: its file, its schema version, its durability."""

import asyncio
import sqlite3
import time

import pytest

from service.errors import StoreSchemaError, StoreUnavailableError
from service.store import TOMBSTONE_MS, Event, Retention
from service.store.sqlite_store import SqliteStore

DAY_MS = 86_400_000
RETENTION = Retention(max_events=4, ttl_ms=30 * DAY_MS)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "deep" / "er" / "store.sqlite3")


def open_store(path, clock=lambda: 0):
    return SqliteStore.open(path, RETENTION, lock_timeout_s=0.05, clock=clock)


def test_the_file_states_its_schema_and_flushes_every_commit(path, runner):
    store = open_store(path)
    for connection in (store._writer, store._reader):
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    runner.run(store.close())
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


def test_a_file_of_a_newer_release_is_refused_and_left_alone(path, runner):
    runner.run(open_store(path).close())
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(StoreSchemaError, match=r"found store schema 2, expected 1; install the release"):
        open_store(path)


def test_what_is_no_database_is_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("a shopping list, longer than the header of a database" * 10)
    with pytest.raises(StoreSchemaError, match="cannot be opened as a sequence store"):
        open_store(str(path))
    with pytest.raises(StoreSchemaError, match="cannot be opened as a sequence store"):
        open_store(str(tmp_path))


def test_expired_users_and_tombstones_leave_the_file(path, runner):
    now = [0]
    store = open_store(path, lambda: now[0])
    for user in range(20):
        runner.run(store.append(f"kept-{user}", [Event("i", 1)]))
        runner.run(store.delete(f"forgotten-{user}"))
    now[0] = TOMBSTONE_MS
    for _ in range(2):  # a few with each write
        runner.run(store.append("other", [Event("i", 1)]))
    users = {user for (user,) in store._reader.execute("SELECT user_id FROM sequences")}
    runner.run(store.close())
    assert users == {"other", *(f"kept-{user}" for user in range(20))}


def test_a_locked_file_is_unavailable_and_comes_back(path, runner):
    store = open_store(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked"):
        runner.run(store.append("u", [Event("i", 1)]))
    assert runner.run(store.read("u", 10)) == []
    other.execute("ROLLBACK")
    other.close()
    assert runner.run(store.append("u", [Event("i", 1)])).stored == 1
    runner.run(store.close())


def test_a_failed_append_leaves_nothing_behind(path, runner):
    store = open_store(path)
    runner.run(store.append("u", [Event("i", 1)]))
    with pytest.raises(StoreUnavailableError):
        runner.run(store.append("u", [Event("i", 2), Event("\t", 3)]))
    assert runner.run(store.read("u", 10)) == [Event("i", 1)]
    assert runner.run(store.append("u", [Event("i", 4)])).stored == 1  # no transaction is left open
    runner.run(store.close())


def test_a_record_of_another_version_is_unavailable(path, runner):
    store = open_store(path)
    store._writer.execute("INSERT INTO sequences VALUES ('u', 99, CAST('9\t0\t0\t0\n' AS BLOB))")
    with pytest.raises(StoreUnavailableError, match="record version '9', expected '1'"):
        runner.run(store.read("u", 10))
    runner.run(store.close())


def test_the_event_loop_is_free_while_a_write_waits(path, runner):
    store = SqliteStore.open(path, RETENTION, lock_timeout_s=20, clock=lambda: 0)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")

    async def write_and_look():
        write = asyncio.create_task(store.append("u", [Event("i", 1)]))
        for _ in range(3):
            assert await store.read("u", 10) == []  # reads go on, on the same loop
        waiting = not write.done()
        other.execute("ROLLBACK")
        return waiting, await write

    waiting, result = runner.run(write_and_look())
    assert waiting
    assert result.stored == 1
    other.close()
    runner.run(store.close())


def test_a_file_opens_while_another_process_writes_without_pause(path, runner):
    store = open_store(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    again = open_store(path)
    other.execute("ROLLBACK")
    other.close()
    for opened in (again, store):
        runner.run(opened.close())


def test_several_processes_write_to_one_file_in_turn(path, runner):
    """Stores of their own stand for the processes: the file's locks do not tell them apart."""
    stores = [SqliteStore.open(path, Retention(1000, DAY_MS), lock_timeout_s=20) for _ in range(4)]

    async def write(store, number):
        for step in range(20):
            assert await store.append("u", [Event(f"{number}-{step}", step)]) == (1, 0, 0)

    async def all_at_once():
        await asyncio.gather(*(write(store, number) for number, store in enumerate(stores) for _ in range(3)))
        return await stores[0].read("u", 1000)

    assert len(runner.run(all_at_once())) == 4 * 3 * 20
    for store in stores:
        runner.run(store.close())


def test_appends_that_wait_together_share_a_transaction_and_fail_alone(path, runner):
    store = open_store(path, lambda: 5)
    begun = []
    store._writer.set_trace_callback(lambda statement: begun.append(statement.startswith("BEGIN")))

    async def all_at_once():
        events = [[Event(f"i{n}", n)] if n != 7 else [Event("\t", n)] for n in range(40)]
        appends = (store.append(f"u{n}", event) for n, event in enumerate(events))
        return await asyncio.gather(*appends, return_exceptions=True)

    results = runner.run(all_at_once())
    assert isinstance(results.pop(7), StoreUnavailableError)
    assert results == [(1, 0, 0)] * 39
    assert sum(begun) <= 2
    assert runner.run(store.read_items([f"u{n}" for n in range(40)], 1)) == [
        [f"i{n}"] if n != 7 else [] for n in range(40)
    ]
    runner.run(store.close())


def test_an_append_that_is_given_up_does_not_hold_up_the_others(path, runner):
    store = open_store(path)

    async def give_up_the_first():
        first, second = (asyncio.create_task(store.append("u", [Event("i", n)])) for n in (1, 2))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert runner.run(give_up_the_first()) == (1, 0, 0)
    runner.run(store.close())
    store = open_store(path)
    assert runner.run(store.read("u", 5))[-1] == Event("i", 2)
    runner.run(store.close())


def test_after_slow_reads_in_a_row_the_reading_thread_is_asked(path, runner):
    store = open_store(path, lambda: 0)
    runner.run(store.append("u", [Event("i", 1)]))
    quick = store._quick_reader
    asked = []

    class SlowDisk:
        """Answers like the connection it stands for, later."""

        def execute(self, *arguments):
            asked.append(arguments)
            time.sleep(0.003)
            return quick.execute(*arguments)

        def close(self):
            quick.close()

    store._quick_reader = SlowDisk()
    for _ in range(6):
        assert runner.run(store.read_items(["u"], 5)) == [["i"]]
    assert len(asked) == 3
    runner.run(store.close())
