"""A server whose frontend is a small HTTP server, for tests that need no TorchServe."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import stand_in_frontend
from stand_in_frontend import BEHAVIOUR, HEALTH, REQUESTS

from simplenet.server.management import new_token
from simplenet.server.processes import identity
from simplenet.server.record import Server, write_record
from simplenet.worker.state import WorkerState


class StandIn:
    """A server whose frontend is a stand-in and whose workers are processes that wait.

    Args:
        run_dir: made, and named after the port.
        models: each has one worker with a state file, and is predicted with.
        own: whether the frontend has our classes.
        options: more fields of the record.
    """

    def __init__(self, run_dir: Path, models: tuple[str, ...] = ("net",), own: bool = True, **options: object) -> None:
        self.run_dir, self.models, port = run_dir, models, int(run_dir.name)
        classes = ["frontend/simplenet/server/frontend"] if own else []
        for name in ("logs", "state", "tmp", *classes):
            (run_dir / name).mkdir(parents=True)
        self.behaviour = {"token": new_token(run_dir).read_text(), "in_flight": 0, "predictions": {}, "models": {}}
        self.set()
        command = [sys.executable, stand_in_frontend.__file__, str(port), str(run_dir), str(len(models))]
        self.process = _in_group(command, 0, stdout=subprocess.PIPE)
        self.processes = [self.process]
        assert self.process.stdout.readline() == b"ready\n"
        (run_dir / "sample").write_bytes(b"a row")
        server = Server(
            port, self.process.pid, 0.0, models, run_dir=run_dir, identity=identity(self.process.pid),
            model_workers=dict.fromkeys(models, 1), versions=dict.fromkeys(models, "1.0"),
            samples=dict.fromkeys(models, ("application/octet-stream", str(run_dir / "sample"))),
        )  # fmt: skip
        self.server = replace(server, **options)
        write_record(self.server)
        self.workers = {model: self.worker(model) for model in models}
        self.set(models={model: [1, [worker.pid]] for model, worker in self.workers.items()})

    def set(self, **behaviour: object) -> None:
        """Change how it answers."""
        self.behaviour.update(behaviour)
        (self.run_dir / f"{BEHAVIOUR}.new").write_text(json.dumps(self.behaviour))
        (self.run_dir / f"{BEHAVIOUR}.new").replace(self.run_dir / BEHAVIOUR)

    def worker(self, model: str) -> subprocess.Popen:
        """Start one more worker."""
        worker = _in_group(["cat"], self.process.pid, stdin=subprocess.PIPE)
        self.processes.append(worker)
        if model not in self.server.silent_models:
            WorkerState(worker.pid, model, "1.0").write(self.server.states)
        return worker

    def kill(self, process: subprocess.Popen) -> None:
        """End a process at once, with no zombie left."""
        with process:
            process.kill()

    def finish_a_batch(self, model: str) -> None:
        """The worker of the model touches its state file."""
        file = self.server.states / f"{self.workers[model].pid}.json"
        before = file.stat()
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))

    def asked(self, begin: str) -> int:
        """How many requests it has got whose line begins so."""
        return sum(line.startswith(begin) for line in _lines(self.run_dir / REQUESTS))

    @property
    def health(self) -> str:
        """What it was told that /ping shall say."""
        return "".join(_lines(self.run_dir / HEALTH))

    def end(self) -> None:
        """End what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
            self.kill(process)


def _in_group(command: list[str], leader: int, **options: int) -> subprocess.Popen:
    """Start a process in another's process group, or at the head of one of its own."""
    setting = {"preexec_fn": lambda: os.setpgid(0, leader)}  # `process_group` came with Python 3.11
    return subprocess.Popen(command, **options, **setting)


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.is_file() else []
