"""Many connections in a closed loop, in one thread: what became of every request, and when it was sent."""

import selectors
import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread

from benchmarks.soak.collection import Request
from benchmarks.soak.intruders import raw_request, status_if_whole

AFTER_503_S = 0.1  # before the next request of a client that was refused
CUT = 0  # in place of a status: the connection ended without an answer


@dataclass
class Sent:
    """One request: when it was sent, when it ended (0 while it has not), and the status of its answer, or CUT."""

    at: float
    ended: float = 0.0
    status: int = CUT


class Crowd:
    """Clients that each send the next request after the answer to the last, until the server accepts them no more.

    A client whose connection is closed between two requests opens another; one whose request is cut off leaves.

    Args:
        port: of the server.
        clients: connections.
        request: what they all send.
        deadline_s: after which they leave.
    """

    def __init__(self, port: int, clients: int, request: Request, deadline_s: float) -> None:
        self.port, self.clients, self.deadline_s = port, clients, deadline_s
        self.sent: list[Sent] = []
        self.ended = Event()
        self._data = raw_request(request)
        self._selector = selectors.DefaultSelector()
        self._resting: deque[tuple[float, socket.socket]] = deque()
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> "Crowd":
        """Connect and begin to send."""
        for _ in range(self.clients):
            self._connect()
        self._thread.start()
        return self

    def join(self) -> list[Sent]:
        """Every request, once every connection has ended."""
        self._thread.join(self.deadline_s + 10)
        return self.sent

    def _run(self) -> None:
        deadline = time.monotonic() + self.deadline_s
        for key in list(self._selector.get_map().values()):
            self._send(key.fileobj)  # type: ignore[arg-type]
        while (self._selector.get_map() or self._resting) and time.monotonic() < deadline and not self.ended.is_set():
            for key, _ in self._selector.select(0.05):
                self._read(key.fileobj, key.data)  # type: ignore[arg-type]
            while self._resting and self._resting[0][0] <= time.monotonic():
                connection = self._resting.popleft()[1]
                if connection.fileno() < 0:
                    with suppress(OSError):  # refused: this client is done
                        self._send(self._connect())
                else:
                    self._send(connection)

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), 10)
        self._selector.register(connection, selectors.EVENT_READ, None)
        return connection

    def _send(self, connection: socket.socket) -> None:
        sent = Sent(time.monotonic())
        self.sent.append(sent)
        self._selector.modify(connection, selectors.EVENT_READ, (sent, bytearray()))
        with suppress(OSError):  # it shows when the answer is read
            connection.sendall(self._data)

    def _read(self, connection: socket.socket, waiting: tuple[Sent, bytearray] | None) -> None:
        try:
            data = connection.recv(65_536)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(connection)
            connection.close()
            if waiting:
                waiting[0].ended = time.monotonic()
            return
        if waiting is None:
            return
        sent, received = waiting
        received += data
        status = status_if_whole(bytes(received))
        if status is None:
            return
        sent.ended, sent.status = time.monotonic(), status
        self._selector.modify(connection, selectors.EVENT_READ, None)
        if status == 200:
            self._send(connection)
        else:
            self._resting.append((time.monotonic() + AFTER_503_S, connection))
