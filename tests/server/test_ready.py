"""Readiness from the workers' state files, with real processes in the workers' place."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import pytest

from simplenet.errors import ServerError
from simplenet.server.ready import living_workers, wait_until_ready
from simplenet.server.record import Server
from simplenet.worker.state import WorkerState


@pytest.fixture
def port() -> Iterator[int]:
    """Where something answers HTTP, as the frontend does."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def process() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start processes that live until the test ends."""
    started: list[subprocess.Popen] = []

    def start(**options: object) -> subprocess.Popen:
        started.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, **options))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def served(run_dir, frontend: subprocess.Popen, port: int, workers: int) -> Server:
    for name in ("state", "logs"):
        (run_dir / name).mkdir()
    created = psutil.Process(frontend.pid).create_time()
    return Server(port, frontend.pid, created, ("net",), "127.0.0.1", {"net": workers}, run_dir, {"net": "2.0"})


def state(pid: int, model: str = "net", version: str = "2.0") -> WorkerState:
    return WorkerState(pid, model, version, "cpu", "a CPU", None, "00", "2", "2026-01-01T00:00:00+00:00", {})


def test_a_server_is_ready_when_all_its_workers_are(tmp_path, process, port):
    frontend = process(preexec_fn=os.setpgrp)
    server = served(tmp_path, frontend, port, workers=2)
    workers = [process(preexec_fn=lambda: os.setpgid(0, frontend.pid)) for _ in range(2)]
    state(workers[0].pid).write(server.states)
    with pytest.raises(ServerError, match="not ready in time"):
        wait_until_ready(server, timeout_s=0)
    state(workers[1].pid).write(server.states)
    wait_until_ready(server, timeout_s=30)
    assert {worker.pid for worker in living_workers(server)} == {worker.pid for worker in workers}


def test_each_model_waits_for_its_own_workers(tmp_path, process, port):
    frontend = process(preexec_fn=os.setpgrp)
    server = replace(
        served(tmp_path, frontend, port, workers=1),
        models=("net", "other"), model_workers={"net": 1, "other": 2}, versions={"net": "2.0", "other": "2.0"},
    )  # fmt: skip
    workers = [process(preexec_fn=lambda: os.setpgid(0, frontend.pid)) for _ in range(3)]
    for worker, model in zip(workers[:2], ("net", "other"), strict=True):
        state(worker.pid, model).write(server.states)
    with pytest.raises(ServerError, match="not ready in time"):
        wait_until_ready(server, timeout_s=0)
    state(workers[2].pid, "other").write(server.states)
    wait_until_ready(server, timeout_s=30)


@pytest.mark.parametrize("wrong", [{"model": "other"}, {"version": "1.0"}])
def test_a_worker_of_another_model_or_version_does_not_count(tmp_path, process, port, wrong):
    frontend = process(preexec_fn=os.setpgrp)
    server = served(tmp_path, frontend, port, workers=1)
    state(process(preexec_fn=lambda: os.setpgid(0, frontend.pid)).pid, **wrong).write(server.states)
    with pytest.raises(ServerError, match="not ready in time"):
        wait_until_ready(server, timeout_s=0)


def test_a_worker_that_died_or_whose_pid_is_somebody_elses_by_now_does_not_count(tmp_path, process, port):
    frontend = process(preexec_fn=os.setpgrp)
    server = served(tmp_path, frontend, port, workers=1)
    dead = process(preexec_fn=lambda: os.setpgid(0, frontend.pid))
    state(process().pid).write(server.states)  # alive, but in another process group
    state(dead.pid).write(server.states)
    assert [worker.pid for worker in living_workers(server)] == [dead.pid]
    dead.kill()
    dead.wait()
    assert living_workers(server) == []
    with pytest.raises(ServerError, match="not ready in time"):
        wait_until_ready(server, timeout_s=0)


def test_a_frontend_that_does_not_answer_is_not_ready(tmp_path, process):
    frontend = process(preexec_fn=os.setpgrp)
    server = served(tmp_path, frontend, 1, workers=1)
    state(process(preexec_fn=lambda: os.setpgid(0, frontend.pid)).pid).write(server.states)
    with pytest.raises(ServerError, match="not ready in time"):
        wait_until_ready(server, timeout_s=0)


def test_the_environments_proxy_is_not_asked_about_this_machine(tmp_path, process, port, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    frontend = process(preexec_fn=os.setpgrp)
    server = served(tmp_path, frontend, port, workers=1)
    state(process(preexec_fn=lambda: os.setpgid(0, frontend.pid)).pid).write(server.states)
    wait_until_ready(server, timeout_s=30)


def test_what_a_worker_wrote_may_come_after_the_frontend_has_said_that_it_died(tmp_path, process, port):
    server = served(tmp_path, process(preexec_fn=os.setpgrp), port, workers=1)
    (server.logs / "ts_log.log").write_text("2026-11-25T07:34:00 WARN  W-9000-net_2.0 - Load model failed: net\n")
    later = threading.Timer(1, (server.logs / "model_log.log").write_text, ["ValueError: the cause\n"])
    later.start()
    with pytest.raises(ServerError, match="the model cannot be loaded: ValueError: the cause"):
        wait_until_ready(server)
    later.join()
