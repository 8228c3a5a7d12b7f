"""A stop: what was accepted before it is answered, what comes later gets 503, and nothing is left behind."""

import math
import time
from collections import Counter
from contextlib import suppress

import psutil

from benchmarks.soak.crowd import CUT, Crowd, Sent
from benchmarks.soak.stage import Shown, Stage
from benchmarks.soak.verdict import Line

CLIENTS, WORKERS = 600, 2
LOADED_S = 3.0
BOUND_S = 90.0
DRAIN_TIMEOUT_S = 30.0


def run(stage: Stage) -> Shown:
    """Stop a server under 600 connections that each have a request in flight."""
    clients = stage.count or CLIENTS
    with stage.served(WORKERS, f"--drain-timeout={DRAIN_TIMEOUT_S:g}") as running:
        frontend = running.frontend()
        members = [*([frontend] if frontend else []), *running.workers()]
        crowd = Crowd(running.port, clients, stage.requests.good[1][1], BOUND_S).start()
        stage.advance(0.3, f"{clients} clients")
        time.sleep(LOADED_S)
        stage.advance(0.6, "stop")
        began = time.monotonic()
        done = running.command("stop", timeout_s=BOUND_S)
        seconds = time.monotonic() - began
        sent = crowd.join()
        left = [process.pid for process in members if _runs(process)]
    before, after = split(sent)
    facts = {
        "clients": clients,
        "before": dict(Counter(one.status for one in before)),
        "later": dict(Counter(one.status for one in after)),
        "stop_s": round(seconds, 2),
        "output": (done.stdout + done.stderr).strip(),
    }
    return Shown([*_of_requests(before, after), *_of_processes(seconds, done.returncode, left)], facts)


def _of_requests(before: list[Sent], after: list[Sent]) -> list[Line]:
    unanswered, later = sum(one.status == CUT for one in before), Counter(one.status for one in after)
    strange = {status: number for status, number in later.items() if status not in (200, 503, CUT)}
    cut = [one.at - after[0].at for one in after if one.status == CUT]
    when = f", {min(cut):.2f} to {max(cut):.2f} s after the first refusal" if cut else ""
    return [
        Line(
            f"sent before the server began to refuse: {len(before):,} requests, {unanswered} of them without an "
            "answer (0)",
            bool(before) and unanswered == 0 and all(one.status in (200, CUT) for one in before),
        ),
        Line(f"sent later: {later[200]} got 200, {later[503]} got 503, others: {strange or 'none'}", not strange),
        Line(f"cut off at the very end: {len(cut)}{when}", None),
    ]


def _of_processes(seconds: float, code: int, left: list[int]) -> list[Line]:
    return [
        Line(
            f"stop took {seconds:.1f} s with status {code} (at most {DRAIN_TIMEOUT_S:g} s and a bit)",
            code == 0 and seconds < DRAIN_TIMEOUT_S + 10,
        ),
        Line(f"processes left behind: {left or 'none'}", not left),
    ]


def split(sent: list[Sent]) -> tuple[list[Sent], list[Sent]]:
    """The requests that were sent before the server began to refuse, and those that were sent later.

    It begins when the earliest request that was refused was sent, or when the first connection ended with a request in
    flight.

    Example:
        >>> before, after = split([Sent(0.0, 1.0, 200), Sent(1.0, 3.5, 200), Sent(2.0, 3.0, 503), Sent(3.2, 4.0, CUT)])
        >>> [one.at for one in before], [one.at for one in after]
        ([0.0, 1.0], [2.0, 3.2])
    """
    limits = [one.ended if one.status == CUT else one.at for one in sent if one.status != 200]
    limit = min(limits, default=math.inf)
    return [one for one in sent if one.at < limit], [one for one in sent if one.at >= limit]


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
