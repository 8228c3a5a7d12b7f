"""Requests that a client sends before it has the responses to those before them."""

import socket

import numpy as np
import pytest
import torch
from support import Running

from simplenet import load_model_for_inference

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


def test_what_follows_a_last_request_is_not_answered(server, rows):
    bodies, expected = rows
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(prediction(bodies[0]) + prediction(bodies[1], more=LAST) + prediction(bodies[2]))
        first, last = responses(connection, 2)
        assert connection.recv(1) == b""
    for (status, body), row in zip((first, last), expected, strict=False):
        assert status == 200
        np.testing.assert_allclose(np.frombuffer(body, "<f4"), row, atol=1e-6)
