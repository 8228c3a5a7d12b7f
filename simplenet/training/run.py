"""One training run from data to checkpoint: fresh, resumed, or started from another network's backbone."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import torch
from torch import nn

from simplenet.checkpoint.keys import CLASSES, OPTIMIZER_STATE_DICT
from simplenet.checkpoint.lineage import remember_origin
from simplenet.checkpoint.resume import load_checkpoint_for_training, save_checkpoint
from simplenet.checkpoint.save import save_for_inference
from simplenet.checkpoint.state_dict import load_weights
from simplenet.checkpoint.transfer import head_name, transfer_backbone
from simplenet.checkpoint.weights import read_weights
from simplenet.errors import CheckpointError
from simplenet.golden import GOLDEN_SAMPLES
from simplenet.model import ModelConfig, SimpleNet, build_model, model_config_of
from simplenet.paths import PathLike
from simplenet.training.checkpoints import RunCheckpoints, SavePlan, claimed
from simplenet.training.data import LabelledData
from simplenet.training.hyperparameters import Hyperparameters, TrainingRecord
from simplenet.training.trainer import Progress, Trainer, accuracy

DEFAULTS = Hyperparameters()


class Run:
    """A trainer and its data; created by `fresh`, `resume` or `transfer`.

    Args:
        trainer: its next epoch is the first that the run trains.
        data: to train on.
        seed: of the run.
        note: how the run began, in one line; empty for a fresh one.
        id: tells this run's checkpoints from those of others; a new one by default.
    """

    def __init__(self, trainer: Trainer, data: LabelledData, seed: int, note: str = "", id: str = "") -> None:
        self.trainer, self.data, self.seed, self.note = trainer, data, seed, note
        self.id = id or uuid4().hex

    def checkpoints(self, plan: SavePlan) -> AbstractContextManager[RunCheckpoints]:
        """Reserve the plan's folder for this run until the block ends; call it before `train`.

        Raises:
            CheckpointError: the folder holds checkpoints of another run, or another run is saving there.
        """
        return claimed(plan, self.id, self.trainer.epoch, self.data.fingerprint)

    def train(
        self, on_batch: Callable[[Progress], None] | None = None, checkpoints: RunCheckpoints | None = None
    ) -> float:
        """Train the remaining epochs.

        Args:
            on_batch: called after each batch.
            checkpoints: where to save the run while it trains, so that it can be resumed; by default it is not saved.

        Returns:
            The held-out accuracy, 0..1.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from simplenet.paths import resource
            >>> from simplenet.training.data import load_data
            >>> run = fresh(load_data(resource("data/mnist")), Hyperparameters(epochs=3, hidden_size=8))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     with run.checkpoints(SavePlan(Path(folder), save_every=2)) as checkpoints:
            ...         accuracy = run.train(checkpoints=checkpoints)
            ...     sorted(file.name for file in Path(folder).iterdir())
            ['epoch-0002.pt', 'epoch-0003.pt']
        """
        trainer = self.trainer
        while trainer.epoch < trainer.epochs:
            trainer.run_epoch(on_batch)
            if checkpoints is not None and checkpoints.is_due(trainer.epoch, trainer.epochs):
                checkpoints.save(trainer.epoch, self.save_for_resuming)
        return self.accuracy()

    def accuracy(self) -> float:
        """The share of held-out rows that the network classifies correctly, 0..1."""
        return accuracy(self.trainer.model, self.data.test_rows, self.data.test_labels)

    @property
    def hidden_size(self) -> int:
        """Units of the network's first hidden layer."""
        return self.hidden_sizes[0]

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Units of each of the network's hidden layers."""
        return ModelConfig.from_dict(model_config_of(self.trainer.model)).sizes[1:-1]

    def save_for_resuming(self, path: PathLike) -> float:
        """Save everything that `resume` needs, and return the held-out accuracy, 0..1, that the file records."""
        trainer, held_out = self.trainer, self.accuracy()
        save_checkpoint(
            trainer.model, trainer.optimizer, trainer.epoch, trainer.loss, path,
            scheduler=trainer.scheduler, generator=trainer.generator, **self._for_inference(held_out),
        )  # fmt: skip
        return held_out

    def save(self, path: PathLike) -> None:
        """Save the network for serving."""
        save_for_inference(self.trainer.model, path, **self._for_inference(self.accuracy()))

    def _for_inference(self, held_out: float) -> dict[str, Any]:
        """The arguments that `save_for_inference` and `save_checkpoint` share, besides the network."""
        trainer = self.trainer
        record = TrainingRecord(trainer.epochs, trainer.batch_size, self.seed, self.data.fingerprint, self.id)
        metadata = {
            "dataset": self.data.name,
            "accuracy": held_out,
            "epochs": trainer.epoch,
            "loss": trainer.loss,
            **record.as_metadata(),
        }
        golden_inputs = self.data.test_rows[:GOLDEN_SAMPLES]
        return {"metadata": metadata, "classes": self.data.classes, "golden_inputs": golden_inputs}


def fresh(data: LabelledData, hyperparameters: Hyperparameters = DEFAULTS) -> Run:
    """Start from random weights."""
    torch.manual_seed(hyperparameters.seed)
    model = _simple_net(data, hyperparameters.hidden_sizes or [hyperparameters.hidden_size])
    return _run(model, data, hyperparameters)


def resume(data: LabelledData, path: PathLike, epochs: int | None = None) -> Run:
    """Continue from a checkpoint, or from the one in an archive.

    A checkpoint with training state continues the same run, with the same id, as if it had never stopped. Weights
    alone start a new run.

    Args:
        data: the data set that the checkpoint was trained on.
        path: the checkpoint.
        epochs: in all; by default the number planned for the run (from weights alone, the default of a new run).

    Raises:
        CheckpointError: the file cannot be read, was trained on other data, or is already trained for `epochs`.
    """
    source = str(path)
    weights = read_weights(path)
    record = TrainingRecord.of(weights.metadata)
    model = build_model(weights.model_config or {})
    if stored := weights.checkpoint.get(CLASSES):
        data = _with_classes(data, stored, source)
    if OPTIMIZER_STATE_DICT not in weights.checkpoint:
        load_weights(model, weights.state_dict, source, assign=False)
        remember_origin(model, weights.metadata)
        hyperparameters = Hyperparameters(epochs=epochs or DEFAULTS.epochs, seed=record.seed)
        return _run(model, data, hyperparameters, f"{source} has no optimizer state: a new run starts from its weights")
    if record.data_hash not in ("", data.fingerprint):
        raise CheckpointError(f"{source}: was trained on other data; to start from its weights give --from")
    hyperparameters = Hyperparameters(epochs=record.epochs, batch_size=record.batch_size, seed=record.seed)
    run = _run(model, data, hyperparameters, id=record.run)
    trainer = run.trainer
    _, _, trainer.epoch, trainer.loss = load_checkpoint_for_training(
        model, trainer.optimizer, path, scheduler=trainer.scheduler, generator=trainer.generator
    )
    if epochs is not None and epochs != record.epochs:
        if epochs <= trainer.epoch:
            raise CheckpointError(f"{source}: --epochs: expected more than the {trainer.epoch} done, found {epochs}")
        trainer.extend(epochs)
    run.note = f"resuming {source} after epoch {trainer.epoch} of {trainer.epochs}"
    return run


def transfer(data: LabelledData, path: PathLike, hyperparameters: Hyperparameters, freeze: bool) -> Run:
    """Start from another network's backbone, with a new head for the classes of this data."""
    torch.manual_seed(hyperparameters.seed)
    source = read_weights(path)
    config = source.model_config or {}
    hidden_sizes = config.get("hidden_sizes") or [config.get("hidden_size", hyperparameters.hidden_size)]
    model = _simple_net(data, hidden_sizes)
    report = transfer_backbone(model, path, freeze)
    return _run(model, data, hyperparameters, f"from {path}: {report}")


def random_backbone(data: LabelledData, hyperparameters: Hyperparameters, hidden: int | Sequence[int]) -> Run:
    """Start from a frozen backbone of random weights, `hidden` units in each layer: the baseline for a transfer."""
    torch.manual_seed(hyperparameters.seed)
    model = _simple_net(data, [hidden] if isinstance(hidden, int) else hidden)
    head = f"{head_name(model)}."
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(head))
    return _run(model, data, hyperparameters)


def _simple_net(data: LabelledData, hidden_sizes: Sequence[int]) -> SimpleNet:
    return SimpleNet(data.rows.shape[1], num_classes=len(data.classes), hidden_sizes=hidden_sizes)


def _run(model: nn.Module, data: LabelledData, hyperparameters: Hyperparameters, note: str = "", id: str = "") -> Run:
    chosen = hyperparameters
    trainer = Trainer(
        model, data.rows, data.labels, epochs=chosen.epochs, batch_size=chosen.batch_size, seed=chosen.seed
    )
    return Run(trainer, data, chosen.seed, note, id)


def _with_classes(data: LabelledData, stored: Sequence[str], source: str) -> LabelledData:
    """The data under the checkpoint's class names, unless the data has its own names."""
    if len(stored) != len(data.classes):
        raise CheckpointError(
            f"{source}: expected the {len(stored)} classes that it was trained on, found {len(data.classes)}; "
            "for other classes give --from"
        )
    numbered = tuple(str(index) for index in range(len(stored)))
    return replace(data, classes=tuple(stored)) if data.classes == numbered else data
