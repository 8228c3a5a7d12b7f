"""An HTTP proxy that spoils what passes through it: errors, cut connections, flipped bytes."""

import http.client
import math
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


class FaultyProxy:
    """Forwards to `127.0.0.1:upstream_port`; each counter says how many more times a fault happens.

    `errors`: a request whose address contains `errors_at` is answered with `error_status` and `error_body`, and not
    forwarded.
    `cuts`: an answer to GET ends after half its body, by closing the connection.
    `halves`: an answer to GET is half its body, and says that this is all.
    `flips`: an answer to GET has a bit of its middle byte inverted.
    """

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.heal()
        self.requests: list[str] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> "FaultyProxy":
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def heal(self) -> None:
        self.errors: float = 0
        self.error_status = 500
        self.error_body = b""
        self.errors_at = ""
        self.cuts: float = 0
        self.halves: float = 0
        self.flips: float = 0

    def forever(self, fault: str) -> None:
        setattr(self, fault, math.inf)

    def take(self, fault: str) -> bool:
        """Whether this fault happens now; one less is then left."""
        with self._lock:
            left = getattr(self, fault)
            setattr(self, fault, max(0, left - 1))
            return left > 0

    def record(self, request: str) -> None:
        with self._lock:
            self.requests.append(request)


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a client that keeps its connection must not keep the test waiting
    block_on_close = False
    proxy: FaultyProxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_request(self) -> None:
        proxy = self.server.proxy
        proxy.record(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if proxy.errors_at in self.path and proxy.take("errors"):
            return self.answer(proxy.error_status, {}, proxy.error_body)
        status, headers, body = self.forward(body)
        if self.command == "GET" and len(body) > 1 and status in (200, 206):
            if proxy.take("flips"):
                middle = len(body) // 2
                body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
            if proxy.take("halves"):
                body = body[: len(body) // 2]
            if proxy.take("cuts"):
                self.answer(status, headers, body[: len(body) // 2], promised=len(body))
                self.close_connection = True
                return None
        return self.answer(status, headers, body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_request

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.proxy.upstream_port)
        try:
            kept = {name: value for name, value in self.headers.items() if name.lower() not in {*HOP_BY_HOP, "expect"}}
            upstream.request(self.command, self.path, body=body, headers=kept)
            response = upstream.getresponse()
            headers = {name: value for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP}
            return response.status, headers, response.read()
        finally:
            upstream.close()

    def answer(self, status: int, headers: dict[str, str], body: bytes, promised: int | None = None) -> None:
        self.send_response_only(status)
        length = str(len(body) if promised is None else promised)
        if self.command == "HEAD":
            length = headers.get("Content-Length", length)
        for name, value in {**headers, "Content-Length": length}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):  # the client gave up
                self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what a test needs to know is in `FaultyProxy.requests`."""
