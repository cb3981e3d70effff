"""One connection that many calls share: each gets its own answer, whatever happens to the others."""

import asyncio
import random
import signal
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from service.store.redis_connection import RedisConnection


@asynccontextmanager
async def connected(url, timeout_s=5.0):
    connection = RedisConnection(url, timeout_s=timeout_s)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def server_that(answers):
    """A server whose connections are answered by a function of (reader, writer)."""
    connections = []

    async def serve(reader, writer):
        connections.append(writer)
        await answers(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", connections
    finally:
        server.close()
        for writer in connections:
            writer.close()


@pytest.mark.parametrize("seed", range(5))
def test_every_call_gets_its_own_answer_though_others_are_given_up(runner, redis_server, seed):
    rng = random.Random(seed)

    async def ask(connection, number):
        sizes = [rng.choice([1, 1, 3]) for _ in range(10)]
        for step, size in enumerate(sizes):
            texts = [f"{number}-{step}-{part}" * rng.choice([1, 1, 2000]) for part in range(size)]
            assert await connection.execute([("ECHO", text) for text in texts]) == [
                text.encode() for text in texts
            ]

    async def scenario():
        async with connected(redis_server.url) as connection:
            patient = [asyncio.create_task(ask(connection, number)) for number in range(30)]
            hasty = [asyncio.create_task(ask(connection, number)) for number in range(30, 60)]
            while hasty:
                await asyncio.wait(hasty, timeout=0.001, return_when=asyncio.FIRST_COMPLETED)
                hasty.pop(rng.randrange(len(hasty))).cancel()
            await asyncio.gather(*patient)

    runner.run(scenario())


def test_calls_that_come_together_share_one_connection(runner, own_redis):
    async def scenario():
        async with connected(own_redis.url) as connection:
            await asyncio.gather(*(connection.execute([("PING",)]) for _ in range(50)))
            clients = (await connection.execute([("INFO", "clients")]))[0]
            assert b"connected_clients:1\r" in clients

    runner.run(scenario())


def test_the_user_and_the_database_of_the_url_are_used(runner, own_redis):
    own_redis.call("ACL SETUSER", "ann", "on", ">p@ss", "~*", "+@all")

    async def scenario():
        async with connected(f"redis://ann:p%40ss@127.0.0.1:{own_redis.port}/3") as connection:
            assert await connection.execute([("ACL", "WHOAMI"), ("SET", "k", "v")]) == [b"ann", b"OK"]

    runner.run(scenario())
    assert "db3" in own_redis.call("INFO", "keyspace")


def test_a_unix_socket(runner, own_redis):
    own_redis.kill()
    path = own_redis.directory / "s"
    own_redis.options = ("--unixsocket", str(path))
    own_redis.start()

    async def scenario():
        async with connected(f"unix://{path}") as connection:
            assert await connection.execute([("PING",)]) == [b"PONG"]

    runner.run(scenario())


def test_an_error_belongs_to_its_call_alone(runner, redis_server):
    async def scenario():
        async with connected(redis_server.url) as connection:
            results = await asyncio.gather(
                connection.execute([("ECHO", "a"), ("NO", "SUCH")]),
                connection.execute([("EVALSHA", "0" * 40, 0)]),
                connection.execute([("ECHO", "b")]),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [ResponseError, NoScriptError, list]
            assert results[2] == [b"b"]

    runner.run(scenario())


def test_a_connection_that_breaks_fails_every_call_in_flight_and_the_next_connects_anew(runner):
    async def answer(reader, writer):
        for _ in range(3):
            await reader.readuntil(b"PING\r\n")
        if len(connections) == 1:
            writer.write(b"+FIRST\r\n+SEC")  # and then the cable is cut
            await writer.drain()
            writer.close()
        else:
            writer.write(b"+AGAIN\r\n" * 3)

    async def scenario():
        nonlocal connections
        async with server_that(answer) as (url, connections), connected(url) as connection:
            calls = [connection.execute([("PING",)]) for _ in range(3)]
            first, *rest = await asyncio.gather(*calls, return_exceptions=True)
            assert first == [b"FIRST"]
            assert [type(result) for result in rest] == [RedisConnectionError] * 2
            assert await connection.execute([("PING",)] * 3) == [b"AGAIN"] * 3
            assert len(connections) == 2

    connections = []
    runner.run(scenario())


def test_what_is_not_redis_is_refused(runner):
    async def answer(reader, writer):
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def scenario():
        async with server_that(answer) as (url, _), connected(url) as connection:
            with pytest.raises(RedisConnectionError, match="not an answer of Redis"):
                await connection.execute([("PING",)])

    runner.run(scenario())


def test_an_answer_that_nobody_asked_for_ends_the_connection(runner):
    async def answer(reader, writer):
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+PONG\r\n+PONG\r\n")

    async def scenario():
        async with server_that(answer) as (url, connections), connected(url) as connection:
            for number in range(1, 4):
                assert await connection.execute([("PING",)]) == [b"PONG"]
                assert len(connections) == number

    runner.run(scenario())


def test_a_connection_with_an_answer_long_due_is_given_up(runner):
    asked = asyncio.Event()

    async def answer(reader, writer):
        await reader.readuntil(b"PING\r\n")
        if asked.is_set():
            writer.write(b"+PONG\r\n")
        asked.set()

    async def scenario():
        async with server_that(answer) as (url, connections), connected(url) as connection:
            given_up = asyncio.create_task(connection.execute([("PING",)]))
            await asked.wait()
            given_up.cancel()
            connection._link._calls[0].sent_s -= 6  # as if it had been sent then
            assert await connection.execute([("PING",)]) == [b"PONG"]
            assert len(connections) == 2

    runner.run(scenario())


def test_nobody_there_says_where(runner, own_redis):
    own_redis.kill()

    async def scenario():
        async with connected(own_redis.url) as connection:
            results = await asyncio.gather(
                *(connection.execute([("PING",)]) for _ in range(5)), return_exceptions=True
            )
            assert {type(result) for result in results} == {RedisConnectionError}
            assert f"127.0.0.1:{own_redis.port}" in str(results[0])

    runner.run(scenario())


def test_a_caller_that_gives_up_while_connecting_does_not_disturb_the_others(runner, own_redis):
    async def scenario():
        async with connected(f"redis://127.0.0.1:{own_redis.port}/1") as connection:
            own_redis.process.send_signal(signal.SIGSTOP)  # connects, but SELECT is not answered
            try:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await connection.execute([("PING",)])
                other = asyncio.create_task(connection.execute([("PING",)]))
                await asyncio.sleep(0)
            finally:
                own_redis.process.send_signal(signal.SIGCONT)
            assert await other == [b"PONG"]

    runner.run(scenario())
