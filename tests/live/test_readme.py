"""A stranger's first minutes: clone into an empty folder, then every command of the README and docs/, in order."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from own_networks import MNIST_NET
from support import free_port, processes_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CHECKPOINTS = (ROOT / "docs" / "checkpoints.md").read_text()
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALL_TIMEOUT_S = 900
MY_NET = """
import torch
from torch import nn

class MyNet(nn.Module):
    def __init__(self, input_size, channels, num_classes):
        super().__init__()
        self.convolution = nn.Conv2d(1, channels, 3, stride=2)
        self.head = nn.Linear(channels * 13 * 13, num_classes)

    def forward(self, x):
        return self.head(torch.relu(self.convolution(x.view(-1, 1, 28, 28))).flatten(1))
"""

Run = Callable[..., str]


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """The README's ports, and the free ones that stand for them here."""
    first = free_port()
    while (second := free_port()) == first:
        pass
    return {"8080": first, "8090": second}


@pytest.fixture(scope="module")
def bucket(s3_port: int, others: Any) -> dict[str, str]:
    """The environment in which the README's bucket is there."""
    others.create_bucket(Bucket="models")
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3_port}",
        "AWS_ACCESS_KEY_ID": "reader",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int], bucket: dict[str, str]) -> Iterator[Run]:
    """Run a command of the README in a fresh clone; what it printed comes back."""
    clone = tmp_path_factory.mktemp("stranger") / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    (clone / "my_net.py").write_text(MY_NET)
    (clone / "net.py").write_text(MNIST_NET)
    bin_folder = clone / ".venv" / "bin"
    assert not bin_folder.exists()
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environment.update(bucket, PATH=f"{bin_folder}:{environment['PATH']}")

    def execute(language: str, text: str) -> str:
        script = text.replace("scripts/serve\n", "scripts/serve --port 8080 --detach\n")
        script = re.sub("|".join(ports), lambda port: str(ports[port[0]]), script)
        done = subprocess.run(
            ["bash", "-ec", script] if language == "sh" else [bin_folder / "python", "-c", script],
            cwd=clone, env=environment, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    yield execute
    for port in ports.values():
        subprocess.run([bin_folder / "simplenet", "stop", "--port", str(port)], capture_output=True, check=False)
        assert processes_of(port) == []


def test_one_command_in_an_empty_folder_serves_and_its_curl_line_answers(run):
    printed = run("sh", "scripts/serve\n")
    curl = next(line for line in printed.splitlines() if line.startswith("curl "))
    assert '"label":"7"' in run("sh", f"{curl} --silent --fail")


def test_every_command_in_the_readme_runs(run):
    blocks = [block for block in BLOCK.findall(README) if block[1] not in ("scripts/serve\n", "scripts/test\n")]
    assert len(blocks) > 8
    outputs = {text: run(language, text) for language, text in blocks}
    digit, refused = (output for text, output in outputs.items() if text.startswith("curl"))
    assert '"label":"7"' in digit
    assert "expected a row of 784 numbers or 28x28, found 3" in refused


def test_every_command_about_checkpoints_runs(run):
    blocks = BLOCK.findall(CHECKPOINTS)
    assert len(blocks) > 8
    for language, text in blocks:
        run(language, text)


def test_the_readmes_command_for_ones_own_network_makes_an_archive(run):
    examples, own = re.findall(r"^    (scripts/archive .*--model-class.*)$", README, re.MULTILINE)
    assert "my_net.mar" in run("sh", own)
    run("python", "import torch; from net import Net; torch.save(Net().state_dict(), 'mnist_cnn.pt')")
    assert "simplenet.mar" in run("sh", f"{examples} --export-path models/examples")
