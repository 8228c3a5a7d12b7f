"""Starting and stopping: ports, signals, refusals, and nothing left behind."""

import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from zipfile import ZipFile

import pytest
import requests
from support import COMMAND_TIMEOUT_S, free_port, processes_of, simplenet, worker_pids

from simplenet.server import find, living_workers
from simplenet.server.management import request


def wait_for(condition, timeout_s: float = COMMAND_TIMEOUT_S):
    """Poll until `condition()` is true and return its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)
    return value


def test_the_printed_curl_line_answers_as_pasted(server):
    line = next(line for line in server.output.splitlines() if line.startswith("curl "))
    done = subprocess.run(["bash", "-c", f"{line} --silent --fail"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"label":"7"' in done.stdout


def test_two_servers_share_the_machine_and_stopping_one_leaves_the_other(server, start_server, model_store):
    other = start_server("--model-store", model_store, "--workers", "2")
    assert len(worker_pids(other.port)) == 2
    for running in (server, other):
        assert simplenet("predict", "data/digit.png", "--url", running.url).returncode == 0
    assert simplenet("stop", "--port", str(other.port)).returncode == 0
    assert processes_of(other.port) == []
    assert simplenet("predict", "data/digit.png", "--url", server.url).returncode == 0
    assert simplenet("predict", "data/digit.png", "--url", other.url).returncode == 1


@pytest.mark.parametrize(
    ("number", "at_once"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)]
)
def test_a_signal_stops_a_foreground_server_cleanly(number, at_once, model_store):
    port = free_port()
    command = [str(Path(sys.executable).with_name("simplenet")), "serve"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--model-store", str(model_store)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        wait_for(lambda: "ready" in process.stdout.readline())
        workers = set() if at_once else worker_pids(port)
        assert workers or at_once
        process.send_signal(number)
        assert process.wait(timeout=COMMAND_TIMEOUT_S) == 0
    finally:
        process.kill()
        process.stdout.close()
    assert processes_of(port) == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_a_signal_during_the_start_leaves_nothing(model_store):
    port = free_port()
    command = [str(Path(sys.executable).with_name("simplenet")), "serve"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--model-store", str(model_store)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: processes_of(port))
    process.terminate()
    assert process.wait(timeout=COMMAND_TIMEOUT_S) != 0
    wait_for(lambda: processes_of(port) == [])


def test_a_signal_before_the_start_leaves_no_temporary_folder(tmp_path):
    state = Path(tempfile.mkdtemp(dir=os.environ["XDG_STATE_HOME"]))
    port = free_port()
    program = f"""
import sys
from pathlib import Path
from simplenet import paths
paths.MODEL_STORE = Path({str(tmp_path / "store")!r})  # the default one: only that gets the sample model
from simplenet.cli.app import main
main()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, "serve", "--port", str(port)],
        env={**os.environ, "XDG_STATE_HOME": str(state), "TMPDIR": str(state)},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert "training the sample model" in process.stdout.readline()
        process.terminate()
        assert process.wait(timeout=COMMAND_TIMEOUT_S) != 0
    left = {str(path.relative_to(state)) for path in state.rglob("*") if path.is_dir()}
    assert left == {"simplenet", f"simplenet/{port}", f"simplenet/{port}/logs"}
    assert list((tmp_path / "store").iterdir()) == []


def test_a_reader_that_leaves_does_not_stop_the_server(model_store):
    port = free_port()
    command = [str(Path(sys.executable).with_name("simplenet")), "serve", "--port", str(port), "--detach"]
    with subprocess.Popen([*command, "--model-store", str(model_store)], stdout=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.wait(timeout=COMMAND_TIMEOUT_S) == 0
    try:
        assert simplenet("predict", "data/digit.png", "--url", f"http://127.0.0.1:{port}").returncode == 0
    finally:
        assert simplenet("stop", "--port", str(port)).returncode == 0


def test_a_taken_port_is_named(server, model_store):
    done = simplenet("serve", "--port", str(server.port - 1), "--model-store", model_store)
    assert done.returncode == 1
    assert re.search(r"port \d+ \(\w+\): Address already in use; choose another with --port", done.stderr)
    assert len(done.stderr.splitlines()) == 1


def test_clients_that_vanish_leave_no_line_in_the_log(server):
    """Each is reset in the middle of its request; TorchServe logs every one as an error."""
    log = find(server.port).logs / "ts_log.log"
    before = log.read_text()
    head = b"POST /predictions/simplenet HTTP/1.1\r\nHost: a\r\nContent-Length: 3136\r\n\r\n"
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(head + bytes(100))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    digit = (Path(__file__).parents[2] / "data" / "digit.png").read_bytes()
    assert requests.post(server.predictions, data=digit, headers={"Content-Type": "image/png"}, timeout=30).ok
    assert log.read_text() == before


def test_a_wrong_java_home_is_one_line(model_store, tmp_path):
    command = [str(Path(sys.executable).with_name("simplenet")), "serve", "--port", str(free_port())]
    done = subprocess.run(
        [*command, "--model-store", str(model_store)],
        env={**os.environ, "JAVA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "JAVA_HOME" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_stopping_where_nothing_runs_is_one_line():
    done = simplenet("stop", "--port", str(free_port()))
    assert done.returncode == 1
    assert "no server" in done.stderr


def test_the_latency_profile_replaces_the_archives_own(start_server, model_store):
    running = start_server("--model-store", model_store, "--profile", "latency")
    (version,) = request(find(running.port), "GET", "/models/simplenet")
    assert version["batchSize"] == 1
    assert simplenet("predict", "data/digit.png", "--url", running.url).returncode == 0


def test_models_cannot_be_registered_over_http(server):
    answer = requests.post(f"{server.management}/models?url=https://example.org/a.mar", timeout=10)
    assert answer.status_code >= 400


def edited_archive(archive: Path, tmp_path: Path, edits: dict[str, list[tuple[bytes, bytes]]], without=()) -> Path:
    """A store with a copy of the archive that was changed: each edit replaces bytes that must be there."""
    target = tmp_path / "edited" / "simplenet.mar"
    target.parent.mkdir()
    with ZipFile(archive) as source, ZipFile(target, "w") as copy:
        for name in source.namelist():
            contents = source.read(name)
            for old, new in edits.get(name, ()):
                assert old in contents
                contents = contents.replace(old, new)
            if name not in without:
                copy.writestr(name, contents)
    return target.parent


def test_an_archive_whose_code_drifted_from_its_weights_is_not_served(sample_archive, tmp_path):
    port = free_port()
    no_relu = {"simplenet/model.py": [(b"self.relu(self.fc1(x))", b"self.fc1(x)")]}
    store = edited_archive(sample_archive, tmp_path, no_relu)
    started = time.monotonic()
    done = simplenet("serve", "--port", str(port), "--model-store", store)
    assert done.returncode == 1
    assert "golden samples" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Worker died" not in done.stderr
    assert processes_of(port) == []
    assert time.monotonic() - started < 300  # not after TorchServe's five minutes of retries


def test_an_archive_from_before_the_state_files_is_served_too(start_server, sample_archive, tmp_path):
    edits = {
        "simplenet_handler.py": [
            (b"import console, exits, state, wire", b"import console, exits, wire"),
            (b", state.progress.touch)", b")"),
            (b"        state.announce(context, self.predictor, wire_is_fast)\n", b""),
            (b"        state.progress.touch()\n", b""),
        ]
    }
    store = edited_archive(sample_archive, tmp_path, edits, without=["simplenet/worker/state.py"])
    running = start_server("--model-store", store)
    assert list(Path(find(running.port).states).iterdir()) == []
    assert simplenet("predict", "data/digit.png", "--url", running.url).returncode == 0
    assert simplenet("stop", "--port", str(running.port)).returncode == 0


def test_a_worker_that_takes_the_place_of_a_dead_one_has_a_state_of_its_own(server):
    (before,) = living_workers(find(server.port))
    os.kill(before.pid, signal.SIGKILL)
    wait_for(lambda: [worker.pid for worker in living_workers(find(server.port))] not in ([], [before.pid]))
    assert [file.stem for file in find(server.port).states.iterdir()] == [str(*worker_pids(server.port))]


def test_the_log_says_in_one_line_a_worker_what_runs(server):
    log_file = find(server.port).logs / "model_log.log"
    for worker in living_workers(find(server.port)):
        wait_for(lambda pid=worker.pid: f"worker {pid}:" in log_file.read_text())
        log = log_file.read_text()
        (line,) = [line for line in log.splitlines() if f"worker {worker.pid}:" in line]
        assert line.endswith(str(worker))
        assert re.search(r"wire fast, frontend fast, JSON \w+, PNG \w+, verified [0-9a-f]{12}$", line)


@pytest.mark.parametrize("variable", ["SIMPLENET_WIRE", "SIMPLENET_FRONTEND", "SIMPLENET_LOG_LEVEL"])
def test_a_wrong_setting_is_one_line(model_store, variable):
    done = simplenet("serve", "--port", str(free_port()), "--model-store", model_store, **{variable: "quick"})
    assert done.returncode == 1
    assert re.fullmatch(rf"error: {variable}: expected one of '.*', found 'quick'\n", done.stderr)


def test_a_worker_that_cannot_import_says_what_it_lacks(sample_archive, tmp_path):
    made = shutil.copy(sample_archive, tmp_path)
    with ZipFile(made, "a") as archive:
        archive.writestr("orjson/__init__.py", "raise ImportError('orjson was built for another Python')")
    done = simplenet("serve", "--port", str(free_port()), "--model-store", tmp_path)
    assert done.returncode == 1
    assert "orjson was built for another Python" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_checkpoint_is_served_without_touching_the_store(start_server, trained_checkpoint):
    running = start_server("--checkpoint", trained_checkpoint)
    assert "--data-binary" in running.output
    assert shlex.split(running.output.splitlines()[-1])[0] == "curl"


def test_a_damaged_checkpoint_is_refused_in_one_line(trained_checkpoint, tmp_path):
    file = tmp_path / "damaged.pt"
    contents = bytearray(trained_checkpoint.read_bytes())
    contents[len(contents) // 2] ^= 1
    file.write_bytes(contents)
    for verb in ("inspect", "archive"):
        done = simplenet(verb, file)
        assert done.returncode == 1, verb
        assert len(done.stderr.splitlines()) == 1
    done = simplenet("serve", "--port", str(free_port()), "--checkpoint", file)
    assert done.returncode == 1
    assert "damaged: expected CRC-32" in done.stderr
    assert len(done.stderr.splitlines()) == 1
