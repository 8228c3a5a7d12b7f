"""What a soak has to reach: every threshold, and the lines that say whether it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.soak.sampling import trend
from benchmarks.soak.tally import LOST, OUTCOMES, WRONG

# Thresholds, all of them.
MOST_LOST, MOST_WRONG = 0, 0
LEAST_ROWS_PER_MIN = 100_000  # a million in ten minutes
# Of the median, per minute; less cannot be told from what a large batch leaves behind. There are about 30,000 requests
# a minute: a kilobyte lost by each would be 29 MiB, and one descriptor lost by every thousandth 30.
MOST_GROWTH_PER_MIN = 0.01
SLOPES = ("frontend_mib", "worker_mib", "frontend_fds", "worker_fds")
LEAST_MINUTES_FOR_SLOPES = 8.0  # in less, a heap that grows to its size looks like a leak


@dataclass(frozen=True)
class Line:
    """One thing that was measured, and whether it is as promised; None if nothing can be said about it."""

    text: str
    passed: bool | None

    def __str__(self) -> str:
        """The line as it is printed."""
        return f"{ {True: 'pass', False: 'FAIL', None: 'not judged'}[self.passed] }: {self.text}"


def passed(lines: Sequence[Line]) -> bool:
    """Whether nothing failed."""
    return not any(line.passed is False for line in lines)


def of_soak(results: Mapping[str, Any]) -> list[Line]:
    """The verdict of a mixed soak."""
    outcomes, minutes, unanswered = results["outcomes"], results["minutes"], results["unanswered"]
    wrong = outcomes[WRONG] + results["bursts"].get(WRONG, 0)
    least_rows = int(LEAST_ROWS_PER_MIN * minutes)
    return [
        Line(f"lost {outcomes[LOST]} (at most {MOST_LOST})", outcomes[LOST] <= MOST_LOST),
        Line(f"wrong {wrong} (at most {MOST_WRONG})", wrong <= MOST_WRONG),
        Line(f"without an answer at the end {unanswered} (0)", unanswered == 0),
        Line(f"{results['rows']:,} rows answered and checked (at least {least_rows:,})", results["rows"] >= least_rows),
        *(_slope(results, name) for name in SLOPES),
        Line(
            f"{results['workers_at_end']} of {results['workers']} workers live at the end",
            results["workers_at_end"] == results["workers"],
        ),
    ]


def _slope(results: Mapping[str, Any], name: str) -> Line:
    seen = trend(results["samples"], name, results["workers"])
    slope, most = seen["per_min"], MOST_GROWTH_PER_MIN * seen["median"]
    unit, whose = (" MiB", "memory") if name.endswith("_mib") else ("", "descriptors")
    who = {"frontend": "frontend", "worker": "all workers"}[name.partition("_")[0]]
    growth = f"{slope:+.2f}{unit}/min, {'a' if seen['grows'] else 'no'} significant trend (at most {most:+.2g})"
    text = f"{whose} of {who}: {seen['median']:.4g}{unit}, the least of each half minute {growth}"
    flat = slope <= most or (slope > most and not seen["grows"])  # nan is not flat
    return Line(text, flat if results["minutes"] >= LEAST_MINUTES_FOR_SLOPES else None)


def summary(outcomes: Mapping[str, int]) -> str:
    """All outcomes in one line.

    Example:
        >>> summary({"ok": 10, "LOST": 1})
        'ok 10, refused as it should be 0, 503, then ok 0, connection broken, then ok 0, LOST 1, WRONG 0'
    """
    return ", ".join(f"{name} {outcomes.get(name, 0):,}" for name in OUTCOMES)
