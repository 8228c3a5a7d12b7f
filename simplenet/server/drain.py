"""Finish what a server has accepted before it is stopped.

TorchServe closes its listener and all connections at once, with whatever they are waiting for. So the frontend (java/)
first refuses every new request with 503 and Retry-After, and counts those that are still in flight.
"""

import time
from dataclasses import dataclass

from simplenet.errors import ServerError
from simplenet.server.frontend import is_own
from simplenet.server.management import request
from simplenet.server.quiet import quiet
from simplenet.server.record import Server
from simplenet.server.run_dir import begin_stopping

_RESPONSE_TIMEOUT_S = 5.0  # a busy frontend may take long to respond
_LEAST_TIMEOUT_S = 0.2
_AT_ONCE_S = 1.0  # where somebody wants the server to end at once
_NOT_ASKED = "the frontend was not asked"
_QUIET_S = 0.2  # a request that was read from its socket just before is counted by then


@dataclass(frozen=True)
class CutOff:
    """The requests that stopping cuts off.

    Example:
        >>> f"stopped{CutOff()}", f"stopped{CutOff(2)}"
        ('stopped', 'stopped; 2 requests cut off')
    """

    requests: int = 0
    unknown: str = ""  # why it is not known how many

    def __str__(self) -> str:
        """The end of the line that says that the server is stopped."""
        if self.unknown:
            return f"; it is not known how many requests were cut off: {self.unknown}"
        return f"; {self.requests} request{'s' * (self.requests > 1)} cut off" if self.requests else ""


def drain(server: Server, timeout_s: float) -> CutOff:
    """Refuse new requests and wait until those in flight are answered; a KeyboardInterrupt ends the wait.

    A server whose frontend is stock cannot be drained: it is left as it is.

    Args:
        server: a running one; the caller stops it afterwards.
        timeout_s: seconds to wait; 0 does not even refuse new requests.

    Returns:
        What was still in flight at the end, as far as the frontend responded.

    Example:
        >>> drain(find(8080), timeout_s=30)  # doctest: +SKIP
        CutOff(requests=0, unknown='')
    """
    if not is_own(server.run_dir):
        return CutOff(unknown="TorchServe's own frontend does not count them")
    if timeout_s <= 0:
        return _in_flight(server, _AT_ONCE_S)
    begin_stopping(server.run_dir, timeout_s)
    deadline = time.monotonic() + timeout_s
    refuses, last = False, CutOff(unknown=_NOT_ASKED)

    def count() -> int | None:
        nonlocal refuses, last
        if server.process() is None:
            return 0
        left_s = min(_RESPONSE_TIMEOUT_S, max(_LEAST_TIMEOUT_S, deadline - time.monotonic()))
        try:
            if not refuses:
                request(server, "PUT", "/drain", timeout_s=left_s)
                refuses = True
            last = CutOff(in_flight_of(server, left_s))
        except ServerError as error:
            last = _unknown(error) if last.unknown else last
            return None
        return last.requests

    try:
        quiet(count, timeout_s, _QUIET_S)
    except KeyboardInterrupt:
        if last.unknown == _NOT_ASKED:
            last = _in_flight(server, _AT_ONCE_S)
    return last if server.process() is not None else CutOff()


def _in_flight(server: Server, timeout_s: float) -> CutOff:
    try:
        return CutOff(in_flight_of(server, timeout_s))
    except ServerError as error:
        return _unknown(error)


def _unknown(error: ServerError) -> CutOff:
    return CutOff(unknown=str(error).partition("; ")[0])  # its remedies are of no use to a server that ends


def in_flight_of(server: Server, timeout_s: float = _RESPONSE_TIMEOUT_S) -> int:
    """How many requests, over HTTP and gRPC, the server has accepted and not answered.

    Raises:
        ServerError: it does not respond.
    """
    counts = request(server, "GET", "/requests", timeout_s=timeout_s)
    return max(int(counts["in_flight"]), int(counts["held"]))
