"""Watch a running server, and end it with the cause when it cannot recover by itself.

TorchServe starts a worker that died again. Where that cannot work, its frontend lives on, says that it is healthy, and
lets every request wait. So `serve` looks once a second: which workers have a state file and run, whether they make
progress, and whether a real prediction is answered. What it finds decides what /ping says. A model that stays without a
worker ends the server, so that whoever started it (a service manager, a container's restart policy) starts it again.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import psutil
import requests

from simplenet.errors import ServerError
from simplenet.server import management
from simplenet.server.frontend import is_own
from simplenet.server.lifecycle import SUPERVISOR, stop_server
from simplenet.server.ready import living_workers
from simplenet.server.record import Server, find
from simplenet.server.root_cause import log_sizes, root_cause
from simplenet.server.run_dir import ENDED
from simplenet.worker.state import WorkerState

PERIOD_S = 1.0
_PROBE_TIMEOUT_S = 3.0
LOG = "supervisor.log"


@dataclass
class _Model:
    """What was last seen of one model; times are of time.monotonic()."""

    name: str
    alive: float  # when it last had a worker
    progress: float  # when it last answered, or a worker finished a batch
    workers: dict[int, str] = field(default_factory=dict)  # the version of each, by pid


class Supervisor:
    """Watches one server.

    Args:
        server: from `start`, ready.
        say: called with one line for each thing that happens.
    """

    def __init__(self, server: Server, say: Callable[[str], None]) -> None:
        self._server, self._say = server, say
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy from the environment cannot reach this machine's ports
        self._looked = self._responded = time.monotonic()
        self._models: dict[str, _Model] = {}
        self._unready = ""
        self._slow_s = server.max_queue_wait_s + PERIOD_S  # by then requests are refused for want of a worker
        self._logs_when_well = log_sizes(server.logs)

    def run(self) -> None:
        """Watch until the server is stopped.

        Raises:
            ServerError: it ended by itself, or cannot recover; the caller stops what is left of it.
        """
        while (process := self._server.process()) is not None:
            if not self._server.is_stopping:
                self.look()
            with suppress(psutil.TimeoutExpired):
                process.wait(PERIOD_S)
        if not self._server.is_stopping:
            raise ServerError(f"TorchServe ended by itself: {self._cause()}")

    def look(self) -> None:
        """Look once, and tell the frontend what /ping shall say.

        Raises:
            ServerError: the server cannot recover.
        """
        now = time.monotonic()
        if now - self._looked > PERIOD_S + 3 * _PROBE_TIMEOUT_S:  # the machine slept, or this process did
            self._responded, self._models = now, {}
        self._looked = now
        with suppress(ServerError):
            self._server = find(self._server.port)  # a deployment changes it
        states = living_workers(self._server)
        models = {name: self._models.get(name) or _Model(name, now, now) for name in self._server.models}
        self._models = models
        self._tell("; ".join(reason for model in models.values() if (reason := self._look_at(model, states))))
        silent = time.monotonic() - self._responded
        if silent > self._server.recovery_timeout_s and not self._server.is_stopping:
            raise ServerError(f"the frontend has not responded for {silent:.0f} s: {self._cause()}")

    def _look_at(self, model: _Model, states: list[WorkerState]) -> str:
        """Why the model is not ready, or an empty text."""
        workers = {state.pid: state.version for state in states if state.model == model.name}
        self._say_changes(model, workers)
        model.workers = workers
        live = self._server.versions.get(model.name)
        working = [pid for pid, version in workers.items() if version == live]
        if working or model.name in self._server.silent_models:
            model.alive = time.monotonic()
            model.progress = max(model.progress, self._last_batch(working))
            if self._answers(model.name):
                model.progress = time.monotonic()
        without, idle = time.monotonic() - model.alive, time.monotonic() - model.progress
        limit = self._server.recovery_timeout_s
        if without > limit:
            raise ServerError(f"{model.name}: no worker for {without:.0f} s: {self._cause()}")
        if idle > limit + self._server.response_timeout_s:  # by then TorchServe has replaced a worker that is stuck
            raise ServerError(f"{model.name}: no prediction for {idle:.0f} s: {self._cause()}")
        if without > 0 and not working:
            return f"{model.name}: no worker"
        return f"{model.name}: no prediction for {idle:.0f} s" if idle > self._slow_s else ""

    def _say_changes(self, model: _Model, workers: dict[int, str]) -> None:
        for pid in model.workers.keys() - workers.keys():
            self._say(f"{model.name} {model.workers[pid]}: worker {pid} ended")
        for pid in workers.keys() - model.workers.keys():
            self._say(f"{model.name} {workers[pid]}: worker {pid} is ready")

    def _last_batch(self, pids: Iterable[int]) -> float:
        """When one of these workers last finished a batch: then it touches its state file."""
        touched = 0.0
        for pid in pids:
            with suppress(OSError):
                touched = max(touched, (self._server.states / f"{pid}.json").stat().st_mtime)
        return time.monotonic() - max(0.0, time.time() - touched)

    def _answers(self, model: str) -> bool:
        """Whether a worker responds to one real request, whatever it says."""
        if model not in self._server.samples:
            return True
        content_type, file = self._server.samples[model]
        try:
            response = self._session.post(
                f"{self._server.loopback_url}/predictions/{model}",
                data=Path(file).read_bytes(), headers={"Content-Type": content_type}, timeout=_PROBE_TIMEOUT_S,
            )  # fmt: skip
        except (requests.RequestException, OSError):
            return False
        return bool(response.status_code != 503)

    def _tell(self, reason: str) -> None:
        """Set what /ping says; a stock frontend is only asked whether it responds."""
        if not reason:
            self._logs_when_well = log_sizes(self._server.logs)
        if bool(reason) != bool(self._unready):
            self._say(f"not ready: {reason}" if reason else "ready again")
        self._unready = reason
        with suppress(ServerError):
            if is_own(self._server.run_dir):
                management.request(self._server, "PUT", "/health", _PROBE_TIMEOUT_S, reason=reason)
            else:
                management.request(self._server, "GET", "/models", _PROBE_TIMEOUT_S)
            self._responded = time.monotonic()

    def _cause(self) -> str:
        cause = root_cause(self._server.logs, self._server.models, self._logs_when_well)
        return f"{cause} (logs: {self._server.logs})"


def spawn(server: Server) -> None:
    """Start a process that watches the server and outlives this one; what it finds is in supervisor.log."""
    command = [sys.executable, "-m", SUPERVISOR, str(server.port), str(server.run_dir)]
    with (server.logs / LOG).open("ab") as log:
        subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def main(port: int) -> int:
    """Watch the server on `port` until it ends; the exit code is 0 if it was stopped."""
    try:
        server = find(port)
    except ServerError:  # stopped meanwhile
        return 0
    try:
        Supervisor(server, _log).run()
    except ServerError as error:
        _log(f"ended: {error}")
        (server.run_dir / ENDED).write_text(str(error))
        stop_server(server)
        return 1
    return 0


def _log(line: str) -> None:
    print(datetime.now().astimezone().isoformat(timespec="milliseconds"), line, flush=True)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
