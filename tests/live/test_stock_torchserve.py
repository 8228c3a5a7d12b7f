"""An archive made here on a stock TorchServe 0.12: nothing of ours installed, its own settings and JSON decoding."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
import torch
from support import Running, free_port, processes_of

from simplenet import create_archive, load_model_for_inference
from simplenet.server import processes
from simplenet.server.torchserve import find_java

PACKAGES = ("torch", "torchserve", "numpy", "pillow", "pyyaml", "orjson")


@pytest.fixture(scope="module")
def stock_python() -> Path:
    """The Python of an environment that holds only what DESIGN names; made once, kept in .venv."""
    folder = Path(sys.prefix) / "stock-torchserve"
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    wanted = [f"{name}=={version(name)}" for name in PACKAGES]
    if not (ready.is_file() and ready.read_text() == str(wanted)):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-qq", *wanted], check=True)
        ready.write_text(str(wanted))
    return python


@pytest.fixture(scope="module")
def stock_server(
    stock_python: Path, trained_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """TorchServe as its own documentation starts it, but for ports and temp directory."""
    port = free_port()
    run_dir = tmp_path_factory.mktemp("stock") / f"simplenet-0/{port}"
    (run_dir / "tmp").mkdir(parents=True)
    create_archive(trained_checkpoint, export_path=run_dir / "store")
    (run_dir / "config.properties").write_text(
        f"inference_address=http://127.0.0.1:{port}\nmanagement_address=http://127.0.0.1:{port + 1}\n"
        f"metrics_address=http://127.0.0.1:{port + 2}\ngrpc_inference_port={port + 3}\n"
        f"grpc_management_port={port + 4}\ndefault_workers_per_model=1\n"
    )
    temp = Path("/tmp") / f"stock-{port}"  # socket paths are limited to some 100 characters
    temp.mkdir()
    environment = {**os.environ, "TEMP": str(temp), "TMPDIR": str(temp), "JAVA_HOME": str(find_java().parents[1])}
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        [
            *(str(stock_python.with_name("torchserve")), "--start", "--foreground", "--disable-token-auth", "--ncs"),
            *("--model-store", "store", "--models", "simplenet.mar", "--ts-config", "config.properties"),
        ],
        cwd=run_dir, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    running = Running(port, "", trained_checkpoint)
    try:
        deadline = time.monotonic() + 90
        while not _ready(running):
            assert time.monotonic() < deadline, (run_dir / "logs" / "model_log.log").read_text()
            time.sleep(0.1)
        yield running
    finally:
        members = processes.family(psutil.Process(process.pid))[1:]
        for member in members:
            processes.terminate(member)
        processes.wait_for_all(members, timeout_s=30)
        process.wait(timeout=30)
        shutil.rmtree(temp, ignore_errors=True)
        assert processes_of(port) == []


def _ready(running: Running) -> bool:
    try:
        (model,) = requests.get(f"{running.management}/models/simplenet", timeout=5).json()
    except (requests.RequestException, ValueError):
        return False
    return [worker["status"] for worker in model["workers"]] == ["READY"]


def test_stock_torchserve_gives_the_same_answers(stock_server, stock_python, digits, tmp_path):
    installed = subprocess.run(
        [str(stock_python), "-c", "import simplenet"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert re.search("No module named 'simplenet'", installed.stderr)
    rows = digits[0][:200]
    with torch.inference_mode():
        expected = torch.softmax(load_model_for_inference(stock_server.checkpoint)(rows), dim=1).numpy()
    body = {"instances": rows.tolist(), "parameters": {"top_k": 10}}
    as_json = requests.post(stock_server.predictions, json=body, timeout=60)
    assert as_json.status_code == 200, as_json.text
    found = [
        [one["probability"] for one in sorted(prediction["top_k"], key=lambda one: one["index"])]
        for prediction in as_json.json()["predictions"]
    ]
    assert np.abs(np.array(found) - expected).max() < 1e-5
    headers = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
    as_raw = requests.post(stock_server.predictions, data=rows.numpy().tobytes(), headers=headers, timeout=60)
    assert np.abs(np.frombuffer(as_raw.content, "<f4").reshape(-1, 10) - expected).max() < 1e-5


def test_stock_torchserve_refuses_bad_json_as_well(stock_server):
    for body, found in (
        (b'{"instances": [[1, 2]]}', "found 2"),
        (b'{"instances": [[1,', "JSON"),
        (b"[" * 5000, "JSON"),
    ):
        answer = requests.post(
            stock_server.predictions, data=body, headers={"Content-Type": "application/json"}, timeout=30
        )
        assert answer.status_code == 400
        assert found in answer.json()["message"]
