"""A running server, and requests to it: one request, a closed loop, an open loop."""

import contextlib
import http.client
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import closed_loop, loads, processes
from benchmarks.open_loop import Generator
from benchmarks.registry import Peer

SETTLE_TIMEOUT_S = 30.0
TOLERANCE = 1e-5
Reference = Callable[[np.ndarray], np.ndarray]  # the library's probabilities of rows


class Session:
    """One running peer; `seconds` is the length of a measurement."""

    def __init__(self, peer: Peer, port: int, group: processes.Group, folder: Path, seconds: int) -> None:
        self.peer, self.port, self.group, self.folder, self.seconds = peer, port, group, folder, seconds

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.port}{self.peer.route(kind)}"

    def ask(self, kind: str, rows: int, timeout_s: float = 10.0) -> loads.Predictions:
        """Send one request on its own connection.

        Raises:
            ValueError: the response is not 200.
        """
        body = self.peer.body(kind, rows)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("POST", self.peer.route(kind), body.content, body.headers)
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise ValueError(f"{response.status}: {content[:200]!r}")
            return body.read({name.lower(): value for name, value in response.getheaders()}, content)
        finally:
            connection.close()

    def check(self, kind: str, rows: int, reference: Reference) -> float:
        """The largest difference from the reference.

        Raises:
            ValueError: it exceeds the tolerance.
        """
        error = self.ask(kind, rows).error(reference(loads.expected_rows(kind, rows)))
        if not error <= TOLERANCE:
            raise ValueError(f"{kind}, {rows} rows: predictions differ from the reference by {error:.3g}")
        return error

    def settle(self) -> None:
        """Wait until an earlier load has left the queues: until a lone request has its response."""
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            self.ask("json", 1, SETTLE_TIMEOUT_S)

    def run_closed(self, load: loads.Load, seconds: int | None = None) -> dict[str, Any]:
        """One measurement of a load, with the CPU seconds that the server used per 1,000 requests."""
        self.settle()
        members = self.group.members()
        before = self.group.cpu_s(members)
        bodies = self.peer.bodies(load)
        result = closed_loop.send(self.url(load.kind), bodies, self.folder, load.connections, seconds or self.seconds)
        used = self.group.cpu_s(members) - before
        result["cpu_s_per_1000"] = used / result["requests"] * 1000 if result["requests"] else None
        result["rows_per_s"] = result["requests_per_s"] * load.rows
        return result

    def run_open(self, kind: str, capacity: float, share: float) -> dict[str, Any]:
        """One open-loop measurement of one-row requests at a share of the measured capacity."""
        self.settle()
        generator = Generator(self.url(kind), self.peer.body(kind, 1), max(1.0, capacity * share), self.seconds)
        return {"kind": kind, "share": share, **generator.run()}
