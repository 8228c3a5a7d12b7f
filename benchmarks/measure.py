"""Everything that is measured of one server: start, right answers, closed and open loops, CPU and memory."""

import contextlib
import http.client
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import requests

from benchmarks import closed_loop, loads, processes
from benchmarks.envs import ENVS, Unavailable
from benchmarks.open_loop import Generator
from benchmarks.registry import PORTS, PROGRAMS, Peer

READY_TIMEOUT_S = 120.0
SETTLE_TIMEOUT_S = 30.0
TOLERANCE = 1e-5
OPEN_SHARES = (0.5, 0.8)
Reference = Callable[[np.ndarray], np.ndarray]
Advance = Callable[[str], None]


class Session:
    """A running peer, and how to ask it."""

    def __init__(self, peer: Peer, port: int, group: processes.Group, folder: Path, seconds: int) -> None:
        self.peer, self.port, self.group, self.folder, self.seconds = peer, port, group, folder, seconds
        self.url = f"http://127.0.0.1:{port}{peer.path}"

    def ask(self, body: loads.Body, timeout_s: float = 10.0) -> loads.Answer:
        """One request on a connection of its own.

        Raises:
            ValueError: the answer is not 200.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("POST", self.peer.path, body.content, body.headers)
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise ValueError(f"{response.status}: {content[:200]!r}")
            return body.read({name.lower(): value for name, value in response.getheaders()}, content)
        finally:
            connection.close()

    def check(self, kind: str, rows: int, reference: Reference) -> float:
        """The largest difference to the reference.

        Raises:
            ValueError: it is beyond the tolerance.
        """
        error = self.ask(self.peer.body(kind, rows)).error(reference(loads.expected_rows(kind, rows)))
        if not error <= TOLERANCE:
            raise ValueError(f"{kind}, {rows} rows: answers differ from the reference by {error:.3g}")
        return error

    def settle(self) -> None:
        """Wait until what an earlier load left in the queues is gone: a lone request is answered."""
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            self.ask(self.peer.body("json", 1), SETTLE_TIMEOUT_S)

    def run_closed(self, load: loads.Load, seconds: int | None = None) -> dict[str, Any]:
        """One measurement of a load, with the CPU seconds that the server took for 1,000 requests."""
        self.settle()
        members = self.group.members()
        before = self.group.cpu_s(members)
        bodies = self.peer.bodies(load)
        result = closed_loop.send(self.url, bodies, self.folder, load.connections, seconds or self.seconds)
        used = self.group.cpu_s(members) - before
        result["cpu_s_per_1000"] = used / result["requests"] * 1000 if result["requests"] else None
        result["rows_per_s"] = result["requests_per_s"] * load.rows
        return result

    def run_open(self, kind: str, capacity: float, share: float) -> dict[str, Any]:
        """One open-loop measurement of one-row requests at a share of the capacity found before."""
        self.settle()
        generator = Generator(self.url, self.peer.body(kind, 1), max(1.0, capacity * share), self.seconds)
        return {"kind": kind, "share": share, **generator.run()}


def measure(
    peer: Peer, reference: Reference, weights: Path, rounds: int, seconds: int, advance: Advance
) -> dict[str, Any]:
    """All of one peer; what cannot be had is reported with its reason."""
    report: dict[str, Any] = {"name": peer.name, "label": peer.label, "batches": peer.batches, "status": "ok"}
    try:
        advance("environment")
        python = peer.python()
        report["version"] = _version(python, peer.package)
        with tempfile.TemporaryDirectory(prefix="b", dir=weights) as folder:
            _measure_running(peer, python, Path(folder), report, reference, rounds, seconds, advance)
    except (Unavailable, RuntimeError, ValueError, OSError, subprocess.SubprocessError) as error:
        report.update(status="failed", reason=_reason(error, ENVS / f"{peer.name}.log"))
    return report


def _measure_running(
    peer: Peer, python: Path, folder: Path, report: dict[str, Any], reference: Reference, rounds: int, seconds: int,
    advance: Advance,
) -> None:  # fmt: skip
    port = processes.free_ports(PORTS)
    environment = peer.process_environment(port, folder)
    program = [str(python), str(PROGRAMS / peer.program)]
    log = ENVS / f"{peer.name}.log"
    log.unlink(missing_ok=True)
    if peer.prepares:
        advance("prepare")
        with log.open("wb") as output:
            subprocess.run(
                [*program, "prepare"],
                env=environment,
                cwd=folder,
                stdout=output,
                stderr=output,
                check=True,
                timeout=120,
            )
    advance("start")
    with processes.started([*program, "serve"], environment, folder, log) as (group, process):
        session = Session(peer, port, group, folder, seconds)
        report["start_s"] = processes.wait_until(_first_right_answer(session, reference), process, READY_TIMEOUT_S)
        report["memory_after_start"] = group.memory()
        _measure_session(session, report, reference, rounds, advance)


def _first_right_answer(session: Session, reference: Reference) -> Callable[[], bool]:
    def ready() -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError, http.client.HTTPException):
            session.check("json", 1, reference)
            return True
        return False

    return ready


def _measure_session(
    session: Session, report: dict[str, Any], reference: Reference, rounds: int, advance: Advance
) -> None:
    peer = session.peer
    offered = [load for load in peer.wanted() if peer.reason_missing(load.kind) is None]
    report["not_offered"] = {
        load.name: reason for load in peer.wanted() if (reason := peer.reason_missing(load.kind)) is not None
    }
    kinds = {(load.kind, load.rows) for load in offered if load.kind != "mixed"}
    report["largest_error"] = max(session.check(kind, rows, reference) for kind, rows in sorted(kinds))
    for load in offered:
        advance(f"warm up: {load.name}")
        session.run_closed(load, 1)
    runs: dict[str, list[dict[str, Any]]] = {load.name: [] for load in offered}
    opened: list[dict[str, Any]] = []
    for number in range(1, rounds + 1):
        for load in offered:
            advance(f"round {number}: {load.name}")
            if peer.adapts_s:
                session.run_closed(load, peer.adapts_s)
            runs[load.name].append(session.run_closed(load))
    report["loads"] = {name: {**medians(results), "runs": results} for name, results in runs.items()}
    for kind, name in (("json", loads.JSON_AT_64), ("raw", loads.RAW_AT_64)):
        capacity = report["loads"].get(name, {}).get("requests_per_s")
        for share in OPEN_SHARES if capacity else ():
            advance(f"open loop: {kind} at {share:.0%}")
            for _ in range(math.ceil(peer.adapts_s / session.seconds)):
                session.run_open(kind, capacity, share)
            results = [session.run_open(kind, capacity, share) for _ in range(rounds)]
            opened.append({"kind": kind, "share": share, **medians(results), "runs": results})
    report["open_loop"] = opened
    report["memory_after_load"] = session.group.memory()
    if peer.torchserve:
        report["second_worker_mib"] = _second_worker(session)


def medians(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Of every number its median over the rounds, but of the errors their sum."""
    merged: dict[str, Any] = {}
    for name, value in results[0].items():
        values = [result[name] for result in results if isinstance(result[name], (int, float))]
        if isinstance(value, (int, float)) and values:
            merged[name] = sum(values) if name == "errors" else statistics.median(values)
    return merged


def _second_worker(session: Session) -> float | None:
    """What one more worker adds to the memory of all processes together (their PSS), in MiB."""
    before = _total_pss(session.group)
    url = f"http://127.0.0.1:{session.port + 1}/models/simplenet"
    try:
        answer = requests.put(url, params={"min_worker": 2, "max_worker": 2, "synchronous": "true"}, timeout=60)
        answer.raise_for_status()
    except requests.RequestException:
        return None
    deadline = time.monotonic() + 2  # memory that loading took for a moment is given back
    while time.monotonic() < deadline:
        session.settle()
    return round(_total_pss(session.group) - before, 1)


def _total_pss(group: processes.Group) -> float:
    return sum(row["pss"] for row in group.memory())


def _version(python: Path, package: str) -> str:
    code = f"from importlib.metadata import version; print({package!r}, version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def _reason(error: Exception, log: Path) -> str:
    """The error, and the last line of the peer's log that looks like one; paths from the checkout's root."""
    text = f"{error}"
    if isinstance(error, subprocess.CalledProcessError):
        text = f"its preparation ended with status {error.returncode}"
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    telling = [line.strip() for line in lines if "rror" in line]
    if telling:
        text += f"; log: {telling[-1][:200]}"
    return text.replace(f"{PROGRAMS.parent.parent}/", "")
