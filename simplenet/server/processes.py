"""Processes that may end at any moment, even between two calls here.

psutil raises NoSuchProcess for a process that has ended; the functions here leave it out instead.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

POLL_S = 0.02
_START_TICKS = 19  # place in /proc/PID/stat, counted from the state behind the name: field 22 of proc(5)


def runs(process: psutil.Process) -> bool:
    """Whether the process has not ended.

    A zombie has: process 1 of a container may reap it late or never. While it has other threads, its files and ports
    are not closed yet.
    """
    try:
        return process.is_running() and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False


def identity(pid: int) -> str:
    """What tells this process from every other that ever has its pid, also after the clock was set.

    On Linux the boot and the clock ticks from the boot to the start of the process; elsewhere its creation time.

    Raises:
        psutil.NoSuchProcess: there is none.
    """
    if not psutil.LINUX:
        return str(psutil.Process(pid).create_time())
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError as error:
        raise psutil.NoSuchProcess(pid) from error
    ticks = stat.rpartition(")")[2].split()[_START_TICKS]  # the name may hold spaces and brackets
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {ticks}"


def find_process(pid: int, started: float, known: str = "") -> psutil.Process | None:
    """The running process with this pid and identity, else None: a recycled pid is another process.

    Args:
        pid: of the process.
        started: its creation time, in seconds of the wall clock; used only if `known` is empty.
        known: its `identity`.
    """
    try:
        process = psutil.Process(pid)
        same = identity(pid) == known if known else abs(process.create_time() - started) < 1
    except psutil.NoSuchProcess:
        return None
    return process if same and runs(process) else None


def own_command_lines() -> Iterator[tuple[int, list[str]]]:
    """The pid and the command line of every process of this user."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == os.getuid():
                yield process.pid, process.cmdline()


def family(process: psutil.Process) -> list[psutil.Process]:
    """The process and all its descendants; empty if it has ended."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def terminate(process: psutil.Process) -> None:
    """Send the process SIGTERM, unless it has ended."""
    with suppress(psutil.NoSuchProcess):
        process.terminate()


def wait_for_all(processes: Sequence[psutil.Process], timeout_s: float) -> None:
    """Wait until all of them have ended, or until the timeout."""
    deadline = time.monotonic() + timeout_s
    while any(map(runs, processes)) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def is_in_group(pid: int, leader: int) -> bool:
    """Whether this is a running process of the leader's process group."""
    try:
        return os.getpgid(pid) == leader and runs(psutil.Process(pid))
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def group(leader: int, mark: str) -> list[psutil.Process]:
    """The running processes of a process group.

    Args:
        leader: the group's number.
        mark: text in at least one member's command line; otherwise the number belongs to another group by now, and the
            result is empty.
    """
    members, marked = [], False
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getpgid(process.pid) == leader and runs(process):
                members.append(process)
                marked = marked or any(mark in argument for argument in process.cmdline())
    return members if marked else []


def others_with(*arguments: str) -> list[psutil.Process]:
    """The running processes of this user, other than this one, whose command line has all these arguments."""
    found = []
    for pid, command in own_command_lines():
        with suppress(psutil.NoSuchProcess):
            if pid != os.getpid() and set(arguments) <= set(command) and runs(process := psutil.Process(pid)):
                found.append(process)
    return found


def kill_group(leader: int) -> None:
    """Kill every process of a group, unless all have ended."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
