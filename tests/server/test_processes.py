"""Processes that end at any moment, and those that nobody reaps."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
from support import COMMAND_TIMEOUT_S

from simplenet.server import processes

PARENT = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', '']).pid, flush=True); input()"


def test_a_process_that_is_never_reaped_has_ended():
    with (
        ThreadPoolExecutor() as pool,
        subprocess.Popen([sys.executable, "-c", PARENT], stdin=-1, stdout=-1, text=True) as parent,
    ):
        child = psutil.Process(int(parent.stdout.readline()))
        pool.submit(processes.wait_for_all, [child], 2 * COMMAND_TIMEOUT_S).result(COMMAND_TIMEOUT_S)
        assert child.status() == psutil.STATUS_ZOMBIE
        assert not processes.runs(child)
        assert processes.find_process(child.pid, child.create_time()) is None


def test_a_process_that_runs_is_waited_for_until_the_timeout():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as running:
        process = psutil.Process(running.pid)
        processes.wait_for_all([process], timeout_s=0.1)
        assert processes.runs(process)
