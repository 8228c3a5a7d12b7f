"""What is looked at once a second: memory, descriptors and threads of every process, the queue, /ping, latencies."""

import math
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from threading import Event, Thread
from typing import Any

import psutil

from benchmarks.soak.client import BrokenError, Client
from benchmarks.soak.server import Running
from benchmarks.soak.tally import Tally
from simplenet.server import management

JUDGED = 0.35  # of the samples, the last, which the slopes are taken from
BLOCK_S = 30.0
SIGNIFICANT = 1.96  # standard deviations: by chance once in forty
PING_TIMEOUT_S = 1.0
MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """One look at the server; the numbers of the workers are sums over all of them."""

    at_s: float
    workers: int = 0
    frontend_mib: float = 0.0
    worker_mib: float = 0.0
    frontend_fds: int = 0
    worker_fds: int = 0
    frontend_threads: int = 0
    worker_threads: int = 0
    queue: int | None = None
    ping_ms: float | None = None  # None: no answer in a second
    p50_ms: float | None = None
    p99_ms: float | None = None


class Sampler:
    """Looks at the server once a second, in a thread of its own."""

    def __init__(self, running: Running, tally: Tally) -> None:
        self.running, self.tally = running, tally
        self.samples: list[Sample] = []
        self._ended = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> "Sampler":
        """Begin to look."""
        self._thread.start()
        return self

    def end(self) -> list[dict[str, Any]]:
        """Look no more; every sample."""
        self._ended.set()
        self._thread.join(5)
        return [asdict(sample) for sample in self.samples]

    def _run(self) -> None:
        while not self._ended.wait(1 - (time.monotonic() - self.tally.start) % 1):
            at_s = time.monotonic() - self.tally.start
            second = int(at_s) - 1
            shares = {"p50_ms": self.tally.latency_ms(0.5, second), "p99_ms": self.tally.latency_ms(0.99, second)}
            self.samples.append(Sample(round(at_s, 2), **look(self.running), **shares))


def look(running: Running) -> dict[str, Any]:
    """Everything about the processes, /ping and the queue."""
    frontend, workers = running.frontend(), running.workers()
    looked = {"workers": len(workers), "ping_ms": ping_ms(running.port), "queue": _queue(running)}
    for name, processes in (("frontend", [frontend] if frontend else []), ("worker", workers)):
        used = [_use(process) for process in processes]
        mib, fds, threads = (sum(column) for column in zip(*used, strict=True)) if used else (0.0, 0, 0)
        looked |= {f"{name}_mib": round(mib, 1), f"{name}_fds": fds, f"{name}_threads": threads}
    return looked


def ping_ms(port: int, timeout_s: float = PING_TIMEOUT_S) -> float | None:
    """How long /ping took to say that the server is healthy, None if it did not."""
    client, began = Client(port, timeout_s), time.monotonic()
    with suppress(BrokenError):
        if client.exchange("GET", "/ping", b"", {}).status == 200:
            client.close()
            return round(1000 * (time.monotonic() - began), 2)
    client.close()
    return None


def slope_per_min(times_s: Sequence[float], values: Sequence[float]) -> float:
    """The slope of the values per minute, by the Theil-Sen estimator; nan for fewer than two.

    It is the median of the slopes between all pairs: up to 29 % of the values may be any.
    https://en.wikipedia.org/wiki/Theil-Sen_estimator

    Args:
        times_s: when each value was seen, in seconds, ascending.
        values: as many.

    Example:
        >>> slope_per_min([0, 30, 60, 90, 120], [10, 11, 12, 900, 14])
        2.0
    """
    points = list(zip(times_s, values, strict=True))
    slopes = [
        (value - before) / (at_s - before_s)
        for number, (at_s, value) in enumerate(points)
        for before_s, before in points[:number]
    ]
    return 60 * statistics.median(slopes) if slopes else math.nan


def grows(values: Sequence[float]) -> bool:
    """Whether values that follow one another grow more often than chance lets them, by the test of Mann and Kendall.

    https://en.wikipedia.org/wiki/Kendall_rank_correlation_coefficient

    Example:
        >>> grows([3, 4, 5, 6, 8, 7, 9, 12]), grows([3, 9, 2, 8, 4, 7, 5, 6])
        (True, False)
    """
    count = len(values)
    pairs = [(earlier, later) for number, later in enumerate(values) for earlier in values[:number]]
    score = sum((later > earlier) - (later < earlier) for earlier, later in pairs)
    return score > SIGNIFICANT * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)


def trend(samples: Sequence[dict[str, Any]], name: str, workers: int) -> dict[str, Any]:
    """How one number developed in the last part of the soak, in which no worker is replaced.

    Of each half minute the least counts: what a process has when it is not in the midst of something large. Only
    samples with every worker count: one that is missing takes no memory.

    Returns:
        The median, the slope of the least `per_min`, and whether it `grows` for sure.
    """
    after = samples[math.ceil(len(samples) * (1 - JUDGED)) :]
    whole = [sample for sample in after if sample["workers"] == workers and sample["frontend_mib"]]
    if not whole:
        return {"median": math.nan, "per_min": math.nan, "grows": True}
    blocks: dict[int, list[dict[str, Any]]] = {}
    for sample in whole:
        blocks.setdefault(int((sample["at_s"] - whole[0]["at_s"]) / BLOCK_S), []).append(sample)
    times_s = [statistics.mean(sample["at_s"] for sample in block) for block in blocks.values()]
    least = [min(float(sample[name]) for sample in block) for block in blocks.values()]
    median = statistics.median(float(sample[name]) for sample in whole)
    return {"median": median, "per_min": round(slope_per_min(times_s, least), 3), "grows": grows(least)}


def _use(process: psutil.Process) -> tuple[float, int, int]:
    with suppress(psutil.Error), process.oneshot():
        return process.memory_info().rss / MIB, process.num_fds(), process.num_threads()
    return 0.0, 0, 0


def _queue(running: Running) -> int | None:
    """Requests that wait for a worker, if the management port says so in time."""
    with suppress(Exception):
        versions = management.request(running.record, "GET", "/models/simplenet", timeout_s=PING_TIMEOUT_S)
        return int(versions[0]["jobQueueStatus"]["pendingRequests"])
    return None
