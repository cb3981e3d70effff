"""Clients that send what no HTTP library would: a real server, and sockets."""

import contextlib
import json
import socket
import time

import httpx
import pytest

BODY = json.dumps({"history": ["i1", "i2"], "k": 3}).encode()
RECOMMEND = b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
LEAKS = ("Traceback", "/site-packages", "/service/", "Error(", "uvicorn", "httptools")


@pytest.fixture(scope="module")
def service(start_shared_service):
    return start_shared_service(receive_timeout_s=2, max_body_bytes=200_000)


class Wire:
    """A socket with what has been read from it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        # A server that has refused may have closed already; its answer may still be there.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def read_all(self) -> bytes:
        """Read until the server closes."""
        received = b""
        while True:
            try:
                piece = self.socket.recv(65_536)
            except ConnectionResetError:
                return received
            if not piece:
                return received
            received += piece

    def read_answer(self) -> tuple[int, bytes]:
        """Read one answer that has a length."""
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.socket.recv(65_536)
            assert piece, f"closed after {head!r}"
            head += piece
        head, _, body = head.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(body) < int(fields.get(b"content-length", 0)):
            body += self.socket.recv(65_536)
        return int(head[9:12]), body


@pytest.fixture
def wire(service):
    with Wire(service.port) as wire:
        yield wire


@pytest.fixture(autouse=True)
def still_well(service):
    """After every attack the service answers, and its log holds no failure."""
    yield
    answer = httpx.post(f"{service.url}/recommend", content=BODY)
    assert answer.status_code == 200
    assert len(answer.json()["items"]) == 3
    log = service.log.read_text()
    assert "Traceback" not in log
    assert "request failed" not in log


def statuses(received: bytes) -> list[int]:
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def check_refusal(received: bytes, status: int) -> None:
    """One problem document, and nothing of the inside."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert statuses(received) == [status], received[:500]
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == status
    assert not [leak for leak in LEAKS if leak in received.decode()]


def test_a_client_that_stops_sending_is_answered_408_and_closed(service):
    beginnings = [
        b"",
        b"POST /recom",
        b"POST /recommend HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"\r\n",
        b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
        b'POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"history": [',
        b"POST /recommend HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ]
    slow = [Wire(service.port) for _ in beginnings]
    for wire, sent in zip(slow, beginnings, strict=True):
        wire.send(sent)
    for wire in slow:
        check_refusal(wire.read_all(), 408)
        wire.socket.close()


def test_a_client_that_sends_a_byte_now_and_then_is_closed_too(wire):
    started = time.monotonic()
    wire.socket.settimeout(0.05)
    received = b""
    for byte in RECOMMEND * 50:
        wire.send(bytes([byte]))
        try:
            received = wire.socket.recv(65_536)
        except TimeoutError:
            continue
        break
    check_refusal(received, 408)
    assert time.monotonic() - started < 20


def test_slow_clients_keep_nobody_else_from_being_served(service):
    slow = [Wire(service.port) for _ in range(200)]
    for wire in slow:
        wire.send(b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
    with Wire(service.port) as quick:
        quick.send(RECOMMEND)
        assert quick.read_answer()[0] == 200
    for wire in slow:
        check_refusal(wire.read_all(), 408)
        wire.socket.close()


def test_a_client_that_never_reads_is_cut_off(service):
    """Its answers are more than the kernel keeps for it, so that the rest would stay in the process."""
    with Wire(service.port) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = json.dumps({"history": [f"{number}{'y' * 200}" for number in range(900)]}).encode()
        head = b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        wire.socket.setblocking(False)
        unsent = (head + body) * 60
        ends = time.monotonic() + 30
        while not wire.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            assert time.monotonic() < ends, "still connected"
            try:
                unsent = unsent[wire.socket.send(unsent) :] if unsent else unsent
            except BlockingIOError:
                time.sleep(0.01)
            except (BrokenPipeError, ConnectionResetError):
                break


def test_a_connection_that_is_used_slowly_but_wholly_stays_open(wire):
    """The time limit is of one request, not of the connection."""
    for _ in range(5):
        wire.send(RECOMMEND[:40])
        wire.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            wire.socket.recv(1)
        wire.socket.settimeout(20)
        wire.send(RECOMMEND[40:])
        assert wire.read_answer()[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\nX-Large: " + b"x" * 1_000_000,
        b"GET /livez HTTP/1.1\r\n" + b"".join(b"X-%d: yyyyyyyy\r\n" % n for n in range(50_000)) + b"\r\n",
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["one header", "many headers", "address"],
)  # fmt: skip
def test_a_head_of_any_size_is_not_kept(wire, head):
    wire.send(head)
    check_refusal(wire.read_all(), 431)


def test_a_head_within_the_limit_is_served(wire):
    wire.send(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 60_000 + b"\r\n\r\n")
    assert wire.read_answer()[0] == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET\r\n\r\n",
        b"G\xc3\x89T /livez HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /recommend HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /recommend HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n",
        b"POST /recommend HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}{}{}",
        b"POST /recommend HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /recommend HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /recommend HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_closed(wire, request_):
    wire.send(request_)
    wire.socket.shutdown(socket.SHUT_WR)
    check_refusal(wire.read_all(), 400)


@pytest.mark.parametrize("size", [b"zz", b"-1", b"FFFFFFFFFFFFFFFFFF", b"5;" + b"x" * 100 + b"\n"])
def test_a_chunk_that_lies_ends_the_connection(wire, size):
    wire.send(
        b"POST /recommend HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\n{}\r\n"
    )
    wire.socket.shutdown(socket.SHUT_WR)
    check_refusal(wire.read_all(), 400)


def test_a_chunked_body_beyond_the_limit_is_refused(wire):
    wire.send(b"POST /recommend HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(20):
        wire.send(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
    status, body = wire.read_answer()
    assert (status, json.loads(body)["type"]) == (413, "urn:recjpq:problem:body-too-large")


def test_a_body_shorter_than_it_says_is_never_answered_200(wire):
    wire.send(RECOMMEND[:-5])
    wire.socket.shutdown(socket.SHUT_WR)
    assert 200 not in statuses(wire.read_all())


def test_what_follows_a_body_is_another_request(wire):
    """Content-Length too small: the rest is not taken for part of the body."""
    wire.send(RECOMMEND + b'}{"k": 1}' + b"\r\n\r\n")
    received = wire.read_all()
    assert statuses(received) in ([200, 400], [200], [400])


def test_a_client_that_has_sent_all_and_closed_its_side_is_answered(wire):
    wire.send(RECOMMEND)
    wire.socket.shutdown(socket.SHUT_WR)
    received = wire.read_all()
    assert statuses(received) in ([200], [])  # some servers take the end of sending for the end of interest


def test_expect_100_continue(wire):
    head, _, body = RECOMMEND.partition(b"\r\n\r\n")
    wire.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert wire.socket.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(body)
    assert wire.read_answer()[0] == 200


def test_pipelined_requests_are_answered_in_order(wire):
    wire.send(LIVEZ + RECOMMEND + b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert statuses(wire.read_all()) == [200, 200, 404]


def test_what_is_no_request_leaves_the_answer_before_it_whole(wire):
    wire.send(RECOMMEND + b"no request at all\r\n\r\n")
    assert statuses(wire.read_all())[:1] == [200]


def test_pipelining_is_bounded(wire):
    wire.send(LIVEZ * 9000)
    found = statuses(wire.read_all())
    assert len(found) < 200
    assert set(found) <= {200, 400}


def test_an_upgrade_is_not_taken(wire):
    upgrade = b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    wire.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + upgrade + b"Sec-WebSocket-Key: eA==\r\n\r\n")
    wire.socket.shutdown(socket.SHUT_WR)
    assert 101 not in statuses(wire.read_all())


@pytest.mark.parametrize(
    "path", [b"/%2e%2e/%2e%2e/etc/passwd", b"/..%2f..%2fetc/passwd", b"//etc/passwd", b"/%00"]
)
def test_paths_lead_nowhere(wire, path):
    wire.send(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    check_refusal(wire.read_all(), 404)


def test_a_request_id_cannot_split_the_answer(wire):
    wire.send(LIVEZ[:-2] + b"X-Request-ID: a%0d%0aSet-Cookie: b=1\r\nConnection: close\r\n\r\n")
    received = wire.read_all()
    assert statuses(received) == [200]
    assert b"Set-Cookie" not in received
