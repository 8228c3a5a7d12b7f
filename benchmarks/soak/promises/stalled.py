"""Uploads that stall: /ping and small requests are still answered, and memory is bounded."""

import time
from threading import Event, Thread
from typing import Any

from benchmarks.soak import intruders
from benchmarks.soak.sampling import look
from benchmarks.soak.server import Running
from benchmarks.soak.stage import Shown, Stage
from benchmarks.soak.tally import OK, WRONG, Tally
from benchmarks.soak.traffic import Traffic
from benchmarks.soak.verdict import Line
from benchmarks.soak.versions import Versions

STALLED, CLIENTS, WORKERS = 300, 16, 2
BEFORE_S, DURING_S, AFTER_S = 5.0, 15.0, 8.0
LEAST_SHARE_DURING, LEAST_SHARE_AFTER = 0.5, 0.8
MOST_GROWTH_MIB = 1024.0


def run(stage: Stage) -> Shown:
    """Measure the rate of 16 clients before, while and after 300 uploads of 16 MB stall."""
    clients = stage.count or STALLED
    with stage.served(WORKERS) as running:
        small = stage.requests.small()
        tally = Tally(time.monotonic())
        traffic = Traffic(
            running.port, CLIENTS, lambda chance: chance.choice(small), tally, Versions("A"), attempts=1
        ).start()
        before = _window(stage, running, tally, BEFORE_S, 0.0, "before")
        leave = Event()
        thread = Thread(target=intruders.stall, args=(running.port, clients, DURING_S + 60, leave), daemon=True)
        thread.start()
        during = _window(stage, running, tally, DURING_S, 0.2, f"{clients} stalled uploads")
        leave.set()
        thread.join()
        after = _window(stage, running, tally, AFTER_S, 0.8, "after")
        unanswered = traffic.end(30)
    facts = {"before": before, "during": during, "after": after, "wrong": tally.outcomes[WRONG], "stalled": clients}
    return Shown(_lines(before, during, after, tally.outcomes[WRONG] + unanswered), facts)


def _window(stage: Stage, running: Running, tally: Tally, seconds: float, done: float, what: str) -> dict[str, Any]:
    """The rate of correct answers, every ping, and the most memory of the frontend."""
    began, counted, pings, memory = time.monotonic(), tally.outcomes[OK], [], 0.0
    while (now := time.monotonic() - began) < seconds:
        looked = look(running)
        pings.append(looked["ping_ms"])
        memory = max(memory, looked["frontend_mib"])
        stage.advance(done + now / (BEFORE_S + DURING_S + AFTER_S), what)
        time.sleep(0.5)
    return {
        "ok_per_s": round((tally.outcomes[OK] - counted) / (time.monotonic() - began), 1),
        "pings": len(pings),
        "pings_without_answer": pings.count(None),
        "slowest_ping_ms": max((ping for ping in pings if ping), default=None),
        "frontend_mib": memory,
    }


def _lines(before: dict[str, Any], during: dict[str, Any], after: dict[str, Any], wrong: int) -> list[Line]:
    share, share_after = (one["ok_per_s"] / max(1.0, before["ok_per_s"]) for one in (during, after))
    growth = during["frontend_mib"] - before["frontend_mib"]
    return [
        Line(
            f"small requests: {before['ok_per_s']:g}/s before, {during['ok_per_s']:g}/s during "
            f"({share:.0%}, at least {LEAST_SHARE_DURING:.0%})",
            share >= LEAST_SHARE_DURING,
        ),
        Line(
            f"/ping during: {during['pings_without_answer']} of {during['pings']} without an answer in a second (0), "
            f"the slowest {during['slowest_ping_ms']} ms",
            during["pings"] > 0 and during["pings_without_answer"] == 0,
        ),
        Line(
            f"memory of the frontend: {before['frontend_mib']:g} MiB before, {during['frontend_mib']:g} MiB during "
            f"(at most {MOST_GROWTH_MIB:g} more)",
            growth <= MOST_GROWTH_MIB,
        ),
        Line(
            f"when they have left: {after['ok_per_s']:g}/s ({share_after:.0%}, at least {LEAST_SHARE_AFTER:.0%})",
            share_after >= LEAST_SHARE_AFTER,
        ),
        Line(f"wrong or never answered: {wrong} (0)", wrong == 0),
    ]
