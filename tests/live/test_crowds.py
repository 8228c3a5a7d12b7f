"""Clients that begin many requests and finish none: they hold up nobody, and end after a while."""

import socket
import time
from contextlib import ExitStack, suppress

import psutil
import pytest
import requests
from support import Running

from simplenet.server import find

CONNECTIONS, BUDGET = 20, 1_000_000
HEAD = b"POST /predictions/simplenet HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
BEGUN = {
    "head": HEAD + b"X-Unfinis",
    "small body": HEAD + b"Content-Length: 3136\r\n\r\n" + bytes(1000),
    "chunked body": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3E8\r\n" + bytes(1000),
    "body that is refused": HEAD + b"Content-Length: 900000000\r\n\r\n",
    "no request": b"",
}


@pytest.fixture(scope="module")
def server(start_shared_server, model_store) -> Running:
    """A server that has room for few connections and little patience."""
    options = f"-Dsimplenet.connections={CONNECTIONS} -Dsimplenet.body.budget={BUDGET} -Dsimplenet.body.stall=2"
    return start_shared_server("--model-store", model_store, _JAVA_OPTIONS=options)


def answered(server: Running) -> bool:
    """Whether a prediction is answered, after a second try if need be."""
    for _ in range(60):
        with suppress(requests.ConnectionError):
            response = requests.post(
                server.predictions, data=bytes(3136), timeout=60, headers={"Content-Type": "application/octet-stream"}
            )
            if response.status_code == 200:
                return True
            assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        time.sleep(0.5)
    return False


def connections_of(frontend: psutil.Process, port: int) -> int:
    found = [one for one in frontend.net_connections("tcp") if one.laddr.port == port]
    return sum(one.status == psutil.CONN_ESTABLISHED for one in found)


@pytest.mark.parametrize("begun", BEGUN)
def test_however_many_begin_a_request_the_others_are_answered(server, begun):
    frontend = find(server.port).process()
    with ExitStack() as stack:
        for _ in range(5 * CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            connection.sendall(BEGUN[begun])
        assert answered(server)
        deadline = time.monotonic() + 60
        while (count := connections_of(frontend, server.port)) > CONNECTIONS:  # some are just being ended
            assert time.monotonic() < deadline, count
            time.sleep(0.05)


@pytest.mark.parametrize("begun", ["head", "small body", "chunked body"])
def test_a_request_that_is_never_finished_ends_with_408(server, begun):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(BEGUN[begun])
        received = b""
        while data := connection.recv(65_536):
            received += data
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"2 s" in received


def test_a_body_that_is_refused_and_stalls_ends_its_connection(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(BEGUN["body that is refused"])
        received = b""
        while data := connection.recv(65_536):
            received += data
    assert received.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_reads_no_refusal_loses_its_connection(server):
    address = ("127.0.0.1", server.port)
    with socket.create_connection(address, timeout=60) as connection, pytest.raises(ConnectionError):
        while True:
            connection.sendall(b"GET x HTTP/1.1\r\nHost: x\r\n\r\n" * 10_000)


@pytest.mark.parametrize("more", [b"", b"\r\n"])
def test_a_connection_that_is_idle_stays(server, more):
    head = HEAD.replace(b"simplenet", b"nobody")
    head += b"Content-Length: %d\r\n\r\n" % (16_384 - len(head) - len(b"Content-Length: 16000\r\n\r\n"))
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head + bytes(16_384 - len(head)) + more)  # one read, after which there is nothing
        assert connection.recv(65_536).startswith(b"HTTP/1.1 404 ")
        connection.settimeout(4)  # twice what a head may take
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(60)
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_a_chunked_body_is_charged_for_the_memory_that_it_takes(server):
    begun = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"%x\r\n%s\r\n" % (300_000, bytes(300_000)))
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60)) for _ in range(3)
        ]
        for connection in connections:
            connection.sendall(begun)
        statuses = []
        for connection in connections:
            statuses.append(connection.recv(65_536)[9:12])
    assert sorted(statuses) == [b"408", b"503", b"503"]  # two arrays of 512 KiB are more than the budget
