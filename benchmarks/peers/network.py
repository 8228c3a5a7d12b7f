"""The network as every peer runs it: plain torch, the same weights, one thread."""

import io
import os

import numpy as np
import torch
from torch import nn

LABELS = [str(digit) for digit in range(10)]


class SimpleNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 256)
        self.fc2 = nn.Linear(256, 10)

    def forward(self, rows):
        return self.fc2(torch.relu(self.fc1(rows)))


def load():
    """The network with the weights that the driver exported."""
    torch.set_num_threads(1)
    model = SimpleNet()
    model.load_state_dict(torch.load(os.environ["BENCH_WEIGHTS"], weights_only=True))
    return model.eval()


@torch.inference_mode()
def probabilities(model, rows):
    """`(n, 784)` float32 to `(n, 10)` float32."""
    return torch.softmax(model(torch.from_numpy(rows)), dim=1).numpy()


def predictions(values):
    """The JSON response's entry for each row of probabilities."""
    best = values.argmax(axis=1).tolist()
    return [
        {"label": LABELS[index], "index": index, "probability": row[index]}
        for index, row in zip(best, values.tolist(), strict=True)
    ]


def raw_rows(body):
    return np.frombuffer(bytearray(body), dtype="<f4").reshape(-1, 784)


def json_rows(instances):
    return np.asarray(instances, dtype=np.float32)


def png_row(body):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(body)).convert("L"), dtype=np.float32).reshape(1, 784) / 255
