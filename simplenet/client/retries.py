"""Send a request again where that is safe: predictions change nothing, so the same request may be served twice.

What is tried again: 503, which a server sends before it has served the request, and a connection that is refused, or
reset or closed before the end of the response. Anything else the server says is final, and so is a time-out. urllib3
keeps count: https://urllib3.readthedocs.io/en/stable/reference/urllib3.util.html#urllib3.util.Retry
"""

import random
import time
from types import TracebackType
from typing import Any

import requests
from urllib3 import BaseHTTPResponse
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import InvalidHeader, MaxRetryError, ProtocolError, ReadTimeoutError, ResponseError
from urllib3.util import Retry, Timeout

from simplenet.client.deadline import DeadlineAdapter

_BACKOFF_S = 0.1  # the waits are 0, 0.2, 0.4, 0.8, 1.6 s, each up to _JITTER_S longer
_JITTER_S = 0.1


class _RetryUntil(Retry):
    """Retries that never wait past a deadline (of time.monotonic())."""

    # urllib3 would also retry 413 and 429 where a server sends Retry-After.
    RETRY_AFTER_STATUS_CODES = frozenset((503,))
    deadline = float("inf")

    def new(self, **changes: Any) -> "_RetryUntil":
        other = super().new(**changes)
        other.deadline = self.deadline
        return other

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """What the server asks for, and a little more: clients that it has refused together come back apart."""
        try:
            seconds = super().get_retry_after(response)
        except (InvalidHeader, ValueError, OverflowError):  # neither seconds nor a date
            return None
        return None if seconds is None else seconds + random.uniform(0, _JITTER_S)

    def get_backoff_time(self) -> float:
        return max(super().get_backoff_time(), random.uniform(0, _JITTER_S))

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> "_RetryUntil":
        if isinstance(error, ReadTimeoutError):
            raise error
        following = super().increment(method, url, response, error, _pool, _stacktrace)
        wait = self.get_retry_after(response) if response is not None else None
        if time.monotonic() + (following.get_backoff_time() if wait is None else wait) >= self.deadline:
            reason = error or ResponseError(ResponseError.GENERIC_ERROR)
            raise MaxRetryError(_pool, url, reason) from reason  # type: ignore[arg-type]
        return following


class _TimeoutAt(Timeout):
    """What is left until a deadline, for every attempt anew."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        super().__init__(total=max(0.001, deadline - time.monotonic()))

    def clone(self) -> "_TimeoutAt":
        return _TimeoutAt(self._deadline)


class _Session(requests.Session):
    """A session that follows no redirect: on the way a POST may become a GET, or go in circles."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def post(url: str, timeout_s: float, retries: int, **request: Any) -> requests.Response:
    """POST, and try again until there is a response that is not 503, no retry is left, or the time is over.

    Redirects are not followed.

    Args:
        url: the address.
        timeout_s: seconds for all attempts and the waits between them.
        retries: attempts after the first.
        request: more arguments of `requests.Session.post`.

    Raises:
        requests.RequestException: there was no response; the last attempt's reason.
    """
    deadline = time.monotonic() + timeout_s
    policy = _RetryUntil(
        total=retries, backoff_factor=_BACKOFF_S, backoff_jitter=_JITTER_S, allowed_methods=None,
        status_forcelist=(503,), respect_retry_after_header=True, raise_on_status=False,
    )  # fmt: skip
    policy.deadline = deadline
    with _Session() as session:
        while True:
            for scheme in ("http://", "https://"):
                session.mount(scheme, DeadlineAdapter(deadline, policy))
            timeout: Any = _TimeoutAt(deadline)
            response = session.post(url, timeout=timeout, stream=True, **request)
            try:
                response.content  # noqa: B018 (reads it, and keeps it)
                return response
            except requests.RequestException as error:
                policy = _after_cut(response, error)


def _after_cut(response: requests.Response, error: requests.RequestException) -> _RetryUntil:
    """Wait after a response that was cut off; urllib3 itself only tries again until the head is there.

    Raises:
        requests.RequestException: this error, if it is of another kind or no retry is left.
    """
    response.close()
    cause = error.args[0] if error.args else None
    if not isinstance(cause, ProtocolError):
        raise error
    raw: Any = response.raw  # the retries left are in urllib3's own response
    try:
        policy: _RetryUntil = raw.retries.increment("POST", response.url, error=cause)
    except MaxRetryError:
        raise error from None
    policy.sleep()
    return policy
