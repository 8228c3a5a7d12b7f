"""What became of the requests: by outcome, by second, and what exactly went wrong."""

import threading
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.soak.client import Answer, Exchange
from benchmarks.soak.collection import Request
from benchmarks.soak.versions import Versions

OK, REFUSED = "ok", "refused as it should be"
AFTER_503, AFTER_BREAK = "503, then ok", "connection broken, then ok"
LOST, WRONG = "LOST", "WRONG"
OUTCOMES = (OK, REFUSED, AFTER_503, AFTER_BREAK, LOST, WRONG)
EXAMPLES, OF_A_KIND = 30, 2  # of what was lost or wrong, kept for the report


@dataclass
class Second:
    """One second of traffic."""

    outcomes: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)


class Tally:
    """Counts exchanges; any thread may record one. Seconds are counted from `start`."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.seconds: dict[int, Second] = {}
        self.outcomes: Counter[str] = Counter()
        self.met: Counter[str] = Counter()  # before a retry
        self.statuses: Counter[int] = Counter()  # of the last answers; 0 where there was none
        self.rows = 0
        self.examples: list[str] = []
        self._kinds: Counter[str] = Counter()
        self._lock = threading.Lock()

    def record(self, exchange: Exchange, outcome: str, why: str = "") -> None:
        """Count one exchange under its outcome; `why` says what was wrong with it."""
        with self._lock:
            second = self.seconds.setdefault(int(exchange.ended - self.start), Second())
            second.outcomes[outcome] += 1
            second.latencies_s.append(exchange.ended - exchange.began)
            self.outcomes[outcome] += 1
            self.met.update(exchange.met)
            self.statuses[exchange.answer.status if exchange.answer else 0] += 1
            if outcome in (LOST, WRONG):
                kind = f"{exchange.request.name} {why[:60]}"
                self._kinds[kind] += 1
                if self._kinds[kind] <= OF_A_KIND and len(self.examples) < EXAMPLES:
                    self.examples.append(f"{exchange.ended - self.start:.1f} s: {exchange.request.name}: {why}")
            elif exchange.answer is not None and exchange.answer.status == 200:
                self.rows += exchange.request.rows

    @property
    def recorded(self) -> int:
        """How many exchanges there were."""
        return self.outcomes.total()

    def latency_ms(self, share: float, second: int | None = None) -> float | None:
        """The latency that a share of the requests did not exceed, of one second or of all."""
        with self._lock:
            chosen = list(self.seconds.values()) if second is None else [self.seconds.get(second, Second())]
            latencies = sorted(latency for one in chosen for latency in one.latencies_s)
        return round(1000 * latencies[min(len(latencies) - 1, int(share * len(latencies)))], 2) if latencies else None


def judged(exchange: Exchange, versions: Versions) -> tuple[str, str]:
    """The outcome of one exchange, and what is wrong with it, if anything."""
    answer, request = exchange.answer, exchange.request
    if answer is None or answer.status == 503:
        return LOST, f"{len(exchange.met)} attempts, the last: {exchange.met[-1]}"
    if request.bad is not None:
        return _judged_refusal(request, answer)
    if answer.status != 200:
        return LOST, f"expected 200, found {_short(answer)}"
    weights = request.weights_that_answer(answer.content_type, answer.body)
    live = versions.live(exchange.began, exchange.ended)
    if not weights & live:
        return WRONG, f"the answer of {sorted(weights) or 'no weights'}, while {sorted(live)} were live"
    if not exchange.met:
        return OK, ""
    return (AFTER_503 if exchange.met[-1] == "503" else AFTER_BREAK), ""


def _judged_refusal(request: Request, answer: Answer) -> tuple[str, str]:
    if request.is_refused_well(answer.status, answer.body):
        return REFUSED, ""
    expected = request.bad.status if request.bad else 0
    return (LOST if answer.status >= 500 else WRONG), f"expected {expected}, found {_short(answer)}"


def _short(answer: Answer) -> str:

    return f"{answer.status} {answer.body[:120]!r}"
