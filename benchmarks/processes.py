"""A peer's processes: start them, wait for them, pause them, measure them, stop them. None outlives the run.

Every process is found by a mark in its environment, which children inherit, even those in their own sessions or
reparented to init.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

MARK = "SIMPLENET_BENCH_RUN"
STOP_TIMEOUT_S = 15.0
_POLL_S = 0.01
Popen = subprocess.Popen[bytes]


class Group:
    """All processes of one run."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex

    def members(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if _mark_of(process) == self.mark]

    def cpu_s(self, members: list[psutil.Process]) -> float:
        """CPU seconds that these processes have used so far, including system time."""
        total = 0.0
        for process in members:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def memory(self) -> list[dict[str, object]]:
        """The role of each process and its rss, pss, uss in MiB, the largest first."""
        rows = []
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                used = process.memory_full_info()
                sizes = {name: round(getattr(used, name) / 2**20, 1) for name in ("rss", "pss", "uss")}
                rows.append({"role": _role(process), **sizes})
        return sorted(rows, key=lambda row: -row["pss"])

    def pause(self) -> None:
        """Stop every process, including those that start meanwhile, until `resume`."""
        paused: set[int] = set()
        while running := [process for process in self.members() if process.pid not in paused]:
            _send(running, signal.SIGSTOP)
            paused |= {process.pid for process in running}

    def resume(self) -> None:
        _send(self.members(), signal.SIGCONT)

    def stop(self) -> None:
        """Terminate all processes, then kill those that remain."""
        for number, timeout_s in ((signal.SIGTERM, STOP_TIMEOUT_S), (signal.SIGKILL, STOP_TIMEOUT_S)):
            members = self.members()
            _send(members, number)
            psutil.wait_procs(members, timeout=timeout_s)


@contextmanager
def started(command: list[str], environment: dict[str, str], cwd: Path, log: Path) -> Iterator[tuple[Group, Popen]]:
    """Run `command` until the body ends, then stop all its processes, however the body ended."""
    group = Group()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**environment, MARK: group.mark},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield group, process
        finally:
            group.resume()  # a paused process would not handle SIGTERM
            _stop_first(process)
            group.stop()


def wait_until(ready: Callable[[], bool], process: Popen, timeout_s: float) -> float:
    """Seconds until `ready()`.

    Raises:
        TimeoutError: it was not ready in time.
        RuntimeError: the process ended first.
    """
    start = time.monotonic()
    while not ready():
        if process.poll() is not None:
            raise RuntimeError(f"ended with status {process.returncode}")
        if time.monotonic() - start > timeout_s:
            raise TimeoutError(f"no correct response within {timeout_s:.0f} s")
        time.sleep(_POLL_S)
    return time.monotonic() - start


def free_ports(count: int) -> int:
    """The first of `count` consecutive free ports."""
    for base in range(21000 + os.getpid() % 1000 * 10, 60000, count):
        if all(_is_free(base + offset) for offset in range(count)):
            return base
    raise RuntimeError(f"no {count} consecutive free ports")


def _send(members: list[psutil.Process], number: signal.Signals) -> None:
    for process in members:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _stop_first(process: Popen) -> None:
    """Let the server end its children itself."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def _role(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    if "org.pytorch.serve.ModelServer" in command or "tritonserver" in process.name():
        return "frontend"
    return "worker" if "model_service_worker" in command else process.name()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False
