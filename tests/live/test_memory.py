"""A server told that it has 2 GiB: large bodies beyond its budget are refused, and nothing dies or outgrows it.

A second server has a budget of one large body, and closes the connection of a client that has left after a second.
"""

import http.client
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from threading import Event

import psutil
import pytest
from support import Running, processes_of, worker_pids

LIMIT = 2 << 30
ROWS = 4096
LARGE = bytes(ROWS * 784 * 4)
SMALL = bytes(784 * 4)
HEADERS = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}


@pytest.fixture(scope="module")
def server(start_shared_server, model_store) -> Running:
    return start_shared_server("--model-store", model_store, SIMPLENET_MEMORY="2g")


def post(server: Running, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        connection.request("POST", "/predictions/simplenet", body, HEADERS)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def head(body: bytes, *more: str) -> bytes:
    return head_of(f"Content-Length: {len(body)}", *more)


def head_of(*more: str) -> bytes:
    lines = ["POST /predictions/simplenet HTTP/1.1", "Host: localhost", *more]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in HEADERS.items()), "", ""]).encode()


def connect(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def status(connection: socket.socket) -> int:
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        response.read()
        return response.status


def chunks(body: bytes, size: int = 10_000) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


def leave(connection: socket.socket) -> None:
    """End a connection and wait until the frontend has ended it too, its charge given back."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass


@contextmanager
def full(server: Running, body: bytes = LARGE) -> Iterator[None]:
    """As many bodies are on their way as the budget has room for: their heads have come."""
    with ExitStack() as connections:
        for _ in range(64):
            connection = connections.enter_context(connect(server))
            connections.callback(leave, connection)
            connection.sendall(head(body, "Expect: 100-continue"))
            said = connection.recv(64)
            if b" 503 " in said:
                break
            assert said.startswith(b"HTTP/1.1 100 ")
        else:
            pytest.fail(f"64 bodies of {len(body)} bytes were let in")
        yield


def test_what_was_chosen_is_said_at_the_start(server):
    line = next(line for line in server.output.splitlines() if line.startswith("memory: "))
    assert re.fullmatch(
        r"memory: 2.0 GiB offered; Java heap [\d.]+ MiB, direct [\d.]+ MiB: up to \d+ bodies of 16 MiB at once", line
    )


def test_a_body_beyond_the_budget_is_refused_and_the_connection_lives_on(server):
    with full(server), connect(server) as connection:
        connection.sendall(head(LARGE) + LARGE)
        assert status(connection) == 503
        connection.sendall(head(SMALL) + SMALL)
        assert status(connection) == 200  # and small bodies are let in however many large ones there are


def test_a_body_over_the_limit_of_one_is_413_also_when_the_budget_is_full(server):
    with full(server):
        assert post(server, bytes(17 << 20))[0] == 413


def test_the_budget_is_given_back_when_the_clients_leave(server):
    with full(server):
        assert post(server, LARGE)[0] == 503
    deadline = time.monotonic() + 60
    while (answer := post(server, LARGE))[0] == 503:  # until the frontend has seen them leave
        assert time.monotonic() < deadline
    assert (answer[0], len(answer[1])) == (200, ROWS * 10 * 4)


def test_a_client_that_has_said_all_gets_its_answer(server):
    with connect(server) as connection:
        connection.sendall(head(LARGE) + LARGE)
        connection.shutdown(socket.SHUT_WR)
        assert status(connection) == 200
        assert connection.recv(1) == b""  # then the connection ends


def test_an_idle_connection_ends_when_its_client_leaves(server):
    with connect(server) as connection:
        connection.sendall(head(SMALL) + SMALL)
        assert status(connection) == 200
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


@pytest.mark.parametrize("clients", [4, 16, 64])
def test_what_fits_is_answered_and_the_rest_refused_within_the_limit(server, clients):
    before = set(processes_of(server.port))
    peak, over = 0, Event()

    def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, sum(psutil.Process(pid).memory_full_info().pss for pid in before))
            if over.wait(0.1):
                break

    with ThreadPoolExecutor(clients + 1) as pool:
        watching = pool.submit(watch)
        answers = list(pool.map(lambda _: post(server, LARGE), range(clients)))
        over.set()
        watching.result()
    assert {code for code, _ in answers} <= {200, 503}
    served = [body for code, body in answers if code == 200]
    assert served
    assert {len(body) for body in served} == {ROWS * 10 * 4}
    assert b'"code":503' in next((body for code, body in answers if code == 503), b'"code":503')
    assert set(processes_of(server.port)) == before
    assert worker_pids(server.port) <= before
    assert 0 < peak < LIMIT - (200 << 20)  # `serve` itself, in the foreground, takes the rest


def test_ordinary_traffic_is_not_refused(server):
    with ThreadPoolExecutor(256) as pool:
        answers = list(pool.map(lambda _: post(server, SMALL), range(1024)))
    assert {code for code, _ in answers} == {200}


TINY_BUDGET = 1_000_000
MIDDLING = bytes(200 * 784 * 4)  # charged, and only one at a time fits


@pytest.fixture(scope="module")
def tiny(start_shared_server, model_store) -> Running:
    options = f"-Dsimplenet.body.budget={TINY_BUDGET} -Dsimplenet.body.timeout=1"
    return start_shared_server(
        "--model-store", model_store, "--max-queue-wait", "3", _JAVA_OPTIONS=options
    )  # wins over the command line


def test_a_small_chunked_body_is_let_in_however_full_the_budget_is(tiny):
    with full(tiny, MIDDLING), connect(tiny) as connection:
        connection.sendall(head_of("Transfer-Encoding: chunked") + chunks(SMALL))
        assert status(connection) == 200


@pytest.mark.parametrize("size", [10_000, 300_000])  # of a chunk
def test_a_large_chunked_body_beyond_the_budget_is_refused_and_the_connection_lives_on(tiny, size):
    with full(tiny, MIDDLING), connect(tiny) as connection:
        connection.sendall(head_of("Transfer-Encoding: chunked") + chunks(MIDDLING, size))
        assert status(connection) == 503
        connection.sendall(head(SMALL) + SMALL)
        assert status(connection) == 200


def test_large_chunked_bodies_are_let_in_one_after_another(tiny):
    with connect(tiny) as connection:
        for _ in range(4):
            connection.sendall(head_of("Transfer-Encoding: chunked") + chunks(MIDDLING))
            assert status(connection) == 200


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
def test_a_body_that_never_fits_is_413(tiny, expect):
    body = bytes(TINY_BUDGET + 1)
    with connect(tiny) as connection:
        connection.sendall(head(body, *expect) + (b"" if expect else body))
        assert status(connection) == 413


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
@pytest.mark.parametrize("length", ["abc", "99999999999999999999"])
def test_a_content_length_that_is_no_number_is_400(tiny, length, expect):
    with connect(tiny) as connection:
        connection.sendall(head_of(f"Content-Length: {length}", *expect))
        assert status(connection) == 400


def test_a_chunk_that_is_broken_is_400_and_no_body_that_ended(tiny):
    with connect(tiny) as connection:
        connection.sendall(head_of("Transfer-Encoding: chunked") + chunks(SMALL)[:-5] + b"ZZ\r\n")
        assert status(connection) == 400


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
def test_a_negative_content_length_is_400(tiny, expect):
    with connect(tiny) as connection:
        connection.sendall(head_of("Content-Length: -5", *expect))
        assert status(connection) == 400


def test_a_refused_expectation_ends_the_connection_if_its_client_wants_that(tiny):
    with full(tiny, MIDDLING), connect(tiny) as connection:
        connection.sendall(head(MIDDLING, "Expect: 100-continue", "Connection: close"))
        assert status(connection) == 503
        assert connection.recv(1) == b""


def test_a_client_that_left_and_gets_no_response_keeps_neither_its_connection_nor_its_charge(tiny):
    (worker,) = worker_pids(tiny.port)
    psutil.Process(worker).suspend()
    try:
        with connect(tiny) as connection:
            connection.sendall(head(MIDDLING) + MIDDLING)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        deadline = time.monotonic() + 60
        while True:
            with connect(tiny) as connection:
                connection.sendall(head(MIDDLING, "Expect: 100-continue"))
                if connection.recv(64).startswith(b"HTTP/1.1 100 "):
                    break
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        psutil.Process(worker).resume()
    assert post(tiny, SMALL)[0] == 200
