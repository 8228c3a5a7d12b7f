"""Finish what a server has accepted before it is stopped.

TorchServe closes its listener and all connections at once, with whatever they are waiting for. So the frontend (java/)
first refuses every new request with 503 and Retry-After, and counts those that are still in flight.
"""

import time
from contextlib import suppress

from simplenet.errors import ServerError
from simplenet.server.frontend import is_own
from simplenet.server.management import request
from simplenet.server.record import Server
from simplenet.server.run_dir import STOPPING

_POLL_S = 0.05
_RESPONSE_TIMEOUT_S = 5.0
_QUIET_S = 0.2  # a request that was read from its socket just before is counted by then


def drain(server: Server, timeout_s: float) -> int:
    """Refuse new requests and wait until those in flight are answered.

    A server whose frontend is stock cannot be drained: it is left as it is.

    Args:
        server: a running one; the caller stops it afterwards.
        timeout_s: seconds to wait; 0 does not even refuse new requests.

    Returns:
        How many requests were still in flight at the end.

    Example:
        >>> drain(find(8080), timeout_s=30)  # doctest: +SKIP
        0
    """
    if timeout_s <= 0:
        return 0
    if not is_own(server.run_dir):
        return 0
    (server.run_dir / STOPPING).touch()
    deadline = time.monotonic() + timeout_s
    refuses, in_flight, quiet_since = False, 0, None
    while (now := time.monotonic()) < deadline and server.process() is not None:
        with suppress(ServerError):  # a busy frontend may take long to respond
            if not refuses:
                request(server, "PUT", "/drain", timeout_s=_RESPONSE_TIMEOUT_S)
                refuses = True
            in_flight = in_flight_of(server)
            quiet_since = (quiet_since or now) if in_flight == 0 else None
            if quiet_since is not None and now - quiet_since >= _QUIET_S:
                return 0
        time.sleep(_POLL_S)
    return in_flight


def in_flight_of(server: Server) -> int:
    """How many requests, over HTTP and gRPC, the server has accepted and not answered.

    Raises:
        ServerError: it does not respond.
    """
    counts = request(server, "GET", "/requests", timeout_s=_RESPONSE_TIMEOUT_S)
    return max(int(counts["in_flight"]), int(counts["held"]))
