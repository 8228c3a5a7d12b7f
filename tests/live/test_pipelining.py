"""Requests that a client sends before it has the responses to those before them."""

import socket
import time

import numpy as np
import pytest
import requests
import torch
from support import Running

from simplenet import load_model_for_inference
from simplenet.media_types import RAW
from simplenet.server import find
from simplenet.server.drain import in_flight_of

LAST = "Connection: close\r\n"


@pytest.fixture(scope="module")
def rows(server: Running, digits) -> tuple[list[bytes], np.ndarray]:
    """The bodies of requests, and the probabilities that answer them."""
    with torch.inference_mode():
        expected = torch.softmax(load_model_for_inference(server.checkpoint)(digits[0][:40]), dim=1).numpy()
    return [row.numpy().tobytes() for row in digits[0][:40]], expected


def prediction(body: bytes, path: str = "/predictions/simplenet", more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
    accept = "Accept: application/octet-stream\r\n"
    return f"{head}{accept}{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


def get(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode()


def responses(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Status and body of so many responses."""
    found = []
    with connection.makefile("rb") as stream:
        for _ in range(count):
            status = int(stream.readline().split()[1])
            length = 0
            while (line := stream.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            found.append((status, stream.read(length)))
    return found


@pytest.mark.parametrize("half_closed", [False, True])
def test_pipelined_requests_are_answered_in_order(server, rows, half_closed):
    bodies, expected = rows
    large = b"".join(bodies)  # beyond what one read of the socket takes
    wrong, missing = prediction(b"123"), prediction(bodies[0], "/predictions/nothing")
    parts = [
        *map(prediction, bodies[:20]), wrong, missing, get("/ping"), prediction(large),
        *(part for body in bodies[20:] for part in (prediction(body), get("/ping"))),
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"".join(parts))
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
        found = responses(connection, len(parts))
        if half_closed:
            assert connection.recv(1) == b""
    statuses = [200] * 20 + [400, 404, 200, 200] + [200, 200] * 20
    assert [status for status, _ in found] == statuses
    answered = [body for _, body in found]
    predicted = [*answered[:20], *answered[24::2]]
    for body, row in zip(predicted, expected, strict=True):
        np.testing.assert_allclose(np.frombuffer(body, "<f4"), row, atol=1e-6)
    np.testing.assert_allclose(np.frombuffer(answered[23], "<f4").reshape(expected.shape), expected, atol=1e-6)
    assert all(b"Healthy" in body for body in answered[25::2])


def test_the_body_of_a_response_is_that_of_its_own_request_after_an_interim_one(server, rows):
    bodies, expected = rows
    parts = [prediction(bodies[0], more="Expect: 100-continue\r\n"), b"HEAD /ping HTTP/1.1\r\nHost: x\r\n\r\n"]
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"".join(parts) + get("/ping", LAST))
        received = b""
        while data := connection.recv(65_536):
            received += data
    interim, first, rest = received.split(b"HTTP/1.1 ")[1:4]
    assert interim == b"100 Continue\r\n\r\n"
    np.testing.assert_allclose(np.frombuffer(first.partition(b"\r\n\r\n")[2], "<f4"), expected[0], atol=1e-6)
    assert rest.endswith(b"\r\n\r\n")  # to HEAD
    assert b"Healthy" in received.rpartition(b"HTTP/1.1 ")[2]


def test_a_client_that_reads_nothing_has_one_request_in_flight(server):
    record = find(server.port)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(get("/api-description") * 1000)  # a long answer to each
        counts = [in_flight_of(record) for _ in range(100)]
        assert max(counts) < 10  # with the supervisor's own
        assert requests.get(f"{server.url}/ping", timeout=60).ok


def executed(server: Running) -> float:
    metrics = requests.get(f"http://127.0.0.1:{server.port + 2}/metrics", timeout=60).text
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("ts_inference_requests"))


def test_what_follows_a_last_request_is_not_executed(server, rows):
    sent, before, began = prediction(rows[0][0], more=LAST) + prediction(rows[0][1]), executed(server), time.monotonic()
    for _ in range(40):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(sent)
            while connection.recv(65_536):
                pass
    requests.post(server.predictions, data=rows[0][0], headers={"Content-Type": RAW}, timeout=60)
    probes = time.monotonic() - began + 1  # the supervisor's, of which there is one a second at most
    assert 41 <= executed(server) - before <= 41 + probes


def test_what_follows_a_last_request_is_not_answered(server, rows):
    bodies, expected = rows
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(prediction(bodies[0]) + prediction(bodies[1], more=LAST) + prediction(bodies[2]))
        first, last = responses(connection, 2)
        assert connection.recv(1) == b""
    for (status, body), row in zip((first, last), expected, strict=False):
        assert status == 200
        np.testing.assert_allclose(np.frombuffer(body, "<f4"), row, atol=1e-6)
