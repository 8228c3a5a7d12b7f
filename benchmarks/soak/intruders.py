"""Clients that behave badly: they stall, drip, vanish, or come all at once."""

import random
import selectors
import socket
import time
from collections import Counter
from contextlib import suppress
from threading import Event

from benchmarks.soak.client import head, reset
from benchmarks.soak.collection import PATH, Request

UPLOAD = 16_000_000  # bytes that a stalled client announces
STEP_S = 0.05


def connect(port: int) -> socket.socket | None:
    """A connection, or None if it is not accepted in time."""
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=2)
    except OSError:
        return None


def stall(port: int, clients: int, hold_s: float, ended: Event) -> list[socket.socket]:
    """Announce a large body from each client and do not send all of it; after `hold_s` they leave without a word.

    Most send 16 bytes, some 64 KiB, and every tenth all but the last byte.
    """
    connections = [connection for _ in range(clients) if (connection := connect(port))]
    for number, connection in enumerate(connections):
        with suppress(OSError):
            connection.sendall(head(UPLOAD) + bytes(_uploaded(number)))
    ended.wait(hold_s)
    for connection in connections:
        reset(connection)
    return connections


def _uploaded(number: int) -> int:
    if number % 10 == 5:
        return UPLOAD - 1
    return 65_536 if number % 4 == 0 else 16


def drip(port: int, request: Request, clients: int, seconds: float, ended: Event) -> None:
    """Send a good request byte by byte from each client, and leave before its end."""
    connections = [connection for _ in range(clients) if (connection := connect(port))]
    data, at = raw_request(request), 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and at < len(data) - 1 and not ended.wait(STEP_S):
        for connection in connections:
            with suppress(OSError):
                connection.sendall(data[at : at + 1])
        at += 1
    for connection in connections:
        connection.close()


def vanish(port: int, request: Request, clients: int, chance: random.Random) -> None:
    """Reset connections in the middle of the request, or right after it: in the middle of the response."""
    data = raw_request(request)
    for number in range(clients):
        connection = connect(port)
        if connection is None:
            continue
        with suppress(OSError):
            connection.sendall(data if number % 2 else data[: chance.randrange(1, len(data))])
            if number % 4 == 1:
                connection.recv(1)  # the response has begun
        reset(connection)


def burst(port: int, requests: list[Request], clients: int, seconds: float, ended: Event) -> Counter[str]:
    """Open so many connections and send one request on each; how the server answered, by status.

    A connection that the server does not accept or closes counts as refused: this is more than it is made for.
    """
    outcomes: Counter[str] = Counter()
    waiting = selectors.DefaultSelector()
    deadline = time.monotonic() + seconds
    for number in range(clients):
        if ended.is_set():
            break
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", port))
        request = requests[number % len(requests)]
        waiting.register(connection, selectors.EVENT_WRITE, (request, bytearray()))
    while waiting.get_map() and time.monotonic() < deadline and not ended.is_set():
        for key, _ in waiting.select(0.1):
            _advance(waiting, key, outcomes)
    for key in list(waiting.get_map().values()):
        outcomes["no answer yet"] += 1
        reset(key.fileobj)  # type: ignore[arg-type]
    waiting.close()
    return outcomes


def _advance(waiting: selectors.BaseSelector, key: selectors.SelectorKey, outcomes: Counter[str]) -> None:
    """Send a request on a connection that is open, or read the answer on one that has sent it."""
    connection: socket.socket = key.fileobj  # type: ignore[assignment]
    request, received = key.data
    try:
        if key.events & selectors.EVENT_WRITE:
            connection.sendall(raw_request(request))
            waiting.modify(connection, selectors.EVENT_READ, key.data)
            return
        data = connection.recv(65_536)
    except BlockingIOError:
        return
    except OSError:
        data = b""
    received += data
    status = status_if_whole(bytes(received))
    if data and status is None:
        return
    outcomes[_outcome(request, bytes(received), status)] += 1
    waiting.unregister(connection)
    connection.close()


def _outcome(request: Request, received: bytes, status: int | None) -> str:
    if status != 200:
        return "refused" if status is None else str(status)
    headers, _, body = received.partition(b"\r\n\r\n")
    content_type = _header(headers, b"content-type").decode()
    return "200" if request.weights_that_answer(content_type, body) else "WRONG"


def status_if_whole(received: bytes) -> int | None:
    r"""The status of a response once all of it is there.

    Example:
        >>> status_if_whole(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        200
        >>> status_if_whole(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no") is None
        True
    """
    headers, end, body = received.partition(b"\r\n\r\n")
    if not end or len(body) < int(_header(headers, b"content-length") or 0):
        return None
    return int(headers[9:12])


def _header(headers: bytes, name: bytes) -> bytes:
    pairs = (line.partition(b":") for line in headers.split(b"\r\n")[1:])
    return next((value.strip() for key, _, value in pairs if key.lower() == name), b"")


def raw_request(request: Request) -> bytes:
    """The bytes of a request on the wire."""
    lines = [f"POST {PATH} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(request.body)}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + request.body
