"""What goes wrong, on a schedule that a seed fixes."""

import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from threading import Event, Lock, Thread
from typing import Any

import psutil

from benchmarks.soak import intruders
from benchmarks.soak.client import BrokenError, Client
from benchmarks.soak.collection import Collection, Request
from benchmarks.soak.deployments import Deployments
from benchmarks.soak.server import Running
from benchmarks.soak.tally import WRONG

# Every how many seconds, on average.
INTERVALS_S = {
    "kill": 5.0,
    "freeze": 17.0,
    "version": 20.0,
    "stall": 23.0,
    "drip": 19.0,
    "vanish": 4.0,
    "burst": 31.0,
    "large": 11.0,
    "disk": 41.0,
}
WORDS = {
    "kill": "a worker killed", "freeze": "a worker frozen", "version": "version deployed or rolled back",
    "stall": "uploads of 16 MB stalled", "drip": "clients that drip bytes", "vanish": "clients that vanish",
    "burst": "1,000 connections at once", "large": "24 requests of 1,000 rows at once", "disk": "disk full",
}  # fmt: skip
FREEZE_S, STALL_S, DRIP_S, DISK_S = (2.0, 6.0), (4.0, 10.0), (3.0, 8.0), (2.0, 6.0)
STALLED, DRIPPING, VANISHING, BURST, BURST_S = 60, 20, 12, 1_000, 10.0
LARGE = 24  # more than all clients together: buffers grow to the size that they will have
MARGIN_S = 12.0  # at the end, in which nothing goes wrong any more
# What replaces workers ends earlier: memory that only grows is seen in workers that live on.
REPLACING, REPLACING_UNTIL = ("kill", "version"), 0.6


@dataclass(frozen=True)
class Happened:
    """One thing that went wrong, and what is to be said about it."""

    at_s: float
    name: str
    note: str = ""


def schedule(seconds: float, seed: int) -> list[tuple[float, str]]:
    """When what goes wrong within so many seconds, in order; each thing at least once, if there is time at all."""
    chance = random.Random(seed)
    events = []
    for name, interval_s in INTERVALS_S.items():
        last = max(0.0, seconds - min(MARGIN_S, seconds / 3))
        last = min(last, REPLACING_UNTIL * seconds) if name in REPLACING else last
        usual = min(interval_s, last / 2)
        at = usual * (0.5 + chance.random())
        while at < last and usual > 0:
            events.append((round(at, 2), name))
            at += usual * (0.5 + chance.random())
    return sorted(events)


class Chaos:
    """Carries out the schedule; an event that lasts has a thread of its own."""

    def __init__(
        self, running: Running, deployments: Deployments, requests: Collection, seed: int, start: float
    ) -> None:
        self.running, self.deployments, self.requests, self.start_s = running, deployments, requests, start
        self.chance = random.Random(f"chaos-{seed}")
        self.events: list[Happened] = []
        self.ended = Event()
        self.answered_in_bursts: dict[str, int] = {}
        self._frozen: set[int] = set()
        self._operating, self._full, self._counting = Lock(), Lock(), Lock()
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="chaos")

    def begin(self, events: list[tuple[float, str]]) -> "Chaos":
        """Carry out the events at their times."""
        Thread(target=self._run, args=(events,), daemon=True).start()
        return self

    def end(self) -> list[dict[str, Any]]:
        """End what lasts, wait for it, and return what was done."""
        self.ended.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        return [asdict(event) for event in sorted(self.events, key=lambda event: event.at_s)]

    def _run(self, events: list[tuple[float, str]]) -> None:
        for at_s, name in events:
            if self.ended.wait(max(0.0, self.start_s + at_s - time.monotonic())):
                return
            action: Callable[[], str] = getattr(self, f"_{name}")
            with suppress(RuntimeError):  # the pool has been shut down
                self._pool.submit(self._carry_out, name, action)

    def _carry_out(self, name: str, action: Callable[[], str]) -> None:
        at_s = time.monotonic() - self.start_s
        try:
            note = action()
        except Exception as error:  # the traffic goes on, and the report says what did not happen
            note = f"skipped: {type(error).__name__}: {error}"
        self.events.append(Happened(round(at_s, 2), name, note))

    def _worker(self) -> psutil.Process | None:
        """One that is not frozen, at random."""
        workers = [worker for worker in self.running.workers() if worker.pid not in self._frozen]
        return self.chance.choice(workers) if workers else None

    def _kill(self) -> str:
        worker = self._worker()
        if worker is None:
            return "skipped: no worker lives"
        worker.kill()
        return f"pid {worker.pid}"

    def _freeze(self) -> str:
        worker = self._worker()
        if worker is None:
            return "skipped: no worker lives"
        self._frozen.add(worker.pid)
        worker.suspend()
        seconds = self.chance.uniform(*FREEZE_S)
        self.ended.wait(seconds)
        with suppress(psutil.NoSuchProcess):
            worker.resume()
        self._frozen.discard(worker.pid)
        return f"pid {worker.pid} for {seconds:.1f} s"

    def _version(self) -> str:
        if not self.deployments.can_deploy:
            return "skipped: this simplenet has no deploy and rollback"
        if not self._operating.acquire(blocking=False):
            return "skipped: the last change is not done"
        try:
            refusal = self.deployments.next_change()
            return f"refused: {refusal}" if refusal else f"now the weights {self.deployments.history[-1]}"
        finally:
            self._operating.release()

    def _stall(self) -> str:
        seconds = self.chance.uniform(*STALL_S)
        clients = intruders.stall(self.running.port, STALLED, seconds, self.ended)
        return f"{len(clients)} clients for {seconds:.1f} s"

    def _drip(self) -> str:
        seconds = self.chance.uniform(*DRIP_S)
        intruders.drip(self.running.port, self.requests.good[1][0], DRIPPING, seconds, self.ended)
        return f"{DRIPPING} clients for {seconds:.1f} s"

    def _vanish(self) -> str:
        intruders.vanish(self.running.port, self.requests.good[64][1], VANISHING, self.chance)
        return f"{VANISHING} clients"

    def _burst(self) -> str:
        small = [request for request in self.requests.small() if len(request.body) < 8_000]
        return self._counted(intruders.burst(self.running.port, small, BURST, BURST_S, self.ended))

    def _large(self) -> str:
        requests = self.requests.good[max(self.requests.good)]
        with ThreadPoolExecutor(LARGE) as pool:
            outcomes = Counter(pool.map(self._sent_once, (requests * LARGE)[:LARGE]))
        return self._counted(outcomes)

    def _sent_once(self, request: Request) -> str:
        client = Client(self.running.port)
        try:
            answer = client.send(request)
        except BrokenError as error:
            return str(error)
        finally:
            client.close()
        if answer.status == HTTPStatus.OK and not request.weights_that_answer(answer.content_type, answer.body):
            return WRONG
        return str(answer.status)

    def _counted(self, outcomes: Counter[str]) -> str:
        with self._counting:
            for outcome, number in outcomes.items():
                self.answered_in_bursts[outcome] = self.answered_in_bursts.get(outcome, 0) + number
        return ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())

    def _disk(self) -> str:
        """Let every write of the server to a file fail for a while, as on a full disk: a file may have 0 bytes.

        The kernel says EFBIG instead of ENOSPC; sockets and pipes are not affected, on a full disk neither.
        """
        with self._full:
            seconds = self.chance.uniform(*DISK_S)
            limited = self._limit_files(0)
            self.ended.wait(seconds)
            for _ in range(2):  # again for a worker that started meanwhile, with the old limit of the frontend
                self._limit_files(-1)
                time.sleep(0.5)
        return f"{limited} processes for {seconds:.1f} s" if limited else "skipped: no process could be limited"

    def _limit_files(self, size: int) -> int:
        """Set the largest size of a file for every process of the server, also those that have just started."""
        limited = 0
        frontend = self.running.frontend()
        for process in [*([frontend] if frontend else []), *self.running.workers()]:
            with suppress(psutil.Error, OSError, AttributeError):  # only Linux has this call
                hard = process.rlimit(psutil.RLIMIT_FSIZE)[1]
                process.rlimit(psutil.RLIMIT_FSIZE, (hard if size < 0 else size, hard))
                limited += 1
        return limited
