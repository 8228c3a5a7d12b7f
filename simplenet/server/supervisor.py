"""Watch a running server, and end it with the cause when it cannot recover by itself.

TorchServe starts a worker that died again. Where that cannot work, its frontend lives on, says that it is healthy, and
lets every request wait. So `serve` looks once a second: whether the frontend responds, which workers run, whether they
make progress, and whether a real prediction is answered (watched.py). What it finds decides what /ping says. A model
that stays without a worker ends the server, so that whoever started it (a service manager, a container's restart
policy) starts it again.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import psutil

from simplenet.errors import ServerError
from simplenet.server import management
from simplenet.server.awake import AwakeClock
from simplenet.server.frontend import is_own
from simplenet.server.lifecycle import STOP_TIMEOUT_S, SUPERVISOR, end_processes, stop_running
from simplenet.server.loopback import loopback_session
from simplenet.server.ready import living_workers
from simplenet.server.record import Server, is_record_of, read_record, write_record
from simplenet.server.root_cause import log_sizes, root_cause
from simplenet.server.run_dir import ENDED, RECORD, TOKEN, claimed, stopping_timeout_s, tidy
from simplenet.server.watched import Description, Samples, WatchedModel, describe, probe, registered_models
from simplenet.signals import signals_ignored, signals_interrupt
from simplenet.text import first_line

PERIOD_S = 1.0
RESPONSE_TIMEOUT_S = 3.0  # of the frontend
PROBE_TIMEOUT_S = 3.0  # of a worker; a request of a client may take longer
STOP_SLACK_S = 10.0
_MOST_PROBES = 64  # at the same time
LOG = "supervisor.log"


class Supervisor:
    """Watches one server.

    Args:
        server: from `start`, ready.
        say: called with one line for each thing that happens.
        period_s: seconds from one look to the next.
        response_timeout_s: seconds in which the frontend must respond; within the recovery time-out it may fail to.
        probe_timeout_s: seconds to wait for a prediction; that of a client may take longer.
        stop_slack_s: seconds that stopping may take longer than it should.
        clock: seconds in which somebody watched; by default of a clock that nobody sets.
    """

    def __init__(
        self,
        server: Server,
        say: Callable[[str], None],
        *,
        period_s: float = PERIOD_S,
        response_timeout_s: float = RESPONSE_TIMEOUT_S,
        probe_timeout_s: float = PROBE_TIMEOUT_S,
        stop_slack_s: float = STOP_SLACK_S,
        clock: AwakeClock | None = None,
    ) -> None:
        self._server, self._say = server, say
        self._period_s, self._stop_slack_s = period_s, stop_slack_s
        self._response_timeout_s, self._probe_timeout_s = response_timeout_s, probe_timeout_s
        self._slow_s = server.max_queue_wait_s + PERIOD_S  # by then requests are refused for want of a worker
        # A look may take some time-outs. A sleep must not count as much as a failure.
        longest_gap_s = min(5 * (period_s + response_timeout_s + probe_timeout_s), self._recovery_s / 2)
        self._clock = clock or AwakeClock(longest_gap_s)
        self._session, self._samples = loopback_session(), Samples()
        self._responded = self._clock.read()
        self._models: dict[str, WatchedModel] = {}
        self._gone: set[str] = set()  # models that were unregistered
        self._unready = self._fault = ""
        self._told: str | None = None  # the reason that the frontend has
        # What was logged at the last two looks that found nothing wrong: a cause is often written before the end.
        self._logs_when_well = [log_sizes(server.logs)] * 2
        self._token = _text(server.run_dir / TOKEN)
        self._stopping_since: float | None = None

    @property
    def _recovery_s(self) -> float:
        """A worker takes as long to come back as the first took to come."""
        return max(self._server.recovery_timeout_s, 2 * self._server.start_up_s)

    def run(self) -> None:
        """Watch until the server is stopped.

        Raises:
            ServerError: it ended by itself, or cannot recover; the caller stops what is left of it.
        """
        while (process := self._server.process()) is not None:
            if self._server.is_stopping:
                self._refuse_endless_stop()
            else:
                self._look_whatever_happens()
            with suppress(psutil.TimeoutExpired):
                process.wait(self._period_s)
        if not self._server.is_stopping and (self._server.run_dir / RECORD).is_file():
            raise ServerError(f"TorchServe ended by itself: {self._cause()}")

    def _refuse_endless_stop(self) -> None:
        """End a server whose `stop` was killed: it would refuse every request for ever."""
        now = self._clock.read()
        self._stopping_since = now if self._stopping_since is None else self._stopping_since
        longest = max(self._server.drain_timeout_s, stopping_timeout_s(self._server.run_dir)) + STOP_TIMEOUT_S
        if now - self._stopping_since > longest + self._stop_slack_s:
            raise ServerError("stopping was not finished by whoever began it")

    def _look_whatever_happens(self) -> None:
        """Look; a fault of this process or its files, out of descriptors say, ends neither it nor a healthy server."""
        fault = ""
        try:
            self.look()
        except (OSError, RuntimeError, ValueError, psutil.Error) as error:
            fault = f"cannot look: {first_line(error)}"
        if fault and fault != self._fault:
            self._say(fault)
        self._fault = fault

    def look(self) -> None:
        """Look once, and tell the frontend what /ping shall say.

        Raises:
            ServerError: the server cannot recover.
        """
        self._stopping_since = None
        self._keep_files()
        self._clock.read()  # a look that waits for a time-out is no sleep
        # First, whether the frontend responds at all: if not, every model would be a time-out more.
        there: set[str] | None = None
        with suppress(ServerError):
            there = registered_models(self._server, self._response_timeout_s)
            self._responded = self._clock.read()
        if there is not None:
            self._tell("; ".join(self._look_at(self._watched(there))))
        silent = self._clock.read() - self._responded
        if silent > self._recovery_s and not self._server.is_stopping:
            raise ServerError(f"the frontend has not responded for {silent:.0f} s: {self._cause()}")

    def _keep_files(self) -> None:
        """Write what a cleaner of old files has removed, without which nobody could stop the server; keep it young."""
        run_dir = self._server.run_dir
        try:
            record = read_record(run_dir)
        except ServerError:
            record = None
        if record is not None and record.pid == self._server.pid:
            self._server = record  # a deployment changes it
        # `stop` removes them only after the process has ended, so their absence is looked at first.
        lacks_token = _text(run_dir / TOKEN) != self._token  # it may also be damaged
        if (record is None or lacks_token) and (self._server.process() is None or self._server.is_stopping):
            return
        with suppress(OSError):
            if record is None:
                write_record(self._server)
                self._say(f"wrote {RECORD} again: it had been removed or damaged")
            if lacks_token:
                management.write_token(run_dir, self._token)
        for name in (RECORD, TOKEN):
            with suppress(OSError):
                os.utime(run_dir / name)

    def _watched(self, there: set[str]) -> list[WatchedModel]:
        """The served models that TorchServe has; the others were unregistered on purpose, past `deploy`."""
        now, known = self._clock.read(), self._server.models
        for name in known:
            if name not in there and name not in self._gone:
                self._say(f"{name}: unregistered; it is not watched")
        self._gone = {name for name in known if name not in there}
        self._models = {name: self._models.get(name) or WatchedModel(name, now, now) for name in known if name in there}
        return list(self._models.values())

    def _look_at(self, models: Sequence[WatchedModel]) -> list[str]:
        """Why models are not ready."""
        now, states = self._clock.read(), living_workers(self._server)
        due = {}
        for model in models:
            for change in model.see_workers(states, self._server.versions.get(model.name)):
                self._say(change)
            if model.finished_a_batch(self._server.states):
                model.progress = model.next_probe = now
                due[model.name] = False
            else:
                due[model.name] = now >= model.next_probe and (model.wanted or bool(model.working))
        # At the same time: a model whose requests take long keeps no other from being watched.
        with ThreadPoolExecutor(min(len(models), _MOST_PROBES) or 1) as pool:
            signs = list(pool.map(lambda model: self._ask(model, due[model.name], now), models))
        return [
            reason for model, (responded, described) in zip(models, signs, strict=True)
            if (reason := self._judge(model, responded, described))
        ]  # fmt: skip

    def _ask(self, model: WatchedModel, is_due: bool, now: float) -> tuple[bool | None, Description | None]:
        """Whether a worker responded to a prediction, and what TorchServe says about a model whose worker is missed."""
        responded: bool | None = False
        if (sample := self._samples.of(self._server, model.name)) is None:
            model.progress = now  # nothing can be asked, so nothing can be missed
        elif is_due:
            responded = probe(self._server, self._session, model.name, sample, self._probe_timeout_s)
        missed = not model.working and not responded
        if model.name in self._server.silent_models:  # its workers are always missed
            missed = missed and now - model.alive > self._recovery_s / 3
        return responded, describe(self._server, model.name) if missed else None

    def _judge(self, model: WatchedModel, responded: bool | None, described: Description | None) -> str:
        """Why the model is not ready, or an empty text."""
        now = self._clock.read()
        if responded is None:
            # TorchServe runs it all the same: more of them would only keep a slow worker busy.
            model.next_probe = now + self._server.response_timeout_s
        if described is not None and (described.workers_wanted > 0) != model.wanted:
            model.wanted = described.workers_wanted > 0
            plural = "s" * (described.workers_wanted != 1)
            self._say(f"{model.name}: scaled to {described.workers_wanted} worker{plural}")
        works = bool(model.working or responded or (described and described.ready))
        model.wanted = model.wanted or works
        if works or not model.wanted:
            model.alive = now
        if responded or not model.wanted:
            model.progress = now
        without, idle = now - model.alive, now - model.progress
        if without > self._recovery_s:
            raise ServerError(f"{model.name}: no worker for {without:.0f} s: {self._cause()}")
        # By then TorchServe has replaced a worker that is stuck.
        if model.touches and idle > self._recovery_s + self._server.response_timeout_s:
            raise ServerError(f"{model.name}: no prediction for {idle:.0f} s: {self._cause()}")
        if without > 0 and model.name not in self._server.silent_models:
            return f"{model.name}: no worker"
        return f"{model.name}: no prediction for {idle:.0f} s" if idle > self._slow_s else ""

    def _tell(self, reason: str) -> None:
        """Set what /ping says; a stock frontend cannot be told."""
        if not reason:
            self._logs_when_well = [self._logs_when_well[1], log_sizes(self._server.logs)]
        if bool(reason) != bool(self._unready):
            self._say(f"not ready: {reason}" if reason else "ready again")
        self._unready = reason
        if reason != self._told and is_own(self._server.run_dir):
            with suppress(ServerError):  # the next look tells it
                management.request(self._server, "PUT", "/health", self._response_timeout_s, reason=reason)
                self._told = reason

    def _cause(self) -> str:
        cause = root_cause(self._server.logs, self._server.models, self._logs_when_well[0])
        return f"{cause} (logs: {self._server.logs})"


def spawn(server: Server) -> None:
    """Start a process that watches the server and outlives this one; what it finds is in supervisor.log."""
    command = [sys.executable, "-m", SUPERVISOR, str(server.port), str(server.run_dir)]
    with (server.logs / LOG).open("ab") as log:
        subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def main(run_dir: Path) -> int:
    """Watch the server of a run directory until it ends; the exit code is 0 if it was stopped."""
    try:
        server = read_record(run_dir)
    except ServerError:  # stopped meanwhile
        return 0
    with signals_interrupt():
        try:
            Supervisor(server, _log).run()
            return 0
        except KeyboardInterrupt:  # from a service manager, say: as with a `serve` in the foreground
            _log("stopping: the supervisor was asked to end")
            _log(f"stopped{stop_running(server, server.drain_timeout_s)}")
            return 0
        except ServerError as error:
            failure = str(error)
    with signals_ignored():
        _end(server, failure)
    return 1


def _end(server: Server, failure: str) -> None:
    """End what is left of a server that failed, and leave the cause for `stop` and `status`."""
    _log(f"ended: {failure}")
    end_processes(server)
    # Another server may have been started on the port meanwhile.
    with suppress(ServerError, OSError), claimed(server.port, server.run_dir.parent):
        if is_record_of(server):
            tidy(server.run_dir)
            (server.run_dir / ENDED).write_text(failure)


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _log(line: str) -> None:
    with suppress(OSError):  # a full disk
        print(datetime.now().astimezone().isoformat(timespec="milliseconds"), line, flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[2])))
