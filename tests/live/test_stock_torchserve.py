"""An archive made here on a stock TorchServe 0.12: nothing of ours installed, its own settings and JSON decoding."""

import os
import re
import shutil
import subprocess
import time
import venv
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import COMMAND_TIMEOUT_S, Running, free_port, processes_of

from simplenet import create_archive, load_model_for_inference
from simplenet.server import processes
from simplenet.server.torchserve import find_java

PACKAGES = ("torch", "torchserve", "numpy", "pillow", "pyyaml", "orjson")


def needed_by(names: Iterable[str]) -> dict[str, Distribution]:
    """These packages and all that they require, by name."""
    packages: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in packages:
            continue
        packages[name] = distribution(name)
        requirements = [Requirement(line) for line in packages[name].requires or ()]
        waiting += [one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    return packages


@pytest.fixture(scope="module")
def stock_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds only what DESIGN names.

    The packages are links to those of the environment that runs the tests: installing torch again takes half a minute.
    """
    folder = tmp_path_factory.mktemp("stock-environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    show_folder = "import sysconfig; print(sysconfig.get_path('purelib'))"
    target = subprocess.run([python, "-c", show_folder], check=True, capture_output=True, text=True).stdout.strip()
    for package in needed_by(PACKAGES).values():
        for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            Path(target, name).symlink_to(Path(package.locate_file(name)))
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
            *(str(stock_python), "-c", "from ts.model_server import start; start()"),  # what `torchserve` runs
            *("--start", "--foreground", "--disable-token-auth", "--ncs"),
            *("--model-store", "store", "--models", "simplenet.mar", "--ts-config", "config.properties"),
        ],
        cwd=run_dir, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    running = Running(port, "", trained_checkpoint)
    try:
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
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
