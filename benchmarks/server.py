"""One server of a run, and all its measurements: start, correct responses, rounds of loads, CPU and memory.

It is started once and paused while others are measured: it stays warm and takes no CPU from the others.
"""

import contextlib
import http.client
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from benchmarks import loads, processes, warm_up
from benchmarks.envs import ENVS
from benchmarks.registry import PORTS, PROGRAMS, Peer
from benchmarks.session import Reference, Session

READY_TIMEOUT_S = 120.0
OPEN_SHARES = (0.8,)  # of the throughput with 64 connections
AT_64 = (loads.JSON_AT_64, loads.RAW_AT_64)
Advance = Callable[[str], None]  # tells the bar the next step


@dataclass(frozen=True)
class Plan:
    """How a run measures every server."""

    rounds: int
    seconds: int  # of each measurement
    warm_up: warm_up.Bound


class Server:
    """A peer in a run; `report` is its entry in the results, with the reason if it could not be measured."""

    def __init__(self, peer: Peer, plan: Plan, reference: Reference, work: Path) -> None:
        self.peer, self.plan, self.reference, self.work = peer, plan, reference, work
        self.report: dict[str, Any] = {"name": peer.name, "label": peer.label, "batches": peer.batches, "status": "ok"}
        self.offered = peer.offered()
        self.closed: dict[str, list[dict[str, Any]]] = {load.name: [] for load in self.offered}
        self.open: dict[tuple[str, float], list[dict[str, Any]]] = {}
        self.python = Path()
        self._running = contextlib.ExitStack()
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        if self._session is None:
            raise RuntimeError("it does not run")
        return self._session

    def attempt(self, step: Callable[[Advance], None], advance: Advance) -> None:
        """Take the step unless the server has failed; an error becomes its reason, and the other servers continue."""
        if self.report["status"] != "ok":
            return
        try:
            step(advance)
        except Exception as error:  # whatever a peer does, the others are measured
            self.report.update(status="failed", reason=_reason(error, ENVS / f"{self.peer.name}.log"))
            advance(f"failed: {self.report['reason']}")
            self.close()

    def start(self, advance: Advance) -> None:
        """Start it, check its responses, load it until its rate is level, and pause it."""
        advance("environment")
        self.python = self.peer.python()
        self.report["version"] = _version(self.python, self.peer.package)
        folder = Path(self._running.enter_context(tempfile.TemporaryDirectory(prefix="b", dir=self.work)))
        self._start_processes(folder, advance)
        try:
            self.report["memory_after_start"] = self.session.group.memory()
            self._check_responses()
            self._warm_up(advance)
        finally:
            self._pause()

    def closed_round(self, advance: Advance) -> None:
        """Run every load once."""
        with self._awake() as session:
            for load in self.offered:
                advance(load.name)
                if self.peer.adapts_s:
                    session.run_closed(load, self.peer.adapts_s)
                self.closed[load.name].append(session.run_closed(load))

    def open_round(self, advance: Advance) -> None:
        """Run both kinds once at fixed rates: shares of the median throughput of all closed rounds."""
        with self._awake() as session:
            for kind, name in zip(("json", "raw"), AT_64, strict=True):
                capacity = medians(self.closed[name])["requests_per_s"] if self.closed.get(name) else 0
                for share in OPEN_SHARES if capacity else ():
                    advance(f"open loop, {kind} at {share:.0%}")
                    for _ in range(math.ceil(self.peer.adapts_s / self.plan.seconds)):
                        session.run_open(kind, capacity, share)
                    self.open.setdefault((kind, share), []).append(session.run_open(kind, capacity, share))

    def finish(self, others: list["Server"], advance: Advance) -> None:
        """Sum up, measure the memory, and stop it. `others` are still running, paused."""
        advance("memory")
        self.report["loads"] = {name: {**medians(runs), "runs": runs} for name, runs in self.closed.items()}
        self.report["open_loop"] = [
            {"kind": kind, "share": share, **medians(runs), "runs": runs} for (kind, share), runs in self.open.items()
        ]
        with self._awake() as session:
            self.report["memory_after_load"] = session.group.memory()
            # A page that two servers map counts half for each.
            self.report["shares_memory"] = any(other.runs and other.python == self.python for other in others)
            if self.peer.torchserve:
                self.report["second_worker_mib"] = _second_worker(session)
        self.close()

    @property
    def runs(self) -> bool:
        return self._session is not None

    def close(self) -> None:
        self._session = None
        self._running.close()

    def _start_processes(self, folder: Path, advance: Advance) -> None:
        port = processes.free_ports(PORTS)
        environment = self.peer.process_environment(port, folder)
        program = [str(self.python), str(PROGRAMS / self.peer.program)]
        log = ENVS / f"{self.peer.name}.log"
        log.unlink(missing_ok=True)
        if self.peer.prepares:
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
        running = processes.started([*program, "serve"], environment, folder, log)
        group, process = self._running.enter_context(running)
        self._session = Session(self.peer, port, group, folder, self.plan.seconds)
        self.report["start_s"] = processes.wait_until(self._responds_correctly, process, READY_TIMEOUT_S)

    def _responds_correctly(self) -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError, http.client.HTTPException):
            self.session.check("json", 1, self.reference)
            return True
        return False

    def _check_responses(self) -> None:
        self.report["not_offered"] = {
            load.name: reason for load in self.peer.wanted() if (reason := self.peer.reason_missing(load.kind))
        }
        kinds = {(load.kind, load.rows) for load in self.offered if load.kind != "mixed"}
        errors = [self.session.check(kind, rows, self.reference) for kind, rows in sorted(kinds)]
        self.report["largest_error"] = max(errors)

    def _warm_up(self, advance: Advance) -> None:
        """Run the main loads until they are level, then each other load for a second."""
        main = [loads.BY_NAME[name] for name in AT_64]
        main = [load for load in main if self.peer.reason_missing(load.kind) is None]
        windows = {load.kind: self._window(load) for load in main}
        self.report["warm_up"] = warm_up.until_level(windows, self.plan.warm_up, advance)
        for load in self.offered:
            if load not in main:
                advance(f"warm up: {load.name}")
                self.session.run_closed(load, 1)

    def _window(self, load: loads.Load) -> warm_up.Window:
        return lambda seconds: float(self.session.run_closed(load, seconds)["requests_per_s"])

    @contextlib.contextmanager
    def _awake(self) -> Iterator[Session]:
        """Resume it, check its responses, load it for a second; pause it at the end."""
        session = self.session
        session.group.resume()
        try:
            session.settle()
            session.check("json", 1, self.reference)
            session.run_closed(loads.BY_NAME[loads.JSON_AT_64], 1)
            yield session
        finally:
            self._pause()

    def _pause(self) -> None:
        if self.peer.pausable:
            self.session.group.pause()


def medians(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of every number over the rounds, and the sum of the errors."""
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
        response = requests.put(url, params={"min_worker": 2, "max_worker": 2, "synchronous": "true"}, timeout=60)
        response.raise_for_status()
    except requests.RequestException:
        return None
    deadline = time.monotonic() + 2  # memory that loading needed for a moment is freed
    while time.monotonic() < deadline:
        session.settle()
    return round(_total_pss(session.group) - before, 1)


def _total_pss(group: processes.Group) -> float:
    return sum(row["pss"] for row in group.memory())


def _version(python: Path, package: str) -> str:
    code = f"from importlib.metadata import version; print({package!r}, version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def _reason(error: Exception, log: Path) -> str:
    """The error, and the last line of the peer's log that looks like one; paths are relative to the checkout."""
    text = f"{error}" or type(error).__name__
    if isinstance(error, subprocess.CalledProcessError):
        text = f"its preparation ended with status {error.returncode}"
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    telling = [line.strip() for line in lines if "rror" in line]
    if telling:
        text += f"; log: {telling[-1][:200]}"
    return text.replace(f"{PROGRAMS.parent.parent}/", "")
