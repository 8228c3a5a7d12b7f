"""The server of a soak: started through the `simplenet` command, attached, and ended whatever happens."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.processes import free_ports
from simplenet.server.record import Server, find

READY_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 90.0
PORTS = 5
COMMAND = str(Path(sys.executable).with_name("simplenet"))
WORKER = "model_service_worker"


class Running:
    """A running server: its record, its processes, its commands."""

    def __init__(self, port: int, process: subprocess.Popen[str], output: Path) -> None:
        self.port, self.process, self.output = port, process, output
        self.record: Server = find(port)

    def frontend(self) -> psutil.Process | None:
        """The frontend's process, read anew: a supervisor may have started another."""
        with suppress(Exception):  # while it is replaced there may be no record
            self.record = find(self.port)
        return self.record.process()

    def workers(self) -> list[psutil.Process]:
        """The worker processes that live, in the order in which they started."""
        frontend, found = self.frontend(), []
        with suppress(psutil.Error):
            for child in frontend.children(recursive=True) if frontend else ():
                with suppress(psutil.Error):
                    if any(WORKER in argument for argument in child.cmdline()):
                        found.append(child)
        return sorted(found, key=lambda child: child.pid)

    def log(self) -> str:
        """What `serve` has printed so far."""
        return self.output.read_text(errors="replace")

    def command(self, *arguments: str | Path, timeout_s: float = STOP_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run one verb of the `simplenet` command on this server's port."""
        return run(*arguments, "--port", str(self.port), timeout_s=timeout_s)


def run(*arguments: str | Path, timeout_s: float = STOP_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """Run the `simplenet` command to its end; one that takes too long is killed and has the return code 124."""
    command = [COMMAND, *map(str, arguments)]
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "COLUMNS": "200"},
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"not done after {timeout_s:g} s")


def has_verb(verb: str) -> bool:
    """Whether the `simplenet` command of this checkout knows the verb."""
    return re.search(rf"\b{verb}\b", run("--help").stdout) is not None


@contextmanager
def served(archive: Path, folder: Path, workers: int = 2, port: int | None = None, *more: str) -> Iterator[Running]:
    """Serve one archive until the body ends; no process of the server outlives it.

    Raises:
        RuntimeError: the server did not become ready; the message has what it printed.
    """
    store = folder / "store"
    store.mkdir(exist_ok=True)
    (store / "simplenet.mar").write_bytes(archive.read_bytes())
    chosen = free_ports(PORTS) if port is None else port
    output = folder / "serve.txt"
    command = [COMMAND, "serve", "--port", str(chosen), "--model-store", str(store), "--workers", str(workers), *more]
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, text=True,
            env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
    known: set[int] = set()  # process groups
    try:
        _wait_until_ready(process, output)
        running = Running(chosen, process, output)
        known.add(running.record.pid)
        yield running
        known.add(running.record.pid)
    finally:
        _end(chosen, process, known)


def _wait_until_ready(process: subprocess.Popen[str], output: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while "ready http" not in output.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start: {output.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


def _end(port: int, process: subprocess.Popen[str], known: set[int]) -> None:
    """Thaw what is frozen, stop the server as its operator would, then kill whatever is left of it."""
    for group in known:
        _signal_group(group, signal.SIGCONT)
    with suppress(Exception):
        known.add(find(port).pid)
        run("stop", "--port", str(port))
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    for group in {*known, process.pid}:
        _signal_group(group, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
