"""A killed worker: only the requests in its hands fail, with 503; a client that tries again loses nothing."""

import random
import time
from typing import Any

from benchmarks.soak.client import ATTEMPTS
from benchmarks.soak.server import Running
from benchmarks.soak.stage import Shown, Stage
from benchmarks.soak.tally import LOST, WRONG, Tally
from benchmarks.soak.traffic import Traffic
from benchmarks.soak.verdict import Line
from benchmarks.soak.versions import Versions

REQUESTS, CLIENTS, WORKERS = 50_000, 16, 2
EVERY_S = 3.0
BOUND_S = 300.0  # for each half


def run(stage: Stage) -> Shown:
    """Kill a worker every 3 s under 16 clients: once with clients that do not try again, once with ours."""
    with stage.served(WORKERS) as running:
        without = _under_kills(stage, running, 1, 0.0)
        with_retries = _under_kills(stage, running, ATTEMPTS, 0.5)
    others = {status: number for status, number in without["statuses"].items() if status not in (200, 503)}
    in_hands = CLIENTS * without["kills"]
    return Shown(
        [
            Line(
                f"without retries: {without['kills']} kills failed {without['lost']} of {without['requests']:,} "
                f"requests (at most the {in_hands} of all clients)",
                without["kills"] > 0 and without["lost"] <= in_hands,
            ),
            Line(f"all of them with 503; others: {others or 'none'} (0 is no answer)", not others),
            Line(
                f"with retries: {with_retries['kills']} kills lost {with_retries['lost']} of "
                f"{with_retries['requests']:,} requests (0)",
                with_retries["kills"] > 0 and with_retries["lost"] == 0,
            ),
            Line(f"wrong {without['wrong'] + with_retries['wrong']} (0)", not without["wrong"] + with_retries["wrong"]),
        ],
        {"without_retries": without, "with_retries": with_retries},
    )


def _under_kills(stage: Stage, running: Running, attempts: int, done: float) -> dict[str, Any]:
    small, most = stage.requests.small(), stage.count or REQUESTS
    chance, kills = random.Random(attempts), 0
    tally = Tally(time.monotonic())
    clients = Traffic(
        running.port, CLIENTS, lambda chance: chance.choice(small), tally, Versions("A"), attempts=attempts, most=most
    ).start()
    due = EVERY_S / 3
    while not clients.done and (now := time.monotonic() - tally.start) < BOUND_S:
        if now >= due and (workers := running.workers()):
            chance.choice(workers).kill()
            kills, due = kills + 1, now + EVERY_S
        stage.advance(done + tally.recorded / most / 2, f"{kills} kills, {tally.outcomes[LOST]} failed")
        time.sleep(0.05)
    unanswered = clients.end()
    return {
        "kills": kills,
        "requests": tally.recorded,
        "lost": tally.outcomes[LOST] + unanswered,
        "wrong": tally.outcomes[WRONG],
        "statuses": dict(tally.statuses),
        "met": dict(tally.met),
        "p99_ms": tally.latency_ms(0.99),
        "examples": tally.examples[:5],
    }
