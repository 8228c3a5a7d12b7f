"""A whole worker process of TorchServe with our handler, the test in place of the frontend: what ends it, what not."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from own_networks import written
from support import COMMAND_TIMEOUT_S

from simplenet.archive import create_archive
from simplenet.checkpoint import save_for_inference
from simplenet.paths import resource

# What each first number of a row makes the network do. 669: a child ends by os._exit, as those of multiprocessing do.
# 670: CUDA is lost; the machine may have none, so a stand-in says that it fails. 680 to 685: a child ends as the table
# says, or returns; one that is forked while the worker loads the module raises.
TOUCHY_NET = """
import logging
import os
import sys
from os import _exit
import torch
from torch import nn


class Silent(Exception):
    def __str__(self):
        raise SystemExit(4)


ENDS = {680: SystemExit(), 681: SystemExit(5), 682: SystemExit("secret"), 683: ValueError("child"), 684: Silent()}


def status_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if hasattr(sys.modules["__main__"], "TorchModelServiceWorker"):
    child = os.fork()
    if not child:
        raise ValueError("a child at the load")
    assert status_of(child) == 1


class Touchy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        first = set(x[:, 0].tolist())
        if 666 in first:
            raise ValueError("secret")
        if 667 in first:
            raise SystemExit(3)
        if 668 in first:
            os._exit(3)
        if 669 in first:
            child = os.fork()
            if not child:
                os._exit(7)
            assert status_of(child) == 7
        if 670 in first:
            from simplenet.worker import failures
            failures._cuda_fails = lambda: True
            raise RuntimeError("CUDA error: device-side assert triggered")
        if 671 in first:
            raise KeyboardInterrupt
        if 672 in first:
            _exit(3)
        if 673 in first:
            raise ValueError("long " + "x" * 1_000_000)
        if 674 in first:
            print("printed " + "y" * 1_000_000)
            print("warned " + "z" * 1_000_000, file=sys.stderr)
            logging.getLogger("own").error("logged " + "v" * 1_000_000)
        for number in first & {680, 681, 682, 683, 684, 685}:
            child = os.fork()
            if not child:
                if number in ENDS:
                    raise ENDS[number]
                break
            assert status_of(child) == {680: 0, 681: 5, 685: 0}.get(number, 1)
        return self.layer(x)
"""


def sized(data: bytes) -> bytes:
    return struct.pack("!i", len(data)) + data


class Worker:
    """The process, and the frontend's end of its connection."""

    def __init__(self, folder: Path, state: Path, **environment: str) -> None:
        self.state = state
        self.log = state / "log"
        sockets = Path(tempfile.mkdtemp())  # the path of a socket is limited to some 100 characters
        self.socket_file = sockets / ".ts.sock.1"
        spec = find_spec("ts")
        assert spec is not None
        assert spec.origin is not None
        script = Path(spec.origin).parent / "model_service_worker.py"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIMPLENET_")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, str(script), "--sock-type", "unix", "--sock-name", str(self.socket_file)),
                    *("--metrics-config", str(resource("config/metrics.yaml"))),
                ],
                cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={**inherited, "PYTHONPATH": str(folder), "SIMPLENET_STATE_DIR": str(state), **environment},
            )  # fmt: skip
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(COMMAND_TIMEOUT_S)
        self.wait_for(self.socket_file.exists)
        self.wait_for(self._connected)
        self.connection.sendall(
            b"L" + sized(b"touchy") + sized(str(folder).encode()) + struct.pack("!i", 64)
            + sized(b"simplenet_handler.py") + struct.pack("!i", -1) + sized(b"") + b"\x01"
        )  # fmt: skip
        code, message = self._number(), self._bytes(self._number())
        assert code == 200, self.log.read_text()
        assert b"loaded" in message
        while self._number() != -1:
            pass  # no predictions

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)

    def _connected(self) -> bool:
        try:
            self.connection.connect(str(self.socket_file))
        except ConnectionRefusedError:
            return False
        return True

    def _bytes(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = self.connection.recv(length - len(data))
            assert piece, "the worker closed the connection\n" + self.log.read_text()
            data += piece
        return data

    def _number(self) -> int:
        return struct.unpack("!i", self._bytes(4))[0]

    def answers(self, *firsts: float) -> list[tuple[int, bytes]]:
        """Status and body for a batch with a request of one row for each of these first numbers."""
        end = struct.pack("!i", -1)
        message = b"I"
        for number, first in enumerate(firsts):
            row = np.array([first, 0.25, 0.5, 0.75], "<f4").tobytes()
            message += sized(b"%036d" % number)
            for name, value in (
                (b"content-type", b"application/octet-stream"),
                (b"accept", b"application/octet-stream"),
            ):
                message += sized(name) + sized(value)
            message += end + sized(b"body") + sized(b"application/octet-stream") + sized(row) + end
        self.connection.sendall(message + end)
        assert self._number() == 200
        self._bytes(self._number())
        responses = []
        while (length := self._number()) != -1:
            assert int(self._bytes(length)) == len(responses)
            self._bytes(self._number())
            status = self._number()
            self._bytes(self._number())
            for _ in range(2 * self._number()):
                self._bytes(self._number())
            responses.append((status, self._bytes(self._number())))
        assert len(responses) == len(firsts)
        return responses

    def end(self) -> None:
        self.connection.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(COMMAND_TIMEOUT_S)
        self.socket_file.unlink(missing_ok=True)
        self.socket_file.parent.rmdir()


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """The network's archive as TorchServe unpacks it, and the network."""
    folder = tmp_path_factory.mktemp("touchy")
    torch.manual_seed(2)
    module, network_class = written(folder, TOUCHY_NET, "Touchy")
    network = network_class().eval()
    save_for_inference(network, folder / "net.pt", model_config={}, golden_inputs=torch.rand(4, 4))
    archive = create_archive(folder / "net.pt", export_path=folder, model_file=module, model_class="Touchy")
    with zipfile.ZipFile(archive) as contents:
        contents.extractall(folder / "unpacked")
    return folder / "unpacked", network


@pytest.fixture
def start(unpacked, tmp_path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def start(**environment: str) -> Worker:
        workers.append(Worker(unpacked[0], tmp_path, **environment))
        return workers[-1]

    yield start
    for worker in workers:
        worker.end()


@pytest.mark.parametrize("wire", ["fast", "stock"])
def test_what_ends_other_processes_fails_one_request_and_the_worker_lives_on(start, unpacked, wire):
    worker = start(SIMPLENET_WIRE=wire)
    firsts = [0.1, 666, 0.2, 667, 0.3, 668, 669, 671, 672, 0.4]
    answers = worker.answers(*firsts)
    names = {666: "ValueError", 667: "SystemExit", 668: "os._exit", 671: "KeyboardInterrupt", 672: "os._exit"}
    rows = torch.tensor([[first, 0.25, 0.5, 0.75] for first in firsts])
    with torch.inference_mode():
        expected = torch.softmax(unpacked[1].layer(rows), dim=1).numpy()
    for first, (status, body), probabilities in zip(firsts, answers, expected, strict=True):
        if first in names:
            assert (status, json.loads(body)["type"]) == (500, names[first])
            assert b"secret" not in body
        else:
            assert status == 200, body
            np.testing.assert_allclose(np.frombuffer(body, "<f4"), probabilities, atol=1e-6)
    assert worker.answers(0.1)[0] == answers[0]
    assert worker.process.poll() is None
    assert worker.log.read_text().count("ValueError: secret") == 1


@pytest.mark.parametrize("wire", ["fast", "stock"])
def test_a_child_that_the_network_forks_ends_as_it_would_elsewhere_and_answers_nothing(start, unpacked, wire):
    worker = start(SIMPLENET_WIRE=wire)
    assert worker.socket_file.exists()  # the child at the load left it alone
    firsts = [0.1, 680, 681, 682, 683, 684, 685, 0.2]
    rows = torch.tensor([[first, 0.25, 0.5, 0.75] for first in firsts])
    with torch.inference_mode():
        expected = torch.softmax(unpacked[1].layer(rows), dim=1).numpy()
    for batch in (firsts, *([first] for first in firsts)):
        for first, (status, body) in zip(batch, worker.answers(*batch), strict=True):
            assert status == 200, body
            np.testing.assert_allclose(np.frombuffer(body, "<f4"), expected[firsts.index(first)], atol=1e-6)
    assert not psutil.Process(worker.process.pid).children()
    assert worker.process.poll() is None
    assert "ValueError: child" in worker.log.read_text()


def test_no_line_that_a_worker_prints_is_long_whatever_its_network_says(start):
    worker = start()
    assert [status for status, _ in worker.answers(0.1, 673, 674, 0.2)] == [200, 500, 200, 200]
    worker.connection.close()
    assert worker.process.wait(COMMAND_TIMEOUT_S) == 0  # it has printed all
    lines = worker.log.read_text().splitlines()
    assert max(map(len, lines)) < 20_000
    for begin in ("printed yyy", "warned zzz", "logged vvv", "  ValueError: long xxx"):
        (line, *_) = [line for line in lines if line.startswith(begin)]
        assert " characters left out" in line


def test_a_worker_whose_device_is_lost_answers_its_batch_and_ends(start):
    worker = start()
    answers = worker.answers(0.1, 670, 0.2)
    assert [(status, json.loads(body)["type"]) for status, body in answers] == [(503, "ServiceUnavailable")] * 3
    assert worker.process.wait(COMMAND_TIMEOUT_S) != 0
    assert "device-side assert" in worker.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_worker(start, number):
    worker = start()
    worker.answers(668)
    worker.process.send_signal(number)
    assert worker.process.wait(COMMAND_TIMEOUT_S) == -number


def test_a_frontend_that_leaves_ends_the_worker(start):
    worker = start()
    worker.answers(667)
    worker.connection.close()
    assert worker.process.wait(COMMAND_TIMEOUT_S) == 0


def test_the_state_file_shows_that_batches_are_answered_and_comes_back_if_it_vanishes(start):
    worker = start()
    (file,) = worker.state.glob("*.json")
    assert file.name == f"{worker.process.pid}.json"
    content = file.read_bytes()

    def is_touched() -> bool:
        os.utime(file, (0, 0))
        worker.answers(0.1)
        worker.answers(0.1)  # the first was answered before the second is read
        return file.stat().st_mtime > 0

    worker.wait_for(is_touched)
    assert file.read_bytes() == content
    file.unlink()

    def is_back() -> bool:
        worker.answers(0.1)
        return file.exists()

    worker.wait_for(is_back)
    assert file.read_bytes() == content
    assert psutil.pid_exists(worker.process.pid)
