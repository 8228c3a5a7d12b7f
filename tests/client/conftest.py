"""A real server that fails as told."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest


class Flaky:
    """Serves one connection after the other, each as the next of `acts` says.

    An act is a response, the bytes to send, "reset", "close" or "hang"; of a pair of bytes the second are sent again
    and again, slowly, until the client goes.
    """

    def __init__(self, acts: list[object]) -> None:
        self.acts, self.times = list(acts), []
        self.connection: socket.socket | None = None
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/predictions/simplenet"
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        for act in self.acts:
            try:
                connection = self.socket.accept()[0]
            except OSError:  # closed: the test has ended
                return
            self.times.append(time.monotonic())
            connection.settimeout(30)  # for one that neither sends nor goes
            self.connection = connection
            with connection, suppress(OSError):  # a client that has gone
                self._read_request(connection)
                if act == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif act == "hang":
                    self.done.wait(60)
                elif isinstance(act, bytes):
                    connection.sendall(act)
                elif isinstance(act, tuple) and isinstance(act[0], bytes):
                    self._drip(connection, *act)
                elif act != "close":
                    status, headers, body = act
                    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close"]
                    lines += [f"{name}: {value}" for name, value in headers.items()]
                    connection.sendall("\r\n".join([*lines, "", body]).encode())

    def _read_request(self, connection: socket.socket) -> None:
        """A request, a CONNECT, or the start of a TLS handshake."""
        head = b""
        while b"\r\n\r\n" not in head and head[:1] != b"\x16":
            head += self._received(connection, 1)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        while length:
            length -= len(self._received(connection, length))

    def _received(self, connection: socket.socket, most: int) -> bytes:
        data = connection.recv(most)
        if not data:
            raise ConnectionError("the client has gone")
        return data

    def _drip(self, connection: socket.socket, first: bytes, again: bytes) -> None:
        connection.sendall(first)
        while not self.done.wait(0.1):
            connection.sendall(again)

    def end(self) -> None:
        self.done.set()
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        if self.connection is not None:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        self.thread.join()


@pytest.fixture
def flaky() -> Iterator[object]:
    servers = []

    def start(*acts: object) -> Flaky:
        servers.append(Flaky([*acts]))
        return servers[-1]

    yield start
    for server in servers:
        server.end()
