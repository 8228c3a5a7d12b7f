"""One training run from data to checkpoint: fresh, resumed, or started from another network's backbone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simplenet.checkpoint.file import read_checkpoint
from simplenet.checkpoint.keys import CLASSES, METADATA, OPTIMIZER_STATE_DICT
from simplenet.checkpoint.lineage import remember_origin
from simplenet.checkpoint.resume import load_checkpoint_for_training, save_checkpoint
from simplenet.checkpoint.save import save_for_inference
from simplenet.checkpoint.state_dict import load_weights
from simplenet.checkpoint.transfer import head_name, transfer_backbone
from simplenet.checkpoint.weights import read_weights
from simplenet.content_hash import content_hash
from simplenet.errors import CheckpointError, DataError
from simplenet.golden import GOLDEN_SAMPLES
from simplenet.model import SimpleNet, build_model, model_config_of
from simplenet.paths import PathLike
from simplenet.training.data import load_split
from simplenet.training.trainer import Progress, Trainer, accuracy

TRAINING = "training"  # the key of the metadata that keeps what a run was asked for


@dataclass(frozen=True)
class Settings:
    """What a run is asked for."""

    epochs: int = 10
    batch_size: int = 64
    hidden_size: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Data:
    """A labelled data set: rows `(n, input_size)` float32, labels `(n,)` int64, and the label of each class."""

    name: str
    rows: torch.Tensor
    labels: torch.Tensor
    test_rows: torch.Tensor
    test_labels: torch.Tensor
    classes: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the training rows and labels."""
        return content_hash({"rows": self.rows, "labels": self.labels})


def load_data(folder: Path, classes: Sequence[str] = (), relabel: Sequence[str] = ()) -> Data:
    """Read an IDX folder.

    Args:
        folder: with the four files of MNIST's names.
        classes: the label of each class; 0, 1, 2 … by default.
        relabel: another label for each class of the files, where several may share one: the classes become these.

    Raises:
        DataError: a file is missing or damaged, or the names do not fit the labels.
    """
    rows, labels = load_split(folder, "train")
    test_rows, test_labels = load_split(folder, "test")
    if rows.shape[1] != test_rows.shape[1]:
        raise DataError(f"{folder}: expected test images of {rows.shape[1]} pixels, found {test_rows.shape[1]}")
    found = int(max(labels.max(), test_labels.max())) + 1
    names = relabel or classes or [str(index) for index in range(found)]
    if len(names) < found:
        raise DataError(f"classes: expected a label for each of the {found} classes in {folder}, found {len(names)}")
    if relabel:
        unique = list(dict.fromkeys(relabel))
        mapping = torch.tensor([unique.index(name) for name in relabel])
        labels, test_labels, names = mapping[labels], mapping[test_labels], unique
    return Data(folder.name, rows, labels, test_rows, test_labels, tuple(names))


class Run:
    """A trainer and its data.

    Args:
        trainer: at the epoch to go on from.
        data: what it trains on.
        seed: of the run.
        note: how the run began, in one line.
    """

    def __init__(self, trainer: Trainer, data: Data, seed: int, note: str = "") -> None:
        self.trainer, self.data, self.seed, self.note = trainer, data, seed, note

    def train(
        self,
        on_batch: Callable[[Progress], None] | None = None,
        *,
        folder: Path | None = None,
        save_every: int = 1,
        keep: int = 3,
    ) -> float:
        """Train the epochs that are left.

        Args:
            on_batch: called after each batch.
            folder: for a checkpoint `epoch-<number>.pt` to resume from, every `save_every` epochs and at the end.
            save_every: epochs between two checkpoints.
            keep: how many of the last ones stay, beside the most accurate.

        Returns:
            The held-out accuracy, 0..1.
        """
        trainer = self.trainer
        while trainer.epoch < trainer.epochs:
            trainer.run_epoch(on_batch)
            if folder is not None and (trainer.epoch % save_every == 0 or trainer.epoch == trainer.epochs):
                self.save_for_resuming(folder / f"epoch-{trainer.epoch:04d}.pt")
                prune(folder, keep)
        return self.accuracy()

    def accuracy(self) -> float:
        """The share of held-out rows that the network gets right, 0..1."""
        return accuracy(self.trainer.model, self.data.test_rows, self.data.test_labels)

    @property
    def hidden_size(self) -> int:
        """Units of the network's hidden layer."""
        return int(model_config_of(self.trainer.model)["hidden_size"])

    def save_for_resuming(self, path: PathLike) -> None:
        """Save all that `resume` needs."""
        trainer = self.trainer
        save_checkpoint(
            trainer.model, trainer.optimizer, trainer.epoch, trainer.loss, path,
            scheduler=trainer.scheduler, generator=trainer.generator, **self._for_inference(),
        )  # fmt: skip

    def save(self, path: PathLike) -> None:
        """Save the network for serving."""
        save_for_inference(self.trainer.model, path, **self._for_inference())

    def _for_inference(self) -> dict[str, Any]:
        trainer = self.trainer
        metadata = {
            "dataset": self.data.name,
            "accuracy": self.accuracy(),
            "epochs": trainer.epoch,
            "loss": trainer.loss,
            TRAINING: {
                "epochs": trainer.epochs,
                "batch_size": trainer.batch_size,
                "seed": self.seed,
                "data_hash": self.data.fingerprint,
            },
        }
        golden_inputs = self.data.test_rows[:GOLDEN_SAMPLES]
        return {"metadata": metadata, "classes": self.data.classes, "golden_inputs": golden_inputs}


def fresh(data: Data, settings: Settings) -> Run:
    """Start from random weights."""
    torch.manual_seed(settings.seed)
    model = SimpleNet(data.rows.shape[1], settings.hidden_size, len(data.classes))
    return _run(model, data, settings)


def resume(data: Data, path: PathLike, epochs: int | None = None) -> Run:
    """Go on from a checkpoint, or from the one in an archive.

    With the state of a training run in it, the run goes on exactly as if it had never stopped. With weights alone it
    starts anew from them.

    Args:
        data: the same that it was trained on.
        path: the checkpoint.
        epochs: in all; by default as many as the run was asked for (with weights alone: 10 more).

    Raises:
        CheckpointError: it cannot be read, or was trained on other data.
    """
    source = str(path)
    weights = read_weights(path)
    asked = weights.metadata.get(TRAINING)
    asked = asked if isinstance(asked, dict) else {}
    model = build_model(weights.model_config or {})
    if stored := weights.checkpoint.get(CLASSES):
        data = _with_classes(data, stored, source)
    if OPTIMIZER_STATE_DICT not in weights.checkpoint:
        load_weights(model, weights.state_dict, source, assign=False)
        remember_origin(model, weights.metadata)
        settings = Settings(epochs=epochs or Settings.epochs, seed=asked.get("seed", 0))
        return _run(model, data, settings, f"{source} has no optimizer state: starting anew from its weights")
    if asked.get("data_hash", data.fingerprint) != data.fingerprint:
        raise CheckpointError(f"{source}: was trained on other data; to start from its weights give --from")
    planned = asked.get("epochs", Settings.epochs)
    settings = Settings(
        epochs=planned, batch_size=asked.get("batch_size", Settings.batch_size), seed=asked.get("seed", 0)
    )
    run = _run(model, data, settings)
    trainer = run.trainer
    _, _, trainer.epoch, trainer.loss = load_checkpoint_for_training(
        model, trainer.optimizer, path, scheduler=trainer.scheduler, generator=trainer.generator
    )
    if epochs is not None and epochs != planned:
        if epochs <= trainer.epoch:
            raise CheckpointError(f"{source}: --epochs: expected more than the {trainer.epoch} done, found {epochs}")
        trainer.extend(epochs)
    run.note = f"resuming {source} after epoch {trainer.epoch} of {trainer.epochs}"
    return run


def transfer(data: Data, path: PathLike, settings: Settings, freeze: bool) -> Run:
    """Start from another network's backbone, with a new head for these classes."""
    torch.manual_seed(settings.seed)
    source = read_weights(path)
    hidden_size = (source.model_config or {}).get("hidden_size", settings.hidden_size)
    model = SimpleNet(data.rows.shape[1], hidden_size, len(data.classes))
    report = transfer_backbone(model, path, freeze)
    return _run(model, data, settings, f"from {path}: {report}")


def random_backbone(data: Data, settings: Settings, hidden_size: int) -> Run:
    """What a transfer is compared with: the same, but on a backbone of random weights, frozen."""
    torch.manual_seed(settings.seed)
    model = SimpleNet(data.rows.shape[1], hidden_size, len(data.classes))
    head = f"{head_name(model)}."
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(head))
    return _run(model, data, settings)


def prune(folder: Path, keep: int) -> None:
    """Of the checkpoints `epoch-<number>.pt`, remove all but the last `keep` and the most accurate."""
    files = sorted(folder.glob("epoch-*.pt"))
    best = max(files, key=_accuracy, default=None)
    for file in files[: -keep or None]:
        if file != best:
            file.unlink()


def _accuracy(file: Path) -> float:
    metadata = read_checkpoint(file, mapped=True).get(METADATA) or {}
    return float(metadata.get("accuracy", 0.0))


def _run(model: nn.Module, data: Data, settings: Settings, note: str = "") -> Run:
    trainer = Trainer(
        model, data.rows, data.labels, epochs=settings.epochs, batch_size=settings.batch_size, seed=settings.seed
    )
    return Run(trainer, data, settings.seed, note)


def _with_classes(data: Data, stored: Sequence[str], source: str) -> Data:
    """The data under the checkpoint's labels, unless labels were given."""
    if len(stored) != len(data.classes):
        raise CheckpointError(
            f"{source}: expected {len(stored)} classes as it was trained on, found {len(data.classes)}; "
            "for other classes give --from"
        )
    numbered = tuple(str(index) for index in range(len(stored)))
    return replace(data, classes=tuple(stored)) if data.classes == numbered else data
