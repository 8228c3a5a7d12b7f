"""The temp directory emptied while the server runs, then its worker killed: it recovers, or it ends with the cause."""

import shutil
import time
from typing import Any

from benchmarks.soak.client import BrokenError, Client
from benchmarks.soak.collection import Request
from benchmarks.soak.server import Running
from benchmarks.soak.stage import Shown, Stage
from benchmarks.soak.tally import WRONG, Tally
from benchmarks.soak.traffic import Traffic
from benchmarks.soak.verdict import Line
from benchmarks.soak.versions import Versions

CLIENTS = 8
LIMIT_S = 40.0
WATCHED_S = 60.0


def run(stage: Stage) -> Shown:
    """Empty the run directory's `tmp`, kill the only worker, and watch for a minute what becomes of the server."""
    with stage.served(1) as running:
        small = stage.requests.small()
        tally = Tally(time.monotonic())
        clients = Traffic(
            running.port, CLIENTS, lambda chance: chance.choice(small), tally, Versions("A"), attempts=1, pause_s=0.02,
            timeout_s=LIMIT_S,
        ).start()  # fmt: skip
        time.sleep(1)
        facts = _broken(stage, running, small[1])
        silent = clients.end(LIMIT_S + 5)
        longest = tally.latency_ms(1.0) or 0.0
    never = silent + sum(number for reason, number in tally.met.items() if reason.startswith("no answer"))
    facts |= {"never_answered": never, "longest_ms": longest, "met": dict(tally.met), "statuses": dict(tally.statuses)}
    recovered, ended, code = facts["recovered_s"], facts["ended_s"], facts["exit_code"]
    cause = facts["printed"][-1] if ended is not None and facts["printed"] else ""
    how = f"ended after {ended:.1f} s" if ended is not None else "neither recovered nor ended"
    return Shown(
        [
            Line(
                f"the server recovered after {recovered:.1f} s" if recovered is not None else f"the server {how}",
                any(time_s is not None and time_s <= LIMIT_S for time_s in (recovered, ended)),
            ),
            Line(f"exit code {code}: {cause or 'no cause'}", bool(code and cause) if ended is not None else None),
            Line(f"requests without an answer after {LIMIT_S:g} s: {never} (0)", never == 0),
            Line(f"the longest wait for an answer or an end of the connection: {longest / 1000:.1f} s", None),
            Line(f"wrong {tally.outcomes[WRONG]} (0)", tally.outcomes[WRONG] == 0),
        ],
        facts,
    )


def _broken(stage: Stage, running: Running, request: Request) -> dict[str, Any]:
    """Break it, and see after how many seconds it recovers or ends."""
    temporary = running.record.run_dir / "tmp"
    for path in temporary.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    printed = len(running.log())
    for worker in running.workers():
        worker.kill()
    began, recovered, ended = time.monotonic(), None, None
    while (now := time.monotonic() - began) < WATCHED_S and recovered is None and ended is None:
        stage.advance(now / WATCHED_S, "waiting for the server to recover or to end")
        if running.process.poll() is not None:
            ended = now
        elif _answers(running.port, request):
            recovered = time.monotonic() - began
        time.sleep(0.2)
    lines = running.log()[printed:].strip().splitlines()
    return {"recovered_s": recovered, "ended_s": ended, "exit_code": running.process.poll(), "printed": lines}


def _answers(port: int, request: Request) -> bool:
    client = Client(port, 2)
    try:
        return client.send(request).status == 200
    except BrokenError:
        return False
    finally:
        client.close()
