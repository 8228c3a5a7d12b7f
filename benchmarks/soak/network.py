"""The network that is served: two sets of weights that answer differently; marked rows make it slow or make it fail."""

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import torch

from simplenet import create_archive, save_for_inference
from simplenet.manifest import MANIFEST
from simplenet.model_file import load_network

INPUTS, CLASSES = 784, 10
POISON, SLOW = -7.0, -8.0  # the first number of a row that makes the network raise, or wait
SLOW_S = 3.0
WEIGHTS = ("A", "B")
MODULE = f"""
import time

import torch
from torch import nn


class SoakNet(nn.Module):
    def __init__(self, input_size, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(input_size, 64), nn.ReLU(), nn.Linear(64, num_classes))

    def forward(self, rows):
        if (rows[:, 0] == {POISON}).any():
            raise ValueError("a poison row")
        if (rows[:, 0] == {SLOW}).any():
            time.sleep({SLOW_S})
        return self.layers(rows)
"""


@dataclass(frozen=True)
class Networks:
    """Both networks, and an archive of each."""

    models: dict[str, torch.nn.Module]
    archives: dict[str, Path]

    @torch.inference_mode()
    def probabilities(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What each of them must answer: `(n, 10)` float32 by the name of the weights.

        The layers alone compute it, so that a marked row does not wait or raise here too.
        """
        inputs = torch.from_numpy(rows)
        return {name: torch.softmax(model.layers(inputs), dim=1).numpy() for name, model in self.models.items()}


def networks(folder: Path) -> Networks:
    """Make, save and pack both networks, as a user would."""
    module = folder / "soak_net.py"
    module.write_text(MODULE)
    network = load_network(module, "SoakNet")
    config = {"input_size": INPUTS, "num_classes": CLASSES}
    models, archives = {}, {}
    for seed, name in enumerate(WEIGHTS):
        torch.manual_seed(seed)
        models[name] = network(**config).eval()
        save_for_inference(models[name], folder / f"{name}.pt", model_config=config)
        archives[name] = create_archive(
            folder / f"{name}.pt", export_path=folder / name, model_file=module, model_class="SoakNet"
        )
    return Networks(models, archives)


def with_version(archive: Path, version: str, target: Path) -> Path:
    """A copy of an archive as another version of its model."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename == MANIFEST:
                manifest = orjson.loads(content)
                manifest["model"]["modelVersion"] = version
                content = orjson.dumps(manifest)
            new.writestr(entry, content)
    return target


def broken(archive: Path, target: Path) -> Path:
    """A copy of an archive that ends in its middle."""
    shutil.copy(archive, target)
    with target.open("r+b") as file:
        file.truncate(target.stat().st_size // 2)
    return target
