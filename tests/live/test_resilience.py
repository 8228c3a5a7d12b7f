"""What happens to requests when workers die, hang or are stopped: every one gets an answer that says what to do."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Event

import numpy as np
import psutil
import pytest
import requests
from support import COMMAND_TIMEOUT_S, Running, free_port, processes_of, simplenet, worker_pids

from simplenet import create_archive, save_for_inference
from simplenet.model_file import load_network
from simplenet.server import drain, find
from simplenet.server.drain import CutOff, in_flight_of
from simplenet.server.lifecycle import SUPERVISOR
from simplenet.server.management import request

# Its first number is how many seconds a row takes.
SLOW_NET = """
import time

from torch import nn


class SlowNet(nn.Module):
    def __init__(self, input_size, num_classes):
        super().__init__()
        self.layer = nn.Linear(input_size, num_classes)

    def forward(self, rows):
        time.sleep(float(rows[:, 0].clamp(0, 60).max()))
        return self.layer(rows)
"""
RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def slow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slow")
    (folder / "slow_net.py").write_text(SLOW_NET)
    network, config = load_network(folder / "slow_net.py", "SlowNet"), {"input_size": 4, "num_classes": 2}
    golden = np.zeros((4, 4), np.float32)
    golden[:, 1] = range(4)
    import torch

    save_for_inference(
        network(**config), folder / "slow.pt", model_config=config, golden_inputs=torch.from_numpy(golden)
    )
    create_archive(
        folder / "slow.pt", export_path=folder / "store", model_name="simplenet",
        model_file=folder / "slow_net.py", model_class="SlowNet",
    )  # fmt: skip
    return folder / "store"


def row(seconds: float) -> bytes:
    return np.array([seconds, 0, 0, 0], "<f4").tobytes()


def send(server: Running, seconds: float = 0) -> requests.Response:
    return requests.post(server.predictions, data=row(seconds), headers=RAW, timeout=60)


def ping(server: Running) -> requests.Response:
    return requests.get(f"{server.url}/ping", timeout=10)


def until(condition, timeout_s: float = 60):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)
    return value


def held(
    server: Running, pool: ThreadPoolExecutor, seconds: float, count: int = 1
) -> list["Future[requests.Response]"]:
    """So many requests in flight, the first of them in the worker's hands."""
    record = find(server.port)
    until(lambda: in_flight_of(record) == 0)
    first = pool.submit(send, server, seconds)
    until(lambda: request(record, "GET", "/requests/simplenet/1.0")["working"] > 0)
    others = [pool.submit(send, server, seconds) for _ in range(count - 1)]
    until(lambda: in_flight_of(record) >= count)
    return [first, *others]


@contextmanager
def unwatched(server: Running, supervisor: int | None = None) -> Iterator[None]:
    """No request is in flight but the test's: the supervisor, which sends its own, stands still."""
    pid = supervisor or next(
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if {SUPERVISOR, str(server.port)} <= set(process.info["cmdline"] or ())
    )
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: in_flight_of(find(server.port)) == 0)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def slow_upload(server: Running) -> Iterator[Callable[[], bytes]]:
    """A request whose body goes on to arrive; the call sends what is left and returns the response."""
    body, before, hurry = row(0) * 10_000, in_flight_of(find(server.port)), Event()
    head = f"POST /predictions/simplenet HTTP/1.1\r\nHost: x\r\nContent-Type: {RAW['Content-Type']}\r\n"
    head += f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"

    def upload(connection: socket.socket) -> None:
        sent = 0
        while not hurry.wait(0.2) and sent < len(body) - 100:
            connection.sendall(body[sent : sent + 100])
            sent += 100
        connection.sendall(body[sent:])

    def finish() -> bytes:
        hurry.set()
        uploading.result()
        return connection.makefile("rb").read()

    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection, ThreadPoolExecutor(1) as pool:
        connection.sendall(head.encode())
        uploading = pool.submit(upload, connection)
        try:
            until(lambda: in_flight_of(find(server.port)) > before)
            yield finish
        finally:
            hurry.set()


@contextmanager
def attached(server: Running, *options: str) -> Iterator[subprocess.Popen]:
    """A server in the foreground, started by a command that has not ended."""
    command = [Path(sys.executable).with_name("simplenet"), "serve", "--port", str(server.port), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            until(lambda: "ready" in process.stdout.readline())
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                simplenet("stop", "--port", str(server.port), "--drain-timeout", "0")


@pytest.mark.parametrize("way", ["stop", "signal"])
def test_stopping_answers_what_was_accepted_and_refuses_what_comes(way, slow_store, start_server):
    options = ["--model-store", str(slow_store), "--max-queue-wait", "60"]
    with ThreadPoolExecutor(64) as pool, ExitStack() as stack:
        if way == "stop":
            server, process = start_server(*options), None
        else:
            server = Running(free_port(), "")
            process = stack.enter_context(attached(server, *options))
        (worker,) = worker_pids(server.port)
        record = find(server.port)
        with unwatched(server, process and process.pid):
            os.kill(worker, signal.SIGSTOP)  # until all are in flight, however long that takes
            in_flight = held(server, pool, seconds=1, count=40)
            finish_upload = stack.enter_context(slow_upload(server))
        if process is None:
            stopping = pool.submit(simplenet, "stop", "--port", str(server.port))
        else:
            process.send_signal(signal.SIGTERM)
        until(lambda: request(record, "GET", "/requests")["draining"])
        late = send(server)
        assert (late.status_code, late.headers["Retry-After"]) == (503, "1")
        assert late.json()["message"] == "the server is stopping; try again"
        upload = HTTPConnection("127.0.0.1", server.port, timeout=60)  # which sends all before it reads
        upload.request("POST", "/predictions/simplenet", row(0) * 500_000, RAW)
        assert upload.getresponse().status == 503
        upload.close()
        os.kill(worker, signal.SIGCONT)
        assert [answer.result().status_code for answer in in_flight] == [200] * 40
        until(lambda: in_flight_of(record) == 1)  # which is waited for
        assert finish_upload().startswith(b"HTTP/1.1 200")
        if process is None:
            assert (stopping.result().returncode, stopping.result().stderr) == (0, "")
            assert "cut off" not in stopping.result().stdout
        else:
            output, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
            assert process.returncode == 0
            assert output.splitlines()[-1] == "stopped"
    assert processes_of(server.port) == []


def test_what_outlasts_the_drain_timeout_is_cut_off_and_counted(slow_store, start_server):
    server = start_server("--model-store", slow_store)
    with ThreadPoolExecutor(4) as pool:
        with unwatched(server):
            (slow,) = held(server, pool, seconds=60)
            assert drain(find(server.port), timeout_s=0.5) == CutOff(1)
        done = simplenet("stop", "--port", str(server.port), "--drain-timeout", "0.5")
        assert done.stdout == f"stopped the server on port {server.port}; 1 request cut off\n"
        with pytest.raises(requests.ConnectionError):
            slow.result()
    assert processes_of(server.port) == []


@pytest.fixture(scope="module")
def impatient(slow_store, start_shared_server) -> Running:
    """A server with one worker, where no request waits longer than a second."""
    return start_shared_server("--model-store", slow_store, "--max-queue-wait", "1", "--recovery-timeout", "120")


def test_a_request_that_no_worker_takes_is_told_to_try_again(impatient):
    with ThreadPoolExecutor(4) as pool, requests.Session() as session:
        (slow,) = held(impatient, pool, seconds=5)
        answer = session.post(impatient.predictions, data=row(0), headers=RAW, timeout=60)
        assert not slow.done()
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json() == {
            "code": 503,
            "type": "ServiceUnavailable",
            "message": "queue: no worker took the request within 1.0 s; try again",
        }
        assert answer.headers["Connection"] == "keep-alive"
        assert slow.result().status_code == 200
        assert session.post(impatient.predictions, data=row(0), headers=RAW, timeout=60).status_code == 200


def test_requests_of_a_killed_worker_are_told_to_try_again(impatient):
    log = find(impatient.port).logs / "supervisor.log"
    for _ in range(3):
        (pid,) = worker_pids(impatient.port)
        until(lambda pid=pid: f"worker {pid} is ready" in log.read_text())
        with ThreadPoolExecutor(4) as pool:
            (slow,) = held(impatient, pool, seconds=60)
            os.kill(pid, signal.SIGKILL)
            answer = slow.result()
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json()["message"].endswith("; try again")
        until(lambda: send(impatient).status_code == 200)
    until(lambda: f"worker {pid} ended" in log.read_text())


def test_ping_says_that_the_only_worker_is_frozen_and_that_it_is_back(impatient):
    (pid,) = worker_pids(impatient.port)
    try:
        os.kill(pid, signal.SIGSTOP)
        until(lambda: ping(impatient).status_code == 503)
        assert ping(impatient).json()["message"].startswith("not ready: simplenet: no ")
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: ping(impatient).status_code == 200)


def test_a_model_that_an_operator_scales_to_no_workers_is_not_missed(impatient):
    record, log = find(impatient.port), find(impatient.port).logs / "supervisor.log"
    query = {"min_worker": 0, "max_worker": 0, "synchronous": "true"}
    request(record, "PUT", "/models/simplenet", 60, **query)
    until(lambda: "simplenet: scaled to 0 workers" in log.read_text())
    until(lambda: ping(impatient).status_code == 200)
    assert send(impatient).json()["message"] == "model: it has no workers; try again"
    request(record, "PUT", "/models/simplenet", 60, **{**query, "min_worker": 1, "max_worker": 1})
    until(lambda: send(impatient).status_code == 200)
    until(lambda: ping(impatient).status_code == 200)  # the supervisor has seen it too


def test_a_worker_that_is_scaled_down_answers_what_it_holds_once(impatient):
    record = find(impatient.port)
    query = {"min_worker": 2, "max_worker": 2, "synchronous": "true"}
    request(record, "PUT", "/models/simplenet", 60, **query)
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(send, impatient, 3) for _ in range(2)]
        until(lambda: request(record, "GET", "/requests/simplenet/1.0")["working"] >= 2)
        request(record, "PUT", "/models/simplenet", 60, **{**query, "min_worker": 1, "max_worker": 1})
        first, second = sorted((answer.result() for answer in slow), key=lambda answer: answer.status_code)
    assert first.status_code == 200
    assert (second.status_code, second.headers["Retry-After"]) == (503, "1")
    assert second.headers["Connection"] == "close"  # TorchServe may answer once more


def test_management_needs_the_token(impatient):
    record = find(impatient.port)
    token = (record.run_dir / "management.token").read_text()
    for headers in ({}, {"Authorization": token}, {"Authorization": f"Bearer {token}x"}, {"Authorization": "Bearer "}):
        for method, path in (
            ("GET", "/models"),
            ("PUT", "/drain"),
            ("DELETE", "/models/simplenet"),
            ("GET", "/requests"),
        ):
            answer = requests.request(method, impatient.management + path, headers=headers, timeout=10)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert request(record, "GET", "/models")["models"][0]["modelName"] == "simplenet"
    assert send(impatient).status_code == 200


def test_an_upload_that_stalls_keeps_nobody_else_waiting(impatient):
    record = find(impatient.port)
    body = 16_000_000
    stalled = []
    try:
        for _ in range(100):
            connection = socket.create_connection(("127.0.0.1", impatient.port), timeout=30)
            stalled.append(connection)
            connection.sendall(
                b"POST /predictions/simplenet HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
                b"Content-Length: %d\r\n\r\n" % body + bytes(1_000_000)
            )
        for _ in range(20):
            until(lambda: send(impatient).status_code == 200)
        assert ping(impatient).status_code == 200
        assert record.process().memory_info().rss < 3 << 30
    finally:
        for connection in stalled:
            connection.close()


def test_a_server_whose_workers_cannot_come_back_ends_with_the_cause(slow_store):
    server = Running(free_port(), "")
    with attached(server, "--model-store", str(slow_store), "--recovery-timeout", "3") as process:
        shutil.rmtree(find(server.port).run_dir / "tmp")
        (pid,) = worker_pids(server.port)
        os.kill(pid, signal.SIGKILL)
        answers = []

        def ended() -> bool:
            try:
                answers.append(send(server).status_code)
            except requests.ConnectionError:
                return not processes_of(server.port)
            return False

        until(ended)
        assert set(answers) <= {503}
        output, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
    assert process.returncode == 1
    line = output.splitlines()[-1]
    assert "simplenet: no worker for " in line
    assert "No such file or directory" in line
