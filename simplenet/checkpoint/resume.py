"""Checkpoints from which training resumes exactly as if it had never stopped."""

import copy
import logging
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simplenet.checkpoint.entries import plain_data, required_entries
from simplenet.checkpoint.file import checked_device, read_checkpoint, write_checkpoint
from simplenet.checkpoint.keys import (
    CONTENT_HASH,
    EPOCH,
    LOSS,
    METADATA,
    OPTIMIZER_STATE_DICT,
    RNG_STATE,
    SCALER_STATE_DICT,
    SCHEDULER_STATE_DICT,
)
from simplenet.checkpoint.lineage import remember_origin
from simplenet.checkpoint.optimizer_state import check_optimizer_state
from simplenet.checkpoint.rng import rng_state, set_rng_state
from simplenet.checkpoint.safetensors_file import SUFFIX
from simplenet.checkpoint.save import inference_checkpoint
from simplenet.checkpoint.state_dict import check_weights
from simplenet.checkpoint.verify import verified_parts
from simplenet.checkpoint.weights import weights_in
from simplenet.errors import CheckpointError, NotACheckpointError
from simplenet.model import bare_network
from simplenet.paths import PathLike
from simplenet.text import shortened

logger = logging.getLogger(__name__)

_REQUIRED = (OPTIMIZER_STATE_DICT, EPOCH, LOSS)  # also of another program's file


def save_checkpoint(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    loss: float | torch.Tensor,
    filepath: PathLike,
    *,
    scheduler: Any = None,
    scaler: Any = None,
    generator: torch.Generator | None = None,
    **inference: Any,
) -> None:
    """Save everything that training needs to resume exactly, and everything that serving needs.

    Args:
        model: the network in training.
        optimizer: its optimizer.
        epoch: the number of the last complete epoch.
        loss: of that epoch.
        filepath: written whole or not at all; not a .safetensors, which cannot hold the training state.
        scheduler: a learning-rate scheduler, if any.
        scaler: an AMP GradScaler, if any.
        generator: the random generator that orders the data, if it is not torch's own.
        **inference: `metadata`, `model_config`, `classes`, `golden_inputs`, `input_shape`, `preprocessing`, `output`,
            as `save_for_inference` takes them.

    Raises:
        CheckpointError: metadata cannot be stored, or the network's logits are NaN.
        ConfigError: the network has no model_config and none is given.

    Example:
        >>> from simplenet import SimpleNet
        >>> model = SimpleNet(4, 8, 3)
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> save_checkpoint(model, optimizer, epoch=3, loss=0.25, filepath="epoch-0003.pt")
    """
    if Path(filepath).suffix == SUFFIX:
        raise CheckpointError(f"{filepath}: a {SUFFIX} file cannot keep the state of a training; save it as .pt")
    checkpoint = inference_checkpoint(model, **inference)
    checkpoint[OPTIMIZER_STATE_DICT] = optimizer.state_dict()
    checkpoint[EPOCH] = int(epoch)
    checkpoint[LOSS] = float(loss.detach() if isinstance(loss, torch.Tensor) else loss)
    checkpoint[RNG_STATE] = rng_state(generator)
    if scheduler is not None:
        checkpoint[SCHEDULER_STATE_DICT] = _stateful(scheduler.state_dict())
    if scaler is not None:
        checkpoint[SCALER_STATE_DICT] = plain_data(scaler.state_dict(), SCALER_STATE_DICT)
    write_checkpoint(checkpoint, filepath)


def load_checkpoint_for_training(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    filepath: PathLike,
    device: str | torch.device = "cpu",
    *,
    scheduler: Any = None,
    scaler: Any = None,
    generator: torch.Generator | None = None,
) -> tuple[nn.Module, torch.optim.Optimizer, int, float]:
    """Restore network, optimizer and random state; training continues with epoch + 1.

    Args:
        model: of the saved architecture; loaded in place, moved to `device` and set to train mode.
        optimizer: over its parameters; its state moves to their device.
        filepath: from `save_checkpoint`, or another program's with `optimizer_state_dict`, `epoch` and `loss`.
        device: for training.
        scheduler: restored in place; the checkpoint must have one.
        scaler: restored in place; the checkpoint must have one.
        generator: restored in place; the checkpoint must have one.

    Returns:
        model, optimizer, the last complete epoch, and its loss.

    Raises:
        CheckpointError: one of its subclasses; nothing is changed.

    Example:
        >>> from simplenet import SimpleNet
        >>> model = SimpleNet(4, 8, 3)
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> save_checkpoint(model, optimizer, epoch=3, loss=0.25, filepath="epoch-0003.pt")
        >>> model, optimizer, epoch, loss = load_checkpoint_for_training(model, optimizer, "epoch-0003.pt")
        >>> epoch, loss
        (3, 0.25)
    """
    source = str(filepath)
    device = checked_device(device, source)
    checkpoint = read_checkpoint(filepath)
    network = bare_network(model)
    state_dict, metadata = _weights(checkpoint, network, source)
    wanted = {SCHEDULER_STATE_DICT: scheduler, SCALER_STATE_DICT: scaler}
    helpers = {key: helper for key, helper in wanted.items() if helper is not None}
    checkpoint = _with_random_state(checkpoint, metadata, source, generator, helpers)
    optimizer_state, epoch, loss, random_state, *states = required_entries(
        checkpoint, source, *_REQUIRED, RNG_STATE, *helpers, saved_with=save_checkpoint.__name__
    )
    epoch, loss = _number(epoch), _number(loss)
    if type(epoch) is not int or type(loss) is not float:
        raise NotACheckpointError(
            f"{source}: expected epoch and loss as numbers, found {shortened(epoch)} and {shortened(loss)}"
        )
    check_weights(network, state_dict, source)
    check_optimizer_state(optimizer, optimizer_state, source)
    with ExitStack() as undo:
        undo.callback(set_rng_state, rng_state(generator), generator, source)
        set_rng_state(random_state, generator, source)
        for (key, helper), state in zip(helpers.items(), states, strict=True):
            undo.callback(_fill, helper, copy.deepcopy(helper.state_dict()), key, source)
            _fill(helper, state, key, source)
        network.load_state_dict(state_dict)
        model.to(device).train()
        optimizer.load_state_dict(optimizer_state)
        undo.pop_all()  # nothing failed
    remember_origin(model, metadata)
    return model, optimizer, epoch, loss


def _weights(checkpoint: dict[str, Any], network: nn.Module, source: str) -> tuple[Any, dict[str, Any]]:
    """The state_dict and the metadata of a checkpoint: verified, or found and named as the network's."""
    metadata = checkpoint.get(METADATA)
    if isinstance(metadata, dict) and CONTENT_HASH in metadata:
        state_dict, _, metadata = verified_parts(checkpoint, source)
        return state_dict, metadata
    weights = weights_in(checkpoint, source, wanted=network.state_dict(), network=type(network).__name__)
    for finding in weights.unusual:
        logger.warning("%s: %s", source, finding)
    return weights.state_dict, weights.metadata


def _with_random_state(
    checkpoint: dict[str, Any],
    metadata: Mapping[str, Any],
    source: str,
    generator: torch.Generator | None,
    helpers: Iterable[str],
) -> dict[str, Any]:
    """The checkpoint, with the present random state if it is another program's that has none.

    Raises:
        NotACheckpointError: something else is missing: an entry that the file lacks must not be among those found.
    """
    if CONTENT_HASH in metadata or RNG_STATE in checkpoint:
        return checkpoint
    required_entries(checkpoint, source, *_REQUIRED, *helpers, saved_with=save_checkpoint.__name__)
    logger.warning("%s: no %s: training goes on with other random numbers", source, RNG_STATE)
    return {**checkpoint, RNG_STATE: rng_state(generator)}


def _number(value: Any) -> Any:
    """A NumPy or torch scalar, as other programs store it, as a plain number."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def _stateful(state: Any) -> Any:
    """A scheduler's state without its functions, which cannot be stored; a new scheduler has its own."""
    return {name: value for name, value in state.items() if not callable(value)}


def _fill(helper: Any, state: Any, key: str, source: str) -> None:
    """Restore a scheduler or a scaler; the empty state of a disabled scaler (there was no GPU) is ignored.

    Raises:
        CheckpointError: the state does not fit.
    """
    if state == {}:
        return
    try:
        helper.load_state_dict(state)
    except Exception as error:  # each kind of scheduler refuses in its own way
        raise CheckpointError(f"{source}: {key}: cannot be restored: {type(error).__name__}: {error}") from error
