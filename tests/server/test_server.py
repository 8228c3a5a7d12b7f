"""What can be said of starting and stopping without a TorchServe."""

import json
import logging
import os
import subprocess
import sys

import pytest

from simplenet.archive import create_archive, read_archive
from simplenet.checkpoint import save_for_inference
from simplenet.errors import ServerError
from simplenet.model import SimpleNet
from simplenet.server import run_dir
from simplenet.server import server as ts
from simplenet.server.store import require_writable, sample_request


def test_a_record_in_a_folder_of_somebody_else_stops_nothing(tmp_path, monkeypatch):
    record = tmp_path / "9100" / "server.json"
    record.parent.mkdir()
    values = {"port": 9100, "pid": os.getpid(), "models": [], "run_dir": str(tmp_path)}
    values["started"] = ts.psutil.Process().create_time()
    record.write_text(json.dumps(values))
    monkeypatch.setattr(ts, "run_root", lambda: tmp_path)
    assert ts.find(9100).process().pid == os.getpid()
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ServerError, match="no server"):
        ts.find(9100)


def test_archives_may_be_links_or_have_names_that_torchserve_cannot_read(tmp_path):
    archives = {"net": tmp_path / "é" / "a,b=c.mar", "other": tmp_path / "link.mar"}
    archives["net"].parent.mkdir()
    archives["net"].write_bytes(b"1")
    (tmp_path / "elsewhere.mar").write_bytes(b"2")
    archives["other"].symlink_to(tmp_path / "elsewhere.mar")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    config = ts._write_config(run_dir, archives, 9100, "127.0.0.1", 1).read_text()
    assert f"model_store={run_dir / 'store'}\n" in config
    assert "load_models=net=net.mar,other=other.mar\n" in config
    assert [(run_dir / "store" / f"{name}.mar").read_bytes() for name in archives] == [b"1", b"2"]


def test_the_sample_of_a_model_called_server_leaves_the_servers_record_alone(tmp_path):
    save_for_inference(SimpleNet(9, 4, 3), tmp_path / "small.pt")
    archive = create_archive(tmp_path / "small.pt", model_name="server", export_path=tmp_path / "store")
    content_type, file = sample_request(read_archive(archive), tmp_path)
    assert content_type == "application/json"
    assert file.name != "server.json"
    assert len(json.loads(file.read_bytes())["instances"][0]) == 9


@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_ends_the_server_unless_nohup_says_otherwise(ignored):
    program = f"""
import os, signal
from simplenet.server import server as ts
from simplenet.signals import signals_interrupt
ts.start = lambda archives: "server"
ts.stop_server = lambda server: print("stopped")
signal.signal(signal.SIGHUP, signal.{"SIG_IGN" if ignored else "SIG_DFL"})
try:
    with signals_interrupt(), ts.started({{}}):
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
from simplenet.server import server as ts
from simplenet.signals import signals_interrupt
def start(archives):
    os.kill(os.getpid(), signal.SIGTERM)
    return "server"
ts.start = start
ts.stop_server = lambda server: print("stopped", server)
try:
    with signals_interrupt(), ts.started({}):
        print("went on")
except KeyboardInterrupt:
    pass
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "stopped server\n"


@pytest.fixture
def root(tmp_path, monkeypatch):
    for module in (ts, run_dir):
        monkeypatch.setattr(module, "run_root", lambda: tmp_path)
    return tmp_path


def test_a_second_server_on_a_port_leaves_the_firsts_folder_alone(root):
    with run_dir.new_run_dir(9100) as (folder, lock):
        (folder / "tmp" / "mine").touch()
        with pytest.raises(ServerError, match="port 9100: another server is being started"), run_dir.new_run_dir(9100):
            pass
        assert (folder / "tmp" / "mine").exists()
        holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    with pytest.raises(ServerError, match="another server"), run_dir.claimed(9100):
        pass  # the process that inherited the lock still holds it
    holder.communicate(b"\n", timeout=30)
    with run_dir.claimed(9100):
        pass


def test_a_start_that_is_given_up_leaves_nothing_but_logs(root):
    with pytest.raises(KeyboardInterrupt), run_dir.new_run_dir(9100) as (folder, _):
        raise KeyboardInterrupt
    assert [path.name for path in folder.iterdir()] == ["logs"]


def recorded(folder, process) -> ts.Server:
    """A server's record as `start` leaves it."""
    (folder / "tmp").mkdir(parents=True)
    values = {"port": 9100, "pid": process.pid, "models": [], "run_dir": str(folder)}
    values["started"] = ts.psutil.Process(process.pid).create_time()
    (folder / "server.json").write_text(json.dumps(values))
    return ts.find(9100)


def test_a_server_that_died_is_tidied_away_with_the_worker_that_outlived_it(root):
    worker = "import time; time.sleep(60)"
    program = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {worker!r}, {str(root / '9100')!r}])"
    with subprocess.Popen([sys.executable, "-c", f"{program}; input()"], start_new_session=True, stdin=-1) as frontend:
        server = recorded(root / "9100", frontend)
        while not (workers := ts.psutil.Process(frontend.pid).children()):
            pass
        while str(root / "9100") not in " ".join(workers[0].cmdline()):
            pass
        frontend.kill()
    assert server.process() is None
    assert ts.stop(9100) is False
    assert not ts.psutil.pid_exists(workers[0].pid) or workers[0].status() == ts.psutil.STATUS_ZOMBIE
    assert list((root / "9100").iterdir()) == []
    with pytest.raises(ServerError, match="no server"):
        ts.stop(9100)


@pytest.mark.parametrize("host", ["::1", "", "no such host", "192.0.2.1"])
def test_a_host_that_is_not_an_ipv4_address_of_this_machine_is_refused(host):
    with pytest.raises(ServerError, match=r"host: expected an IPv4 address or a name of this machine"):
        ts.check_ports(9200, host)


@pytest.mark.parametrize(
    ("given", "frontend", "workers"),
    [("trace", "trace", "debug"), ("OFF", "off", "critical"), (None, "warn", "warning")],
)
def test_a_log_level_of_log4j_becomes_one_that_the_workers_know(monkeypatch, tmp_path, given, frontend, workers):
    if given is None:
        monkeypatch.delenv("SIMPLENET_LOG_LEVEL", raising=False)
    else:
        monkeypatch.setenv("SIMPLENET_LOG_LEVEL", given)
    config = tmp_path / "config.properties"
    config.touch()
    assert f"-Dsimplenet.log.level={frontend}" in ts._command(tmp_path / "java", tmp_path, config, least_delay=True)
    assert ts._environment(tmp_path, 1)["SIMPLENET_LOG_LEVEL"] == workers
    assert isinstance(getattr(logging, workers.upper()), int)


def test_an_unknown_log_level_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("SIMPLENET_LOG_LEVEL", "loud")
    with pytest.raises(ServerError, match=r"SIMPLENET_LOG_LEVEL: expected off, .*found 'loud'"):
        ts._environment(tmp_path, 1)


def test_an_empty_store_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match=r"file/store: expected .mar files, or a folder .* Not a directory"):
        require_writable(tmp_path / "file" / "store")


def test_output_that_nobody_reads_any_more_is_lost_and_nothing_worse():
    program = """
import sys
from simplenet.cli.output import lasting_output
with lasting_output():
    sys.stdin.read()
    print("unread")
print("went on", file=sys.stderr)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, stderr=-1, text=True)
    process.stdout.close()
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    with process.stderr as errors:
        assert errors.read() == "went on\n"
