"""The state that a worker writes when it is ready."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from simplenet.worker.state import WorkerState, read_all

STATE = WorkerState(
    pid=os.getpid(), model="net", version="1.0", device="cpu", device_name="a CPU", gpu=3, content_hash="3f2a" * 16,
    torch="2.13.0", started="2026-01-01T00:00:00.000000+00:00",
    fast_paths={"wire": "fast", "frontend": "stock", "json": "simdjson", "png": "pillow"},
)  # fmt: skip


def test_a_state_reads_back_as_it_was_written(tmp_path):
    STATE.write(tmp_path)
    assert read_all(tmp_path) == [STATE]


def test_the_line_in_the_log_names_what_runs():
    assert str(STATE) == (
        f"worker {os.getpid()}: net 1.0 on cpu (a CPU), wire fast, frontend stock, JSON simdjson, PNG pillow, "
        "verified 3f2a3f2a3f2a"
    )


@pytest.mark.parametrize("content", [b"", b'{"pid": 1', b"[]", b'{"pid": 1}', b"null"])
def test_a_file_that_is_no_state_is_skipped(tmp_path, content):
    STATE.write(tmp_path)
    (tmp_path / "other.json").write_bytes(content)
    assert read_all(tmp_path) == [STATE]


def test_a_state_of_an_older_library_has_defaults_for_what_it_lacks(tmp_path):
    (tmp_path / "7.json").write_text('{"pid": 7, "model": "net", "version": "1.0"}')
    (state,) = read_all(tmp_path)
    assert state == WorkerState(7, "net", "1.0")
    assert (state.gpu, state.fast_paths) == (None, {})
    assert str(state).startswith("worker 7: net 1.0 on ")


def test_what_a_newer_library_adds_to_a_state_is_ignored(tmp_path):
    STATE.write(tmp_path)
    file = tmp_path / f"{STATE.pid}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "colour": "green"}))
    assert read_all(tmp_path) == [STATE]


def test_a_file_that_vanishes_is_skipped(tmp_path):
    STATE.write(tmp_path)
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    assert read_all(tmp_path) == [STATE]


def test_a_worker_that_takes_the_place_of_a_dead_one_removes_its_state(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead = replace(STATE, pid=int(ended.stdout))
    dead.write(tmp_path)
    assert read_all(tmp_path) == [dead]
    STATE.write(tmp_path)
    assert read_all(tmp_path) == [STATE]
