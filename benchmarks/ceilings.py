"""What no server can exceed: the network alone in one process, and TorchServe's frontend without a model."""

import functools
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import closed_loop, loads, processes, warm_up
from benchmarks.envs import ENVS
from benchmarks.registry import OURS, PORTS, PROGRAMS
from benchmarks.server import Advance, Plan

ROWS = (1, 64, 1024, 4096)


def in_process(work: Path, threads: int, seconds: float) -> list[dict[str, Any]]:
    """Rows per second of softmax(network(rows)) for each batch size, in a process of its own."""
    process = subprocess.run(
        [sys.executable, str(PROGRAMS / "in_process.py"), str(threads), str(seconds), *map(str, ROWS)],
        env={**os.environ, "BENCH_WEIGHTS": str(work / "weights.pt")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60 + 10 * seconds,
    )
    return [json.loads(line) for line in process.stdout.splitlines()]


def frontend(work: Path, plan: Plan, advance: Advance) -> dict[str, Any]:
    """SimpleNet Serve's frontend, with requests that never reach a worker.

    The body of GET /ping is the same as that of a prediction, and is read in full before the response.
    """
    with tempfile.TemporaryDirectory(prefix="b", dir=work) as name:
        folder = Path(name)
        port = processes.free_ports(PORTS)
        environment = OURS.process_environment(port, folder)
        program = [str(OURS.python()), str(PROGRAMS / OURS.program)]
        log = ENVS / "ceiling.log"
        with log.open("wb") as output:
            subprocess.run(
                [*program, "prepare"], env=environment, stdout=output, stderr=output, check=True, timeout=120
            )
        with processes.started([*program, "serve"], environment, folder, log) as (_, process):
            processes.wait_until(lambda: _responds(port), process, 120)
            return _measure_frontend(f"http://127.0.0.1:{port}", folder, plan, advance)


def _measure_frontend(url: str, folder: Path, plan: Plan, advance: Advance) -> dict[str, Any]:
    missing, ping = f"{url}/predictions/no-such-model", f"{url}/ping"

    def rate(kind: str, address: str, method: str, seconds: int) -> float:
        bodies = [loads.plain_body(kind, 1)]
        return float(closed_loop.send(address, bodies, folder, 64, seconds, method)["answered_per_s"])

    windows = {kind: functools.partial(rate, kind, ping, "GET") for kind in ("json", "raw")}
    result: dict[str, Any] = {"warm_up": warm_up.until_level(windows, plan.warm_up, advance)}
    for kind in ("json", "raw"):
        for name, address, method in (("404", missing, "POST"), ("ping", ping, "GET")):
            advance(f"frontend: {name}, {kind} body")
            rate(kind, address, method, 1)
            result[f"{kind}_{name}_per_s"] = rate(kind, address, method, plan.seconds)
    advance("frontend: GET /ping")
    result["ping_per_s"] = closed_loop.get(ping, 64, plan.seconds)["requests_per_s"]
    return result


def _responds(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        time.sleep(0.05)
        return False
    finally:
        connection.close()
