"""The mixed soak: good and bad traffic while everything goes wrong."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.soak import network, server, traffic
from benchmarks.soak.chaos import Chaos, schedule
from benchmarks.soak.collection import Collection
from benchmarks.soak.deployments import Deployments
from benchmarks.soak.sampling import Sampler
from benchmarks.soak.tally import Tally

WORKERS = 2
CLIENTS = 12
WARM_UP_S = 3.0
RECOVERY_S = 30.0  # at the end, until every worker lives again
Advance = Callable[[float, str], None]  # seconds done, and what happens


def run(minutes: float, seed: int, port: int | None, advance: Advance) -> dict[str, Any]:
    """Start a server, soak it, and return everything that was counted."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        advance(0, "networks")
        networks = network.networks(folder)
        requests = Collection(networks, seed)
        advance(0, "server")
        with server.served(networks.archives["A"], folder, WORKERS, port) as running:
            advance(0, "warm-up")
            traffic.warmed_up(running.port, [*requests.good[1], *requests.good[64]], WARM_UP_S)
            deployments = Deployments(running, networks.archives, folder)
            return _soaked(running, requests, deployments, minutes, seed, advance)


def _soaked(
    running: server.Running, requests: Collection, deployments: Deployments, minutes: float, seed: int, advance: Advance
) -> dict[str, Any]:
    tally = Tally(time.monotonic())
    sampler = Sampler(running, tally).start()
    chaos = Chaos(running, deployments, requests, seed, tally.start).begin(schedule(60 * minutes, seed))
    clients = traffic.Traffic(
        running.port, CLIENTS, requests.chosen, tally, deployments.versions, seed=seed, pause_s=0.002
    ).start()
    try:
        while (now := time.monotonic() - tally.start) < 60 * minutes:
            advance(now, ", ".join(f"{outcome} {number:,}" for outcome, number in tally.outcomes.most_common(3)))
            time.sleep(0.5)
            if running.process.poll() is not None:
                break
    finally:  # also on Ctrl-C: nothing new begins, what is frozen thaws
        clients.ended.set()
        chaos.ended.set()
    advance(60 * minutes, "the last answers")
    unanswered = clients.end()
    events = chaos.end()
    samples = sampler.end()
    return {
        "minutes": round((time.monotonic() - tally.start) / 60, 3) if running.process.poll() is not None else minutes,
        "clients": CLIENTS,
        "workers": WORKERS,
        "workers_at_end": _recovered(running),
        "ended_by_itself": running.process.poll(),
        "outcomes": dict.fromkeys(("LOST", "WRONG"), 0) | dict(tally.outcomes),
        "met": dict(tally.met),
        "examples": tally.examples,
        "rows": tally.rows,
        "unanswered": unanswered,
        "p50_ms": tally.latency_ms(0.5),
        "p99_ms": tally.latency_ms(0.99),
        "bursts": chaos.answered_in_bursts,
        "events": events,
        "samples": samples,
        "seconds": {second: dict(one.outcomes) for second, one in sorted(tally.seconds.items())},
    }


def _recovered(running: server.Running) -> int:
    """How many workers live once those that were killed had the time to return."""
    deadline = time.monotonic() + RECOVERY_S
    while (living := len(running.workers())) < WORKERS and time.monotonic() < deadline:
        time.sleep(0.2)
    return living
