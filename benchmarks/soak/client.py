"""A client as ours is: one keep-alive connection, and patience with 503 and with connections that break."""

import http.client
import random
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks.soak.collection import PATH, Request

TIMEOUT_S = 30.0  # for one answer
ATTEMPTS = 12
BACKOFF_S, LONGEST_BACKOFF_S = 0.05, 2.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    content_type: str = ""
    retry_after_s: float = 0.0


class BrokenError(Exception):
    """The connection broke, or no answer came in time; the message is which."""


@dataclass
class Exchange:
    """One request and what became of it: the last answer, if any, and what each attempt before it met."""

    request: Request
    answer: Answer | None = None
    met: list[str] = field(default_factory=list)  # "503", or how the connection broke
    began: float = 0.0
    ended: float = 0.0


class Client:
    """One connection, opened when needed."""

    def __init__(self, port: int, timeout_s: float = TIMEOUT_S) -> None:
        self.port, self.timeout_s = port, timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def send(self, request: Request) -> Answer:
        """The answer to one request.

        Raises:
            BrokenError: there is none.
        """
        return self.exchange("POST", PATH, request.body, request.headers)

    def exchange(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The same for any method and path."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout_s)
        try:
            self._connection.request(method, path, body, dict(headers))
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            timed_out = isinstance(error, TimeoutError)
            raise BrokenError(f"no answer in {self.timeout_s:g} s" if timed_out else type(error).__name__) from error
        if response.will_close:
            self.close()
        return Answer(
            response.status,
            content,
            response.getheader("Content-Type", ""),
            _seconds(response.getheader("Retry-After")),
        )

    def send_patiently(self, request: Request, chance: random.Random, attempts: int = ATTEMPTS) -> Exchange:
        """Send it until the answer is another than 503, with a pause before every further attempt."""
        exchange = Exchange(request, began=time.monotonic())
        for attempt in range(attempts):
            pause = 0.0
            try:
                exchange.answer = self.send(request)
                pause = exchange.answer.retry_after_s
                if exchange.answer.status != 503:
                    break
                exchange.met.append("503")
            except BrokenError as error:
                exchange.answer = None
                exchange.met.append(str(error))
            if attempt + 1 < attempts:
                backoff = min(LONGEST_BACKOFF_S, BACKOFF_S * 2**attempt)
                time.sleep(max(min(pause, LONGEST_BACKOFF_S), backoff * (0.5 + chance.random() / 2)))
        exchange.ended = time.monotonic()
        return exchange

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:  # a date
        return 0.0


def reset(connection: socket.socket) -> None:
    """End a connection at once, with a reset, as a client that vanishes does."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()


def head(length: int, content_type: str = "application/octet-stream") -> bytes:
    """The head of a request that announces a body of so many bytes."""
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()
