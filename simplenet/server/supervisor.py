"""Watch a running server, and end it with the cause when it cannot recover by itself.

TorchServe starts a worker that died again. Where that cannot work, its frontend lives on, says that it is healthy, and
lets every request wait. So `serve` looks once a second: which workers have a state file and run, whether they make
progress, and whether a real prediction is answered. What it finds decides what /ping says. A model that stays without a
worker ends the server, so that whoever started it (a service manager, a container's restart policy) starts it again.
"""

import os
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
from simplenet.server.lifecycle import STOP_TIMEOUT_S, SUPERVISOR, end_processes
from simplenet.server.loopback import loopback_session
from simplenet.server.ready import living_workers
from simplenet.server.record import Server, find, write_record
from simplenet.server.root_cause import log_sizes, root_cause
from simplenet.server.run_dir import ENDED, RECORD, TOKEN, claimed, tidy
from simplenet.worker.state import WorkerState

PERIOD_S = 1.0
_PROBE_TIMEOUT_S = 3.0
_SLEPT_S = 5 * PERIOD_S  # between two looks
_STOP_SLACK_S = 10.0
LOG = "supervisor.log"


@dataclass
class _Model:
    """What was last seen of one model; times are of time.monotonic()."""

    name: str
    alive: float  # when it last had a worker, or answered
    progress: float  # when it last answered, or a worker finished a batch
    next_probe: float = 0.0  # not before: a worker may be at a request that takes long
    workers: dict[int, str] = field(default_factory=dict)  # the version of each, by pid
    touched: dict[int, float] = field(default_factory=dict)  # when each wrote its state file, as the file says
    touches: bool = False  # whether a worker has done that after a batch: those of an older library do not


class Supervisor:
    """Watches one server.

    Args:
        server: from `start`, ready.
        say: called with one line for each thing that happens.
    """

    def __init__(self, server: Server, say: Callable[[str], None]) -> None:
        self._server, self._say = server, say
        self._session = loopback_session()
        self._looked = self._responded = time.monotonic()
        self._models: dict[str, _Model] = {}
        self._unready = ""
        self._slow_s = server.max_queue_wait_s + PERIOD_S  # by then requests are refused for want of a worker
        # A worker takes as long to come back as the first took to come.
        self._recovery_s = max(server.recovery_timeout_s, 2 * (time.time() - server.started))
        self._logs_when_well = log_sizes(server.logs)
        self._token = (server.run_dir / TOKEN).read_bytes()
        self._stopping_since: float | None = None

    def run(self) -> None:
        """Watch until the server is stopped.

        Raises:
            ServerError: it ended by itself, or cannot recover; the caller stops what is left of it.
        """
        while (process := self._server.process()) is not None:
            if self._server.is_stopping:
                self._refuse_endless_stop()
            else:
                self.look()
            with suppress(psutil.TimeoutExpired):
                process.wait(PERIOD_S)
        if not self._server.is_stopping and (self._server.run_dir / RECORD).is_file():
            raise ServerError(f"TorchServe ended by itself: {self._cause()}")

    def _refuse_endless_stop(self) -> None:
        """End a server whose `stop` was killed: it would refuse every request for ever."""
        self._stopping_since = self._stopping_since or time.monotonic()
        longest = self._server.drain_timeout_s + STOP_TIMEOUT_S + _STOP_SLACK_S
        if time.monotonic() - self._stopping_since > longest:
            raise ServerError("stopping was not finished by whoever began it")

    def look(self) -> None:
        """Look once, and tell the frontend what /ping shall say.

        Raises:
            ServerError: the server cannot recover.
        """
        now = time.monotonic()
        if now - self._looked > _SLEPT_S:  # the machine slept, or this process did
            self._responded, self._models = now, {}
        with suppress(ServerError):
            self._server = find(self._server.port)  # a deployment changes it
        self._keep_files()
        states = living_workers(self._server)
        models = {name: self._models.get(name) or _Model(name, now, now) for name in self._server.models}
        self._models = models
        self._tell("; ".join(reason for model in models.values() if (reason := self._look_at(model, states))))
        self._looked = time.monotonic()
        silent = time.monotonic() - self._responded
        if silent > self._recovery_s and not self._server.is_stopping:
            raise ServerError(f"the frontend has not responded for {silent:.0f} s: {self._cause()}")

    def _keep_files(self) -> None:
        """Write what a cleaner of old files has removed, without which nobody could stop the server; keep it young."""
        with suppress(OSError):
            if not (self._server.run_dir / RECORD).is_file() and not self._server.is_stopping:
                write_record(self._server)
            token = self._server.run_dir / TOKEN
            if not token.is_file():
                token.touch(mode=0o600)
                token.write_bytes(self._token)
            for name in (RECORD, TOKEN):
                os.utime(self._server.run_dir / name)

    def _look_at(self, model: _Model, states: list[WorkerState]) -> str:
        """Why the model is not ready, or an empty text."""
        workers = {state.pid: state.version for state in states if state.model == model.name}
        self._say_changes(model, workers)
        model.workers = workers
        live = self._server.versions.get(model.name)
        working = [pid for pid, version in workers.items() if version == live]
        if working:
            model.alive = time.monotonic()
        if self._finished_a_batch(model, working):
            model.progress = model.next_probe = time.monotonic()
        elif time.monotonic() >= model.next_probe:
            self._probe(model)
        without, idle = time.monotonic() - model.alive, time.monotonic() - model.progress
        if without > self._recovery_s:
            raise ServerError(f"{model.name}: no worker for {without:.0f} s: {self._cause()}")
        # By then TorchServe has replaced a worker that is stuck.
        if model.touches and idle > self._recovery_s + self._server.response_timeout_s:
            raise ServerError(f"{model.name}: no prediction for {idle:.0f} s: {self._cause()}")
        if without > 0 and not working and model.name not in self._server.silent_models:
            return f"{model.name}: no worker"
        return f"{model.name}: no prediction for {idle:.0f} s" if idle > self._slow_s else ""

    def _finished_a_batch(self, model: _Model, pids: Iterable[int]) -> bool:
        """Whether one of these workers finished a batch since the last look: then it has touched its state file."""
        finished = False
        for pid in pids:
            with suppress(OSError):
                touched = (self._server.states / f"{pid}.json").stat().st_mtime
                finished = touched != model.touched.get(pid, touched) or finished
                model.touched[pid] = touched
        model.touches = model.touches or finished
        return finished

    def _probe(self, model: _Model) -> None:
        """Send one real request; whatever a worker responds shows that it is alive."""
        if model.name not in self._server.samples:
            return
        content_type, file = self._server.samples[model.name]
        try:
            response = self._session.post(
                f"{self._server.loopback_url}/predictions/{model.name}",
                data=Path(file).read_bytes(), headers={"Content-Type": content_type}, timeout=_PROBE_TIMEOUT_S,
            )  # fmt: skip
        except requests.Timeout:
            # TorchServe runs it all the same: more of them would only keep a slow worker busy.
            model.next_probe = time.monotonic() + self._server.response_timeout_s
            return
        except OSError:
            return
        if response.status_code != requests.codes.unavailable:
            model.alive = model.progress = time.monotonic()

    def _say_changes(self, model: _Model, workers: dict[int, str]) -> None:
        for pid in model.workers.keys() - workers.keys():
            self._say(f"{model.name} {model.workers[pid]}: worker {pid} ended")
        for pid in workers.keys() - model.workers.keys():
            self._say(f"{model.name} {workers[pid]}: worker {pid} is ready")

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
        end_processes(server)
        # Another server may have been started on the port meanwhile.
        with suppress(ServerError, OSError), claimed(port, server.run_dir.parent):
            if find(port).pid == server.pid:
                tidy(server.run_dir)
                (server.run_dir / ENDED).write_text(str(error))
        return 1
    return 0


def _log(line: str) -> None:
    with suppress(OSError):  # a full disk
        print(datetime.now().astimezone().isoformat(timespec="milliseconds"), line, flush=True)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
