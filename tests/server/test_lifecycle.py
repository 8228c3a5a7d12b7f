"""Starting and stopping, as far as it needs no TorchServe."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import psutil
import pytest
from support import free_port

from simplenet.errors import ServerError
from simplenet.server import lifecycle, processes
from simplenet.server.drain import CutOff
from simplenet.server.record import Server, find, read_record, write_record
from simplenet.server.run_dir import claimed, new_run_dir


@pytest.mark.parametrize("fault", [OSError("no space left on device"), KeyboardInterrupt()])
def test_a_process_that_cannot_be_recorded_is_ended(root, monkeypatch, sample_archive, fault):
    def refuse(server):
        pids.append(server.pid)
        raise fault

    pids = []
    child = "[sys.executable, '-c', 'import time; time.sleep(20)']"
    program = [sys.executable, "-c", f"import subprocess, sys; subprocess.run({child})"]
    monkeypatch.setattr(lifecycle.torchserve, "command", lambda *_: program)
    monkeypatch.setattr(lifecycle, "write_record", refuse)
    with pytest.raises(type(fault)), new_run_dir(9100) as (run_dir, lock):
        lifecycle.start({"simplenet": sample_archive}, run_dir=run_dir, lock=lock, port=free_port())
    processes.wait_for_all(processes.group(pids[0], ""), timeout_s=10)
    assert processes.group(pids[0], "") == []


@pytest.mark.filterwarnings("ignore:.*Popen.__del__")  # a server outlives the command that starts it
def test_the_workers_of_all_models_share_the_cores(root, monkeypatch, sample_archive):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(lifecycle.torchserve, "available_cores", lambda: 9)
    program = [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'], flush=True); input()"]
    monkeypatch.setattr(lifecycle.torchserve, "command", lambda *_: program)
    with new_run_dir(9100) as (run_dir, lock):
        archives = {"net": sample_archive, "other": sample_archive}
        server = lifecycle.start(archives, run_dir=run_dir, lock=lock, port=free_port(), workers=2)
    psutil.wait_procs([process] if (process := server.process()) else [], timeout=30)  # its input is empty
    assert (run_dir / "logs" / "console.log").read_text().startswith("2\n")  # the frontend has the ninth core


@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_ends_the_server_unless_nohup_says_otherwise(ignored):
    program = f"""
import os, signal
from simplenet.server import lifecycle
from simplenet.signals import signals_interrupt
lifecycle.start = lambda archives: "server"
lifecycle.stop_server = lambda server: print("stopped")
signal.signal(signal.SIGHUP, signal.{"SIG_IGN" if ignored else "SIG_DFL"})
try:
    with signals_interrupt(), lifecycle.started({{}}):
        os.kill(os.getpid(), signal.SIGHUP)
        print("went on")
except KeyboardInterrupt:
    pass
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == ("went on" if ignored else "stopped")


def test_a_signal_while_the_process_is_being_made_stops_it_once_it_can_be_named():
    program = """
import os, signal
from simplenet.server import lifecycle
from simplenet.signals import signals_interrupt
def start(archives):
    os.kill(os.getpid(), signal.SIGTERM)
    return "server"
lifecycle.start = start
lifecycle.stop_server = lambda server: print("stopped", server)
try:
    with signals_interrupt(), lifecycle.started({}):
        print("went on")
except KeyboardInterrupt:
    pass
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "stopped server\n"


CLEARED = """
import ctypes, os, signal, sys
from simplenet.server import lifecycle, model_store
from simplenet.signals import check_interrupted, signals_interrupt
interrupt = ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), signal.SIGTERM) or [None for _ in range(9)])
sys.unraisablehook = lambda _: print("cleared")
lifecycle.start = lambda archives: print("started")
def read(file):
    interrupt()  # as the import of numpy inside that of torch
    raise model_store.SimpleNetError("numpy is not available")
model_store.read_archive = read
try:
    with signals_interrupt():
        BODY
        print("went on")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    "body",
    [
        "interrupt(); lifecycle.started({}).__enter__()",
        "interrupt(); check_interrupted()",
        "model_store.verified_samples({'net': 'net.mar'}, None)",
    ],
)
def test_a_signal_whose_exception_code_in_c_has_cleared_still_keeps_the_server_from_starting(body):
    done = subprocess.run(
        [sys.executable, "-c", CLEARED.replace("BODY", body)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("cleared\ninterrupted\n", "")


def recorded(folder, process) -> Server:
    """A server's record as `start` leaves it."""
    (folder / "tmp").mkdir(parents=True)
    values = {"port": 9100, "pid": process.pid, "models": [], "run_dir": str(folder)}
    values["started"] = psutil.Process(process.pid).create_time()
    (folder / "server.json").write_text(json.dumps(values))
    return find(9100)


def test_a_server_that_died_is_tidied_away_with_the_worker_that_outlived_it(root):
    worker = "import time; time.sleep(60)"
    program = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {worker!r}, {str(root / '9100')!r}])"
    with subprocess.Popen([sys.executable, "-c", f"{program}; input()"], start_new_session=True, stdin=-1) as frontend:
        server = recorded(root / "9100", frontend)
        while not (workers := psutil.Process(frontend.pid).children()):
            pass
        while str(root / "9100") not in " ".join(workers[0].cmdline()):
            pass
        frontend.kill()
    assert server.process() is None
    assert lifecycle.stop(9100) is None
    assert not processes.runs(workers[0])
    assert list((root / "9100").iterdir()) == []
    with pytest.raises(ServerError, match="no server"):
        lifecycle.stop(9100)


@pytest.mark.parametrize("ends", ["frontend", "child"])
def test_a_process_that_ends_while_it_is_stopped_is_as_good_as_stopped(root, monkeypatch, ends):
    """`stop` lists the processes and then asks each: here one has ended in between."""
    program = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()']).wait(); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], start_new_session=True, stdin=-1) as frontend:
        server = recorded(root / "9100", frontend)
        process = psutil.Process(frontend.pid)
        while not (children := process.children()):
            pass

        def listed(_):
            (process if ends == "frontend" else children[0]).kill()
            (frontend if ends == "frontend" else children[0]).wait()
            return process

        monkeypatch.setattr(Server, "process", listed)
        lifecycle.stop_server(server)
        monkeypatch.undo()
        assert server.process() is None
        if children[0].is_running():  # nobody's any more: its command line does not name the run directory
            children[0].kill()


@pytest.mark.parametrize("content", [b"", b"garbled"])
def test_a_server_whose_record_cannot_be_read_is_stopped_by_what_its_processes_were_started_with(root, content):
    folder = root / "9100"
    (folder / "tmp").mkdir(parents=True)
    (folder / "server.json").write_bytes(content)
    frontend_line = ["org.pytorch.serve.ModelServer", "-f", str(folder / "config.properties")]
    start = [sys.executable, "-c", "input()"]
    with (
        subprocess.Popen([*start, *frontend_line], start_new_session=True, stdin=-1) as frontend,
        subprocess.Popen([*start, f"{folder}/logs/ts_log.log"], start_new_session=True, stdin=-1) as reader,
    ):
        assert lifecycle.stop(9100, drain_timeout_s=0).requests == 0
        assert frontend.wait(timeout=30) != 0
        assert reader.poll() is None  # a reader of the logs is nobody's server
        reader.communicate()
    assert list(folder.iterdir()) == []


def test_an_unreadable_record_without_a_process_is_removed(root):
    (root / "9100").mkdir()
    (root / "9100" / "server.json").write_bytes(b"")
    assert lifecycle.stop(9100) is None
    assert list((root / "9100").iterdir()) == []


def holding(port: int) -> subprocess.Popen:
    """A process that holds the lock on the port's run directory, as a `serve` in the foreground does."""
    program = (
        f"from simplenet.server.run_dir import claimed\nwith claimed({port}): print('claimed', flush=True); input()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1)
    assert process.stdout.readline() == b"claimed\n"
    return process


def test_stop_leaves_the_files_to_a_server_that_starts_there_meanwhile(stand_in):
    one = stand_in()
    port = one.server.port
    with holding(port) as other:
        write_record(replace(one.server, pid=os.getpid(), identity="another"))
        lifecycle.stop_running(one.server, drain_timeout_s=0)
        assert read_record(one.run_dir).pid == os.getpid()
        other.communicate(b"\n")
    assert one.process.wait(timeout=60) == -signal.SIGTERM


def test_stop_waits_until_the_serve_that_holds_the_folder_has_left_it(stand_in):
    one = stand_in()
    with holding(one.server.port) as other:
        leaves = threading.Timer(0.3, other.communicate, args=[b"\n"])
        leaves.start()
        assert lifecycle.stop(one.server.port) == CutOff()
        leaves.join()
    with claimed(one.server.port):
        assert not (one.run_dir / "server.json").exists()


def test_stopping_on_a_full_disk_stops(stand_in):
    """The note that the server is being stopped cannot be written: here it is a folder."""
    one = stand_in()
    (one.run_dir / "stopping").mkdir()
    assert lifecycle.stop(one.server.port) == CutOff()
    assert one.process.wait(timeout=60) == -signal.SIGTERM
