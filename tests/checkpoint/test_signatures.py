"""A script written from the signatures in the design alone runs every function against real files."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from s3_faults import FaultyProxy
from s3_fixtures import BUCKET

import simplenet

SIGNATURES = {
    "save_checkpoint": "(model, optimizer, epoch, loss, filepath)",
    "load_checkpoint_for_training": "(model, optimizer, filepath, device='cpu')",
    "save_for_inference": "(model, filepath, metadata=None)",
    "load_model_for_inference": "(filepath, device='cpu')",
    "smart_load": "(filepath)",
    "load_pretrained_backbone": "(model, pretrained_path, freeze=True)",
    "safe_load_model": "(model_class, filepath, device='cpu', strict=True)",
    "save_versioned_model": "(model, metadata, save_dir='models')",
    "save_to_s3": "(model, bucket_name, key)",
    "load_from_s3": "(bucket_name, key, device='cpu')",
}

START = """
import os
import torch
from torch import nn, optim
from simplenet import (
    SimpleNet, load_checkpoint_for_training, load_from_s3, load_model_for_inference, load_pretrained_backbone,
    safe_load_model, save_checkpoint, save_for_inference, save_to_s3, save_versioned_model, smart_load,
)

model = SimpleNet(input_size=784, hidden_size=256, num_classes=10)
optimizer = optim.Adam(model.parameters(), lr=0.001)
rows, labels = torch.rand(16, 784), torch.randint(10, (16,))
loss = nn.functional.cross_entropy(model(rows), labels)
loss.backward()
optimizer.step()
fresh = SimpleNet()
fresh_optimizer = optim.Adam(fresh.parameters(), lr=0.001)
other = SimpleNet(784, 256, 2)
"""

POSITIONAL = """
save_checkpoint(model, optimizer, 5, loss.item(), "checkpoint.pth")
resumed, resumed_optimizer, epoch, last_loss = load_checkpoint_for_training(
    fresh, fresh_optimizer, "checkpoint.pth", "cpu"
)
save_for_inference(model, "model.pt", {"accuracy": 0.98, "dataset": "MNIST"})
served = load_model_for_inference("model.pt", "cpu")
smart, device = smart_load("model.pt")
backbone = load_pretrained_backbone(other, "model.pt", True)
safe = safe_load_model(SimpleNet, "model.pt", "cpu", True)
versioned = save_versioned_model(model, {"accuracy": 0.98}, "versions")
save_to_s3(model, BUCKET, "models/simplenet.pt")
stored = load_from_s3(BUCKET, "models/simplenet.pt", "cpu")
"""

BY_KEYWORD = """
save_checkpoint(model=model, optimizer=optimizer, epoch=5, loss=loss.item(), filepath="checkpoint.pth")
resumed, resumed_optimizer, epoch, last_loss = load_checkpoint_for_training(
    model=fresh, optimizer=fresh_optimizer, filepath="checkpoint.pth", device="cpu"
)
save_for_inference(model=model, filepath="model.pt", metadata={"accuracy": 0.98, "dataset": "MNIST"})
served = load_model_for_inference(filepath="model.pt", device="cpu")
smart, device = smart_load(filepath="model.pt")
backbone = load_pretrained_backbone(model=other, pretrained_path="model.pt", freeze=True)
safe = safe_load_model(model_class=SimpleNet, filepath="model.pt", device="cpu", strict=True)
versioned = save_versioned_model(model=model, metadata={"accuracy": 0.98}, save_dir="versions")
save_to_s3(model=model, bucket_name=BUCKET, key="models/simplenet.pt")
stored = load_from_s3(bucket_name=BUCKET, key="models/simplenet.pt", device="cpu")
"""

DEFAULTS = """
save_checkpoint(model, optimizer, 5, loss, "checkpoint.pth")
resumed, resumed_optimizer, epoch, last_loss = load_checkpoint_for_training(fresh, fresh_optimizer, "checkpoint.pth")
save_for_inference(model, "model.pt")
served = load_model_for_inference("model.pt")
smart, device = smart_load("model.pt")
backbone = load_pretrained_backbone(other, "model.pt")
safe = safe_load_model(SimpleNet, "model.pt")
versioned = save_versioned_model(model, {"accuracy": 0.98})
save_to_s3(model, BUCKET, "models/simplenet.pt")
stored = load_from_s3(BUCKET, "models/simplenet.pt")
"""

END = """
assert resumed is fresh and resumed_optimizer is fresh_optimizer and resumed.training
assert (epoch, last_loss) == (5, loss.item())
for loaded in (resumed, served, smart.cpu(), safe, load_model_for_inference(versioned), stored):
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
with torch.inference_mode():
    assert torch.equal(served(rows), model(rows)) and not served.training
assert backbone is other and torch.equal(other.fc1.weight, model.fc1.weight) and other.fc2.out_features == 2
assert [name for name, parameter in other.named_parameters() if parameter.requires_grad] == ["fc2.weight", "fc2.bias"]
assert next(smart.parameters()).device.type == "cpu" and isinstance(device, torch.device)
assert os.path.basename(versioned).startswith("model_") and versioned.endswith(".pt")
print("done", *sorted(os.listdir()))
"""


@pytest.mark.parametrize(
    ("calls", "folder"),
    [(POSITIONAL, "versions"), (BY_KEYWORD, "versions"), (DEFAULTS, "models")],
    ids=["positional", "by keyword", "defaults"],
)
def test_a_script_written_from_the_signatures_runs(s3: FaultyProxy, tmp_path: Path, calls: str, folder: str) -> None:
    work = tmp_path / "work"
    work.mkdir()
    script = f"{START}BUCKET = {BUCKET!r}\n{calls}{END}"
    environment = {**os.environ, "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == ["done", "checkpoint.pth", "model.pt", folder]


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_function_begins_with_the_designs_parameters_and_the_rest_is_by_keyword(name: str) -> None:
    parameters = list(inspect.signature(getattr(simplenet, name)).parameters.values())
    shared = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    shown = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in shared]
    assert f"({', '.join(shown)})" == SIGNATURES[name]
    assert all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters[len(shared) :])
    assert name in simplenet.__all__
