"""A row that makes the network raise: it gets 500, and no request in its batch is harmed."""

import http.client
import random
import socket
import time
from collections import Counter
from contextlib import ExitStack

from benchmarks.soak.client import Answer
from benchmarks.soak.collection import Request
from benchmarks.soak.intruders import raw_request
from benchmarks.soak.server import Running
from benchmarks.soak.stage import Shown, Stage
from benchmarks.soak.verdict import Line

BATCHES, SIZE, DELAY_MS = 10_000, 16, 50
BOUND_S = 540.0
TIMEOUT_S = 60.0


def run(stage: Stage) -> Shown:
    """Send groups of 16 requests at once, one of them poison, to one worker that waits for 16."""
    most = stage.count or BATCHES
    with stage.served(1, stage.profile(SIZE, DELAY_MS)) as running:
        before = [worker.pid for worker in running.workers()]
        groups, poison, neighbours, seconds = _send_groups(stage, running, most)
        after = [worker.pid for worker in running.workers()]
    harmed = neighbours.total() - neighbours["200"]
    return Shown(
        [
            Line(f"{groups:,} of {most:,} groups of {SIZE} were sent, each with one poison row", groups == most),
            Line(f"{harmed} of {neighbours.total():,} neighbours were harmed: {dict(neighbours)} (0)", harmed == 0),
            Line(f"the poison got {dict(poison)} (500, every time)", poison == Counter({"500": groups})),
            Line(f"the worker lives on: pid {before} before, {after} after", before == after),
        ],
        {"groups": groups, "poison": dict(poison), "neighbours": dict(neighbours), "seconds": round(seconds, 1)},
    )


def _send_groups(stage: Stage, running: Running, most: int) -> tuple[int, Counter[str], Counter[str], float]:
    """How many groups were sent, what the poison rows got, what the others got, and how long it took."""
    chance, poison, neighbours = random.Random(0), Counter[str](), Counter[str]()
    small = [request for request in stage.requests.small() if len(request.body) < 8_000]
    start = time.monotonic()
    groups = 0
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port), TIMEOUT_S)) for _ in range(SIZE)
        ]
        while groups < most and time.monotonic() - start < BOUND_S:
            sent = [chance.choice(small) for _ in connections]
            poisoned = chance.randrange(SIZE)
            sent[poisoned] = stage.requests.poison
            for connection, request in zip(connections, sent, strict=True):
                connection.sendall(raw_request(request))
            for number, (connection, request) in enumerate(zip(connections, sent, strict=True)):
                answer = received(connection)
                if number == poisoned:
                    poison[str(answer.status)] += 1
                else:
                    neighbours[_outcome(request, answer)] += 1
            groups += 1
            if groups % 50 == 0:
                stage.advance(groups / most, f"{neighbours.total() - neighbours['200']} neighbours harmed")
    return groups, poison, neighbours, time.monotonic() - start


def _outcome(request: Request, answer: Answer) -> str:
    if answer.status != 200:
        return str(answer.status)
    return "200" if "A" in request.weights_that_answer(answer.content_type, answer.body) else "WRONG"


def received(connection: socket.socket) -> Answer:
    """The answer on a connection that stays open.

    Raises:
        OSError, http.client.HTTPException: there is none.
    """
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        return Answer(response.status, response.read(), response.getheader("Content-Type", ""))
