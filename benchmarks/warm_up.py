"""Load a server until its rate is level: Java compiles for most of a minute, and only warm servers are compared.

Windows of all kinds of request alternate, so that the code of every kind is warm before any kind is measured.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

LEVEL_WINDOWS = 3
LEVEL_WITHIN = 0.05
Window = Callable[[int], float]  # loads the server for that many seconds; returns requests/s


@dataclass(frozen=True)
class Bound:
    """The length of one window, and the time after which a server is measured although its rate still changes."""

    window_s: int
    total_s: int


FULL = Bound(window_s=3, total_s=66)
SHORT = Bound(window_s=1, total_s=12)


def until_level(windows: Mapping[str, Window], bound: Bound, advance: Callable[[str], None]) -> dict[str, Any]:
    """Run the windows in turn until the rates of all kinds are level, or for `bound.total_s`.

    Returns:
        `seconds` it took, whether the rates became `level`, and for each kind the `rates` of its windows.
    """
    started = time.monotonic()
    rates: dict[str, list[float]] = {kind: [] for kind in windows}
    while True:
        for kind, window in windows.items():
            advance(f"warm up: {kind}")
            rates[kind].append(window(bound.window_s))
        level = all(map(is_level, rates.values()))
        seconds = time.monotonic() - started
        if level or seconds + bound.window_s * len(windows) > bound.total_s:
            return {"seconds": round(seconds, 1), "level": level, "rates": rates}


def is_level(rates: list[float]) -> bool:
    """Whether none of the last windows beats all earlier ones by more than `LEVEL_WITHIN`.

    A slower window does not count: another program was busy. A rate that rises by 2 % per window is not level.
    """
    before, last = rates[:-LEVEL_WINDOWS], rates[-LEVEL_WINDOWS:]
    return bool(before) and max(last) <= max(before) * (1 + LEVEL_WITHIN)
