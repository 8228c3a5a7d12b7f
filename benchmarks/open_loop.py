"""Open loop: requests start at a fixed rate, whether or not earlier ones have a response.

Latency counts from the intended start of a request, so that a server which stalls pays for every request that had to
wait (no coordinated omission). One thread, non-blocking sockets, epoll.
"""

import contextlib
import select
import socket
import time
from collections import deque
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.loads import Body

MAX_CONNECTIONS = 256
DRAIN_S = 5.0  # responses later than this after the last start count as errors


class Connection:
    """A keep-alive connection with at most one request under way."""

    def __init__(self, host: str, port: int, epoll: select.epoll) -> None:
        self.socket = socket.create_connection((host, port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.fd = self.socket.fileno()
        self.epoll = epoll
        epoll.register(self.fd, select.EPOLLIN)
        self.intended = 0.0
        self.response = bytearray()
        self.unsent = memoryview(b"")

    def start(self, request: bytes, intended: float) -> None:
        self.intended = intended
        self.response.clear()
        self.unsent = memoryview(request)
        self.send()

    def send(self) -> None:
        """Send what the socket accepts; the rest waits until it accepts more."""
        with contextlib.suppress(BlockingIOError):
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        if self.unsent:
            self.epoll.modify(self.fd, select.EPOLLIN | select.EPOLLOUT)

    def receive(self) -> int | None:
        """The status once the response is complete, else None.

        Raises:
            ConnectionError: the server closed.
        """
        data = self.socket.recv(262144)
        if not data:
            raise ConnectionResetError("closed by the server")
        self.response += data
        return int(self.response[9:12]) if _is_complete(self.response) else None

    def close(self) -> None:
        self.epoll.unregister(self.fd)
        self.socket.close()


class Generator:
    """Starts `rate` requests per second for `seconds` and waits for their responses."""

    def __init__(self, url: str, body: Body, rate: float, seconds: float) -> None:
        parts = urlsplit(url)
        self.address = parts.hostname or "127.0.0.1", parts.port or 80
        self.request = _request(parts.path, parts.netloc, body)
        self.rate, self.total = rate, max(1, int(rate * seconds))
        self.epoll = select.epoll()
        self.idle: list[Connection] = []
        self.busy: dict[int, Connection] = {}
        self.waiting: deque[float] = deque()  # intended starts of requests without a free connection
        self.latencies: list[float] = []
        self.lateness: list[float] = []  # of the generator itself: how long after the intended start it acted
        self.errors = 0

    def run(self) -> dict[str, Any]:
        try:
            begin, cpu = time.perf_counter() + 0.01, time.process_time()
            end = self._loop(begin)
            return {**self._result(end - begin), "generator_cores": (time.process_time() - cpu) / (end - begin)}
        finally:
            for connection in (*self.idle, *self.busy.values()):
                connection.close()
            self.epoll.close()

    def _loop(self, begin: float) -> float:
        issued = 0
        while True:
            now = time.perf_counter()
            while issued < self.total and (intended := begin + issued / self.rate) <= now:
                self.lateness.append(now - intended)
                self.waiting.append(intended)
                issued += 1
            self._start_waiting()
            if issued == self.total and not self.busy and not self.waiting:
                return time.perf_counter()
            last = begin + self.total / self.rate
            if now > last + DRAIN_S:
                self.errors += len(self.busy) + len(self.waiting)
                return now
            until = begin + issued / self.rate if issued < self.total else now + 0.05
            # epoll alone waits whole milliseconds; select on its descriptor waits microseconds.
            select.select([self.epoll], [], [], max(0.0, until - time.perf_counter()))
            for fd, events in self.epoll.poll(0):
                self._on_event(fd, events)

    def _start_waiting(self) -> None:
        while self.waiting and (self.idle or len(self.busy) < MAX_CONNECTIONS):
            connection = self.idle.pop() if self.idle else Connection(*self.address, self.epoll)
            self.busy[connection.fd] = connection
            try:
                connection.start(self.request, self.waiting.popleft())
            except OSError:
                self._fail(connection)

    def _on_event(self, fd: int, events: int) -> None:
        connection = self.busy.get(fd)
        if connection is None:
            self._drop_idle(fd)
            return
        try:
            if events & select.EPOLLOUT:
                self.epoll.modify(fd, select.EPOLLIN)
                connection.send()
            status = connection.receive() if events & ~select.EPOLLOUT else None
        except OSError:
            self._fail(connection)
            return
        if status is None:
            return
        if status == 200:
            self.latencies.append(time.perf_counter() - connection.intended)
        else:
            self.errors += 1
        del self.busy[fd]
        self.idle.append(connection)

    def _fail(self, connection: Connection) -> None:
        self.errors += 1
        del self.busy[connection.fd]
        connection.close()

    def _drop_idle(self, fd: int) -> None:
        for connection in [connection for connection in self.idle if connection.fd == fd]:
            self.idle.remove(connection)
            connection.close()

    def _result(self, duration_s: float) -> dict[str, Any]:
        latencies = np.array(self.latencies or [float("nan")]) * 1000
        p50, p90, p99 = np.percentile(latencies, (50, 90, 99)).tolist()
        return {
            "rate_per_s": self.rate,
            "requests": len(self.latencies),
            "requests_per_s": len(self.latencies) / duration_s,
            "errors": self.errors,
            "p50_ms": p50,
            "p90_ms": p90,
            "p99_ms": p99,
            "max_ms": float(latencies.max()),
            "generator_late_p99_ms": float(np.percentile(self.lateness, 99)) * 1000,
        }


def _request(path: str, host: str, body: Body) -> bytes:
    headers = {"Host": host, **body.headers, "Content-Length": str(len(body.content))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body.content


def _is_complete(response: bytearray) -> bool:
    end = response.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(response[:end]).lower()
    at = head.find(b"content-length:")
    if at < 0:
        return response.endswith(b"0\r\n\r\n")  # chunked
    return len(response) >= end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
