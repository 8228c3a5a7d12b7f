"""Which weights were live when, as far as the operator's commands say."""

import math
import threading
import time


class Versions:
    """The weights that may have answered a request; times are those of `time.monotonic()`.

    Example:
        >>> versions = Versions("A", at=0)
        >>> versions.begin("B", at=10)
        >>> versions.end("A", at=12)
        >>> sorted(versions.live(11, 13)), sorted(versions.live(13, 14))
        (['A', 'B'], ['B'])
    """

    def __init__(self, weights: str, at: float | None = None) -> None:
        self._lock = threading.Lock()
        self._spans: list[tuple[str, float, float]] = []
        self.begin(weights, at)

    def begin(self, weights: str, at: float | None = None) -> None:
        """These weights may answer from now on: a command that makes them live is about to run."""
        with self._lock:
            self._spans.append((weights, time.monotonic() if at is None else at, math.inf))

    def end(self, weights: str, at: float | None = None) -> None:
        """No request that is sent from now on may get these weights."""
        now = time.monotonic() if at is None else at
        with self._lock:
            self._spans = [
                (name, begin, now if name == weights and end == math.inf else end) for name, begin, end in self._spans
            ]

    def live(self, began: float, ended: float) -> set[str]:
        """The weights that were live at any moment between the two."""
        with self._lock:
            return {name for name, begin, end in self._spans if begin <= ended and end >= began}
