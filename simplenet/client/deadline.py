"""One limit of time for all that a connection sends and receives, however slowly the bytes come.

urllib3's read timeout is for each read alone, and a response may take as many reads as it has bytes.
"""

import io
import socket
import time
from functools import partial
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.util import Retry


class DeadlineAdapter(HTTPAdapter):
    """An adapter whose connections end at a deadline (of time.monotonic()), with TimeoutError.

    Args:
        deadline: when.
        max_retries: as of `requests.adapters.HTTPAdapter`.

    Example:
        >>> session = requests.Session()  # doctest: +SKIP
        >>> session.mount("http://", DeadlineAdapter(time.monotonic() + 3, Retry(2)))  # doctest: +SKIP
    """

    def __init__(self, deadline: float, max_retries: Retry) -> None:
        self._deadline = deadline
        super().__init__(max_retries=max_retries)

    def get_connection_with_tls_context(self, *request: Any, **options: Any) -> Any:
        """The pool for a request; what it connects ends at the deadline."""
        pool: Any = super().get_connection_with_tls_context(*request, **options)
        if not isinstance(pool.ConnectionCls, partial):  # it is kept between the requests of a session
            pool.ConnectionCls = partial(_connection, pool.ConnectionCls, self._deadline)
        return pool


def _connection(kind: type[HTTPConnection], deadline: float, **options: Any) -> HTTPConnection:
    connection = kind(**options)
    # http.client makes every response with it, a proxy's to CONNECT too.
    connection.response_class = partial(_Response, deadline)  # type: ignore[assignment]
    send = connection.send

    def send_until(data: Any) -> None:
        if connection.sock is not None:  # connecting has had a limit of its own
            connection.sock.settimeout(_left_s(deadline))
        send(data)

    connection.send = send_until  # type: ignore[method-assign]
    return connection


class _Response(HTTPResponse):
    """A response whose head and body are read until a deadline."""

    def __init__(self, deadline: float, sock: socket.socket, *options: Any, **named: Any) -> None:
        super().__init__(sock, *options, **named)
        self.fp.close()
        self._bytes = _Bytes(sock, deadline)
        self.fp = _Reader(self._bytes)

    def begin(self) -> None:
        """Read the head; http.client takes one that was cut off for a short one."""
        super().begin()
        if self._bytes.ended:
            raise IncompleteRead(b"")
        for name in ("Set-Cookie", "Set-Cookie2"):  # of no use here, and http.cookiejar warns of odd ones
            del self.msg[name]


class _Reader(io.BufferedReader):
    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size < -1:  # http.client and urllib3 do not look
            raise HTTPException("the length of a chunk is negative")
        return super().read(size)


class _Bytes(io.RawIOBase):
    """What a socket receives until a deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._socket, self._deadline, self.ended = sock, deadline, False
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(_left_s(self._deadline))
        count = self._raw.readinto(buffer)
        self.ended = count == 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _left_s(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
