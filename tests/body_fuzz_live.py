"""Damaged requests against a real server, beside good neighbours: `scripts/fuzz --bodies --live N`.

No answer may be a 5xx, every whole request gets one, no worker may end, and no neighbour may fail.
"""

import http.client
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

from body_framing import GOOD_ROW, PATH, Sent, framed
from mutations import Result
from support import free_port, simplenet, worker_pids

from simplenet.media_types import RAW

CLIENTS, NEIGHBOURS = 4, 4
ANSWER_S = 20.0  # for a whole request
SILENCE_S = 0.3  # after which bytes that are no whole request are left
PAUSE_S = 0.005  # of a neighbour, which only watches
HEADERS = {"Content-Type": RAW, "Accept": RAW}
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


@dataclass
class Neighbours:
    """Clients that send a good row again and again; what they met other than its answer."""

    port: int
    answered: int = 0
    harmed: list[str] = field(default_factory=list)
    ended: Event = field(default_factory=Event)

    def run(self) -> None:
        expected = b""
        while not self.ended.wait(PAUSE_S):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                while not self.ended.wait(PAUSE_S):
                    connection.request("POST", PATH, GOOD_ROW, HEADERS)
                    response = connection.getresponse()
                    body = response.read()
                    expected = expected or body
                    self.answered += 1
                    if response.status != 200 or not _close(body, expected):
                        self.harmed.append(f"{response.status} {body[:100]!r}")
            except (OSError, http.client.HTTPException) as error:
                self.harmed.append(repr(error))
            finally:
                connection.close()


def _close(body: bytes, expected: bytes) -> bool:
    import numpy as np

    return len(body) == len(expected) and bool(
        np.allclose(np.frombuffer(body, "<f4"), np.frombuffer(expected, "<f4"), rtol=0, atol=1e-5)
    )


def send(port: int, sent: Sent) -> tuple[list[int], str | None]:
    """The statuses of the answers, and what is wrong with them, if anything."""
    received = bytearray()
    statuses: list[int] = []
    with socket.create_connection(("127.0.0.1", port), ANSWER_S) as connection:
        with suppress(OSError):  # the server may refuse it before its end
            connection.sendall(sent.data)
        connection.settimeout(ANSWER_S if sent.answers is not None else SILENCE_S)
        with suppress(OSError):
            while sent.answers is None or len(statuses) < sent.answers:
                data = connection.recv(1 << 16)
                if not data:
                    break
                received += data
                statuses += taken(received)
    if wrong := [status for status in statuses if status >= 500]:
        return statuses, f"status {wrong[0]}"
    if sent.answers is not None and len(statuses) < sent.answers:
        return statuses, f"{len(statuses)} answers to {sent.answers} requests"
    return statuses, None


def taken(received: bytearray) -> Iterator[int]:
    r"""Take every whole answer from the front; their statuses.

    >>> list(taken(bytearray(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 404 No")))
    [200]
    """
    while (end := received.find(b"\r\n\r\n")) >= 0 and (status := STATUS.match(received)):
        length = LENGTH.search(received, 0, end + 2)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(received) < whole:
            return
        number = int(status[1])
        del received[:whole]
        if number != 100:
            yield number


@contextmanager
def served() -> Iterator[int]:
    """A small network on a real server; its port."""
    from simplenet import SimpleNet, save_for_inference

    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "fuzz.pt"
        save_for_inference(SimpleNet(784, 16, 10), checkpoint)
        started = simplenet("serve", "--checkpoint", checkpoint, "--port", str(port), "--detach")
        if started.returncode:
            raise SystemExit(f"fuzz: the server did not start: {started.stdout}{started.stderr}")
        try:
            yield port
        finally:
            simplenet("stop", "--port", str(port))


def run_live(count: int, start: int, seed: int) -> Iterator[tuple[int, Result]]:
    """Send `count` requests to a real server; after every hundred, what became of them so far."""
    result = Result()
    with served() as port, ThreadPoolExecutor(CLIENTS) as pool:
        neighbours = Neighbours(port)
        threads = [Thread(target=neighbours.run, daemon=True) for _ in range(NEIGHBOURS)]
        pids = worker_pids(port)
        for thread in threads:
            thread.start()
        for first in range(start, start + count, 100):
            numbers = range(first, min(first + 100, start + count))
            answers = pool.map(lambda number: _one(port, number, seed), numbers)
            for number, (kind, statuses, wrong) in zip(numbers, answers, strict=True):
                result.outcomes.update(f"{kind}: {status}" for status in statuses or ("no whole request",))
                if wrong:
                    result.failures.append(f"number {number}: {kind}: {wrong}")
            yield min(first + 100, start + count) - start, result
        neighbours.ended.set()
        for thread in threads:
            thread.join(ANSWER_S)
        result.outcomes["neighbours answered"] = neighbours.answered
        result.failures += [f"a neighbour was harmed: {harm}" for harm in neighbours.harmed]
        if worker_pids(port) != pids or not pids:
            result.failures.append(f"workers {sorted(pids)} were replaced by {sorted(worker_pids(port))}")
        yield count, result


def _one(port: int, number: int, seed: int) -> tuple[str, list[int], str | None]:
    sent = framed(number, seed)
    try:
        statuses, wrong = send(port, sent)
    except OSError as error:
        statuses, wrong = [], f"no connection: {error!r}"
    if wrong:
        kept = Path(tempfile.gettempdir()) / f"simplenet-fuzz-live-{number}"
        kept.write_bytes(sent.data)
        wrong = f"{kept}: {wrong}"
    return sent.kind, statuses, wrong


def show_live(count: int, start: int, seed: int) -> int:
    """Run with a progress bar, print what became of everything, and give the exit code."""
    from mutations import show_all

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    began = time.monotonic()
    code = show_all("fuzz a live server", run_live(count, start, seed), count)
    print(f"{time.monotonic() - began:8.0f}  s")
    return code
