"""A small network and its checkpoint, for the files that need no others."""

from pathlib import Path

import pytest
import torch

from simplenet.checkpoint import save_for_inference
from simplenet.model import SimpleNet


@pytest.fixture
def model() -> SimpleNet:
    torch.manual_seed(0)
    return SimpleNet(6, 4, 3)


@pytest.fixture
def saved(model: SimpleNet, tmp_path: Path) -> Path:
    save_for_inference(model, tmp_path / "first.pt", {"accuracy": 0.9}, classes=["a", "b", "c"])
    return tmp_path / "first.pt"
