"""The service's benchmark at toy sizes: it runs against real processes, and its generator counts right."""

import asyncio
import contextlib
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from benchmarks import load, profile_service, service, service_report
from benchmarks.load_process import generator, get, measure_generator, post
from benchmarks.service_data import Source, made_up, make_artifact, of_full_length
from benchmarks.service_measure import carried, describe, histogram
from benchmarks.service_process import free_port, running_redis
from benchmarks.service_traffic import make_traffic

ARTIFACT = Path(__file__).parents[1] / "data" / "artifact-schema-1"


def test_schedules_are_decided_beforehand():
    due = load.poisson(1000, 5, seed=3)
    assert np.array_equal(due, load.poisson(1000, 5, seed=3))
    assert 4500 < len(due) < 5500
    assert (np.diff(due) >= 0).all()
    assert due[-1] < 5
    assert load.constant(4, 1).tolist() == [0, 0.25, 0.5, 0.75]


class Server:
    """Answers each request with the next of some canned answers, byte by byte if so asked."""

    def __init__(self, answers: list[bytes], pieces: int = 1) -> None:
        self.answers, self.pieces, self.port, self.connections = answers, pieces, 0, 0
        self.ready, self.loop = threading.Event(), asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=[self._serve()])

    def __enter__(self) -> "Server":
        self.thread.start()
        assert self.ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join()
        self.loop.close()

    async def _serve(self) -> None:
        self.stopped = asyncio.Event()
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await self.stopped.wait()
        server.close()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})  # the connections' ends

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            try:
                await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionResetError):
                break
            answer = self.answers.pop(0)
            step = -(-len(answer) // self.pieces)
            for start in range(0, len(answer), step or 1):
                writer.write(answer[start : start + step])
                await writer.drain()
                await asyncio.sleep(0)
            if b"connection: close" in answer or not answer:
                break
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()


def answer(status: int, body: bytes = b"", extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), extra, body)


@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_generator_tells_answers_apart(pieces):
    answers = [answer(200, b"good", b"Server-Timing: encode;dur=1.5\r\n"), answer(503), answer(200, b"bad")]
    with Server(answers, pieces) as server:
        plan = load.Plan(
            server.port, [get("/x")], load.all_at_once(3), connections=1, expected=(b"good",), patience_s=20
        )
        found = load.run(plan)
    assert found.status.tolist() == [200, 503, 200]
    assert found.timings == [b"encode;dur=1.5", b"", b""]
    assert found.unexpected == 1
    assert np.isfinite(found.latency_s).all()
    described = describe(found)
    assert described["statuses"] == {"200": 2, "503": 1}
    assert (described["refused"], described["failed"], described["not_by_model"]) == (1, 0, 1)
    assert described["stages"]["encode"]["p50_ms"] == 1.5


def test_generator_goes_on_after_a_connection_was_closed_or_lost():
    answers = [answer(200, extra=b"connection: close\r\n"), answer(200), b"", answer(200)]
    with Server(answers) as server:
        found = load.run(
            load.Plan(server.port, [get("/x")], load.all_at_once(4), connections=1, patience_s=20)
        )
    assert found.status.tolist() == [200, 200, 0, 200]
    assert describe(found)["failed"] == 1


def test_connections_are_opened_when_they_are_needed_and_kept():
    with Server([answer(200)] * 12) as server:
        alone = load.run(load.Plan(server.port, [get("/x")], np.arange(4) * 0.2, patience_s=20))
        assert server.connections == 1
        together = load.run(
            load.Plan(server.port, [get("/x")], load.all_at_once(8), connections=3, patience_s=20)
        )
        assert 2 <= server.connections <= 4
    assert set(alone.status) == set(together.status) == {200}


def test_an_answer_to_no_question_ends_a_connection_and_no_request():
    """A server may say that it gives an idle connection up: `408` and `Connection: close`."""
    answers = [answer(200) + answer(408, extra=b"connection: close\r\n"), answer(200)]
    with Server(answers) as server:
        plan = load.Plan(server.port, [get("/x")], np.array([0, 0.5]), connections=1, patience_s=20)
        found = load.run(plan)
    assert found.status.tolist() == [200, 200]


def test_latency_counts_from_when_a_request_was_due():
    """One connection, two requests due at once: the second's latency holds the first's."""
    with Server([answer(200)] * 2) as server:
        found = load.run(
            load.Plan(server.port, [get("/x")], load.all_at_once(2), connections=1, patience_s=20)
        )
    assert found.late_s[1] >= found.latency_s[0]
    assert found.latency_s[1] > found.late_s[1]


def test_generator_without_a_server_reports_no_answers():
    found = load.run(load.Plan(free_port(), [get("/x")], load.all_at_once(3), patience_s=0.01))
    assert found.status.tolist() == [0, 0, 0]
    assert not carried(describe(found), 1)


def test_generator_in_its_own_process_answers_everything():
    measured = measure_generator(rate=200, seconds=0.3)
    assert measured["answered"] == measured["requests"] > 0
    with generator() as process:
        assert process.submit(os.getpid).result() != os.getpid()


def test_histogram_keeps_every_latency_to_a_bucket():
    values = np.array([0.5, 0.501, 10.0, 900.0])
    kept = histogram(values)
    assert sum(count for _, count in kept) == 4
    edges = np.repeat([edge for edge, _ in kept], [int(count) for _, count in kept])
    assert (np.abs(edges / values - 1) < 0.012).all()
    assert (edges >= values * 0.9999).all()


def test_traffic_names_users_whose_histories_are_appended():
    traffic = make_traffic([np.array([1, 2]), np.array([3])], 200, stored=0.5)
    assert traffic.appends[1] == post("/users/user-1/events", b'{"events":[{"item_id":"item-00000003"}]}')
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in traffic.requests]
    named = [body for body in bodies if "user_id" in body]
    assert 60 < len(named) < 140
    assert {body["user_id"] for body in named} == {"user-0", "user-1"}
    assert {tuple(body["history"]) for body in bodies if "history" in body} == {
        ("item-00000001", "item-00000002"), ("item-00000003",)
    }  # fmt: skip


def test_made_up_users_take_popular_items():
    histories = made_up(np.array([900, 50, 0, 50]), 500, longest=6, seed=0)
    assert {len(history) for history in histories} == {1, 2, 3, 4, 5, 6}
    shares = np.bincount(np.concatenate(histories), minlength=4) / sum(map(len, histories))
    assert shares[0] > 0.8
    assert shares[2] == 0


def test_a_larger_catalogue_keeps_the_real_items_first(tmp_path):
    source = Source.trained(ARTIFACT, None, users=50)
    path, histories = make_artifact(tmp_path, source, 100)
    codes = np.load(path / "item_codes.npy")
    assert codes.shape == (100, 4)
    assert np.array_equal(codes[:60], source.codes)
    assert make_artifact(tmp_path, source, 100)[0] == path  # it is there
    smaller, cut = make_artifact(tmp_path, source, 20)
    assert np.array_equal(np.load(smaller / "item_codes.npy"), source.codes[:20])
    assert max(history.max() for history in cut) < 20
    assert len(histories) == 50
    assert {len(history) for history in of_full_length(source, 3).histories} == {8}


def test_redis_of_the_benchmark_answers():
    with running_redis() as url:
        assert url.startswith("redis://127.0.0.1:")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("bench")
    output = directory / "service.json"
    arguments = ["--quick", "--artifact", str(ARTIFACT), "--directory", str(directory)]
    assert service.main([*arguments, "--output", str(output)]) == 0
    return output


def test_quick_run_measures_the_service_and_its_peer(results):
    found = json.loads(results.read_text())
    [row] = found["services"]
    assert (row["items"], row["store"], row["workers"]) == (60, "sqlite", 1)
    assert row["ready_s"] > 0
    assert row["memory"]["rss_bytes"] >= row["memory"]["pss_bytes"] > 0
    for run in (row["idle"], *row["fixed"]):
        assert run["statuses"].keys() == {"200"}
        assert run["cpu_ms_per_request"] > 0
        assert sum(count for _, count in run["histogram"]) == run["requests"]
        assert {"encode", "score", "respond"} <= run["stages"].keys()
    assert [peer["module"] for peer in found["peer"]] == [service.OURS, service.PEER]


def test_report_renews_only_what_is_between_the_marks(results, tmp_path):
    readme, details = tmp_path / "README.md", tmp_path / "operations.md"
    for path in (readme, details):
        path.write_text(f"before\n{service_report.BEGIN}\nstale\n{service_report.END}\nafter\n")
    assert service_report.main([str(results), "--readme", str(readme), "--details", str(details)]) == 0
    for path in (readme, details):
        text = path.read_text()
        assert text.startswith(f"before\n{service_report.BEGIN}\nMeasured on 20")
        assert text.endswith(f"{service_report.END}\nafter\n")
        assert "| trained 60, sqlite | " in text
        assert "stale" not in text


def test_a_peer_with_other_answers_is_not_measured(monkeypatch, tmp_path, capsys):
    answers = iter([["a"], ["b"]])
    monkeypatch.setattr(service, "_answers", lambda *_: next(answers))
    arguments = ["--quick", "--artifact", str(ARTIFACT), "--directory", str(tmp_path)]
    assert service.main([*arguments, "--output", str(tmp_path / "service.json")]) == 1
    assert "other items" in capsys.readouterr().err


def test_profile_shows_layers_and_stages(tmp_path, capsys):
    arguments = [
        "--artifact",
        str(ARTIFACT),
        "--items",
        "0",
        "--requests",
        "20",
        "--directory",
        str(tmp_path),
    ]
    assert profile_service.main(arguments) == 0
    shown = capsys.readouterr().out
    for layer in (
        "parse and check the body",
        "encode",
        "score",
        "application: POST /recommend",
        "server: GET /livez",
    ):
        assert f"\n{layer}" in shown
