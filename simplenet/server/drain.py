"""Finish what a server has accepted before it is stopped.

TorchServe closes its listener and all connections at once, with whatever they are waiting for. So the frontend (java/)
first refuses every new request with 503 and Retry-After, and counts those that are still in flight.
"""

import time

from simplenet.errors import ServerError
from simplenet.server.frontend import is_own
from simplenet.server.management import request
from simplenet.server.quiet import quiet
from simplenet.server.record import Server
from simplenet.server.run_dir import begin_stopping

_RESPONSE_TIMEOUT_S = 5.0  # a busy frontend may take long to respond
_LEAST_TIMEOUT_S = 0.2
_QUIET_S = 0.2  # a request that was read from its socket just before is counted by then


def drain(server: Server, timeout_s: float) -> int:
    """Refuse new requests and wait until those in flight are answered.

    A server whose frontend is stock cannot be drained: it is left as it is.

    Args:
        server: a running one; the caller stops it afterwards.
        timeout_s: seconds to wait; 0 does not even refuse new requests.

    Returns:
        How many requests were still in flight at the end, as far as the frontend responded.

    Example:
        >>> drain(find(8080), timeout_s=30)  # doctest: +SKIP
        0
    """
    if timeout_s <= 0 or not is_own(server.run_dir):
        return 0
    begin_stopping(server.run_dir, timeout_s)
    deadline = time.monotonic() + timeout_s
    refuses, last = False, 0

    def in_flight() -> int | None:
        nonlocal refuses, last
        if server.process() is None:
            return 0
        left_s = min(_RESPONSE_TIMEOUT_S, max(_LEAST_TIMEOUT_S, deadline - time.monotonic()))
        try:
            if not refuses:
                request(server, "PUT", "/drain", timeout_s=left_s)
                refuses = True
            last = in_flight_of(server, left_s)
        except ServerError:
            return None
        return last

    quiet(in_flight, timeout_s, _QUIET_S)
    return last if server.process() is not None else 0


def in_flight_of(server: Server, timeout_s: float = _RESPONSE_TIMEOUT_S) -> int:
    """How many requests, over HTTP and gRPC, the server has accepted and not answered.

    Raises:
        ServerError: it does not respond.
    """
    counts = request(server, "GET", "/requests", timeout_s=timeout_s)
    return max(int(counts["in_flight"]), int(counts["held"]))
