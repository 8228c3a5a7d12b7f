"""Mixed traffic: threads that send one request after another and judge every answer."""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread

from benchmarks.soak.client import ATTEMPTS, TIMEOUT_S, BrokenError, Client
from benchmarks.soak.collection import Request
from benchmarks.soak.tally import Tally, judged
from benchmarks.soak.versions import Versions

SHARE_NEW = 0.2  # of the requests that open a new connection
LATE_S = 60.0  # how long the last requests may take once the traffic ends
Choose = Callable[[random.Random], Request]


class Traffic:
    """Clients in a closed loop until `end`, or until `most` requests were recorded.

    Args:
        port: of the server.
        clients: threads, each with one connection.
        choose: the next request.
        tally: what counts them.
        versions: what may answer.
        seed: of every choice.
        attempts: for one request; 1 for a client without patience.
        pause_s: between two requests of one client.
        most: requests after which the traffic ends by itself.
        timeout_s: how long a client waits for one answer.
    """

    def __init__(
        self,
        port: int,
        clients: int,
        choose: Choose,
        tally: Tally,
        versions: Versions,
        *,
        seed: int = 0,
        attempts: int = ATTEMPTS,
        pause_s: float = 0.0,
        most: int | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.port, self.choose, self.tally, self.versions = port, choose, tally, versions
        self.attempts, self.pause_s, self.most, self.timeout_s = attempts, pause_s, most, timeout_s
        self.ended = Event()
        self.threads = [
            Thread(target=self._run, args=(random.Random(f"{seed}-{number}"),), daemon=True)
            for number in range(clients)
        ]

    def start(self) -> "Traffic":
        """Begin to send."""
        for thread in self.threads:
            thread.start()
        return self

    def end(self, timeout_s: float = LATE_S) -> int:
        """Send no more, wait for the last answers, and return how many clients still wait for theirs."""
        self.ended.set()
        deadline = time.monotonic() + timeout_s
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return sum(thread.is_alive() for thread in self.threads)

    @property
    def done(self) -> bool:
        """Whether it has ended by itself."""
        return not any(thread.is_alive() for thread in self.threads)

    def _run(self, chance: random.Random) -> None:
        client = Client(self.port, self.timeout_s)
        while not self.ended.is_set() and (self.most is None or self.tally.recorded < self.most):
            if chance.random() < SHARE_NEW:
                client.close()
            exchange = client.send_patiently(self.choose(chance), chance, self.attempts)
            self.tally.record(exchange, *judged(exchange, self.versions))
            if self.pause_s:
                self.ended.wait(self.pause_s)
        client.close()


def warmed_up(port: int, requests: list[Request], seconds: float) -> None:
    """Send every request in turn for so long, so that no measurement pays for the first of each."""
    client, deadline = Client(port), time.monotonic() + seconds
    while time.monotonic() < deadline:
        for request in requests:
            with suppress(BrokenError):
                client.send(request)
    client.close()
