"""Train a SimpleNet: seeded, repeatable, reporting its progress."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from simplenet.errors import DataError
from simplenet.training.hyperparameters import Hyperparameters

LEARNING_RATE = 4e-3  # the peak of the one-cycle schedule
WEIGHT_DECAY = 0.01
SHIFT = 1  # pixels by which a batch of images may be moved, either way: about 2 % more accuracy on MNIST


@dataclass(frozen=True)
class Progress:
    """What is known after a batch: `epoch` from 1, `loss` and `accuracy` of this epoch so far."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    accuracy: float


class Trainer:
    """AdamW on a one-cycle schedule (Smith and Topin, https://arxiv.org/abs/1708.07120), cross-entropy loss.

    Args:
        model: trained in place; frozen parameters stay as they are.
        rows: `(n, input_size)` float32; shifted a little at random where they are square images.
        labels: `(n,)` int64, each below the number of classes.
        epochs: the length of the schedule.
        batch_size: rows per step.
        seed: fixes the order of the rows and the shifts; the same seed gives the same weights on the same machine.

    Raises:
        DataError: rows or labels do not fit the network.
    """

    def __init__(
        self,
        model: nn.Module,
        rows: torch.Tensor,
        labels: torch.Tensor,
        *,
        epochs: int = Hyperparameters.epochs,
        batch_size: int = Hyperparameters.batch_size,
        seed: int = Hyperparameters.seed,
    ) -> None:
        _check(model, rows, labels)
        self.model, self.rows, self.labels = model, rows, labels
        self.epochs, self.batch_size = epochs, batch_size
        self.batches = math.ceil(len(rows) / batch_size)
        self.generator = torch.Generator().manual_seed(seed)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        self.scheduler = self._one_cycle(epochs)
        self.epoch = 0  # epochs trained
        self.loss = math.nan  # mean loss of the last epoch

    def extend(self, epochs: int) -> None:
        """Train up to `epochs` in all, on a new cycle that starts after the last trained epoch."""
        self.epochs = epochs
        self.scheduler = self._one_cycle(epochs - self.epoch)

    def run_epoch(self, on_batch: Callable[[Progress], None] | None = None) -> None:
        """Train one epoch; `on_batch` is called after each batch."""
        self.model.train()
        total_loss, correct, seen = 0.0, 0, 0
        order = torch.randperm(len(self.rows), generator=self.generator)
        for number, batch in enumerate(order.split(self.batch_size), start=1):
            labels = self.labels[batch]
            logits = self.model(self._shifted(self.rows[batch]))
            loss = functional.cross_entropy(logits, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            seen += len(batch)
            total_loss += loss.item() * len(batch)
            correct += int((logits.argmax(1) == labels).sum())
            if on_batch is not None:
                on_batch(Progress(self.epoch + 1, self.epochs, number, self.batches, total_loss / seen, correct / seen))
        self.epoch += 1
        self.loss = total_loss / seen
        self.model.eval()

    def _one_cycle(self, epochs: int) -> torch.optim.lr_scheduler.OneCycleLR:
        steps = max(2, epochs * self.batches)
        return torch.optim.lr_scheduler.OneCycleLR(self.optimizer, LEARNING_RATE, total_steps=steps)

    def _shifted(self, rows: torch.Tensor) -> torch.Tensor:
        """The batch moved by up to SHIFT pixels each way, `(batch, input_size)`; unchanged unless it holds images."""
        side = math.isqrt(rows.shape[1])
        if side * side != rows.shape[1] or side <= 4 * SHIFT:
            return rows
        down, right = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=self.generator).tolist()
        return rows.view(-1, side, side).roll((down, right), dims=(1, 2)).reshape(rows.shape)


def accuracy(model: nn.Module, rows: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of rows whose largest logit is that of their label, 0..1."""
    model.eval()
    with torch.inference_mode():
        return int((model(rows).argmax(1) == labels).sum()) / len(labels)


def _check(model: nn.Module, rows: torch.Tensor, labels: torch.Tensor) -> None:
    if not len(rows):
        raise DataError("rows: expected at least one, found none")
    with torch.inference_mode():
        try:
            classes = model(rows[:1]).shape[1]
        except RuntimeError as error:
            raise DataError(f"rows of {rows.shape[1]} numbers do not fit {type(model).__name__}: {error}") from error
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(f"labels: expected 0 to {classes - 1}, found {int(labels.min())} to {int(labels.max())}")
