"""Time that passed while somebody watched."""

import time
from collections.abc import Callable


class AwakeClock:
    """Seconds, of which a gap between two readings counts only so far: the machine slept, or this process was stopped.

    Whoever measures for how long something has been wrong would otherwise take the sleep for a failure.

    Args:
        longest_gap_s: seconds that count of a longer gap.
        now: a clock in seconds that nobody sets.

    Example:
        >>> times = iter([100.0, 101.0, 9101.0, 9101.5])
        >>> clock = AwakeClock(longest_gap_s=5, now=lambda: next(times))
        >>> clock.read(), clock.read(), clock.read()
        (1.0, 6.0, 6.5)
    """

    def __init__(self, longest_gap_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._longest_gap_s, self._now = longest_gap_s, now
        self._last, self._awake = now(), 0.0

    def read(self) -> float:
        """Seconds since the clock was made."""
        now = self._now()
        self._awake += min(now - self._last, self._longest_gap_s)
        self._last = now
        return self._awake
