"""Wait until nothing is in flight any more."""

import time
from collections.abc import Callable

_POLL_S = 0.05


def quiet(count: Callable[[], int | None], patience_s: float, quiet_s: float, poll_s: float = _POLL_S) -> int | None:
    """Wait until `count()` has been 0 for `quiet_s` seconds, whenever it was called.

    Args:
        count: how many requests are in flight, or None if that is not known now, which is not 0.
        patience_s: seconds to wait for a 0 that lasts; one that has begun by then is waited for.
        quiet_s: seconds: a request that was accepted just before is counted by then.
        poll_s: seconds between two calls.

    Returns:
        0, or what was counted last.

    Example:
        >>> counts = iter([2, 0, 1, *[0] * 1000])
        >>> quiet(lambda: next(counts), patience_s=60, quiet_s=0.01, poll_s=0.001)
        0
        >>> quiet(lambda: 3, patience_s=0.01, quiet_s=0.01, poll_s=0.001)
        3
    """
    deadline, since = time.monotonic() + patience_s, None
    while True:
        begun = time.monotonic()
        now = count()
        if now != 0:
            since = None
        elif since is None:
            since = begun
        elif begun - since >= quiet_s:
            return 0
        if now != 0 and begun > deadline:
            return now
        time.sleep(poll_s)
