"""Networks as users write them: in a module of their own, which knows nothing of SimpleNet Serve."""

from pathlib import Path

from torch import nn

from simplenet.model_file import load_network

# The layers of PyTorch's MNIST example, https://github.com/pytorch/examples/blob/main/mnist/main.py
MNIST_NET = """
import torch
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(64 * 12 * 12, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = functional.relu(self.conv1(x))
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = torch.flatten(self.dropout1(x), 1)
        x = self.dropout2(functional.relu(self.fc1(x)))
        return functional.log_softmax(self.fc2(x), dim=1)
"""
MNIST_SHAPE = (1, 28, 28)
MNIST_STEPS = {"mean": [0.1307], "std": [0.3081]}

# Colour pictures of any height and width, with a BatchNorm, probabilities out.
COLOUR_NET = """
from torch import nn


class ColourNet(nn.Module):
    def __init__(self, channels=4):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 3), nn.Softmax(dim=1),
        )

    def forward(self, x):
        return self.layers(x)
"""


def written(folder: Path, text: str, class_name: str) -> tuple[Path, type[nn.Module]]:
    """The module `net.py` of a user, and the class in it."""
    module = folder / "net.py"
    module.write_text(text)
    return module, load_network(module, class_name)
