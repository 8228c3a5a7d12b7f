"""Checkpoints from which training goes on exactly as if it had never stopped."""

import copy
import random
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from simplenet.checkpoint.file import checked_device, read_checkpoint, write_checkpoint
from simplenet.checkpoint.keys import (
    EPOCH,
    LOSS,
    OPTIMIZER_STATE_DICT,
    RNG_STATE,
    SCALER_STATE_DICT,
    SCHEDULER_STATE_DICT,
    require,
)
from simplenet.checkpoint.lineage import remember_origin
from simplenet.checkpoint.load import verified_parts
from simplenet.checkpoint.safetensors_file import SUFFIX
from simplenet.checkpoint.save import inference_checkpoint, plain
from simplenet.checkpoint.state_dict import check_weights
from simplenet.errors import CheckpointError, NotACheckpointError
from simplenet.model import bare_network
from simplenet.paths import PathLike
from simplenet.text import quoted

# What a parameter group holds besides the optimizer's settings: the parameters, and what schedulers keep there.
_NOT_SETTINGS = frozenset(
    ("params", "param_names", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr")
)


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
    """Save all that training needs to go on exactly, and all that serving needs besides.

    Args:
        model: the network in training.
        optimizer: its optimizer.
        epoch: the number of the epoch that is done.
        loss: of that epoch.
        filepath: where to; written whole or not at all; not a .safetensors, which has no place for all of it.
        scheduler: a learning-rate scheduler, if there is one.
        scaler: an AMP GradScaler, if there is one.
        generator: the random generator that orders the data, if it is not torch's own.
        **inference: `metadata`, `model_config`, `classes`, `golden_inputs`, as `save_for_inference` takes them.

    Raises:
        CheckpointError: metadata cannot be stored, or the network answers NaN.
        ConfigError: the network carries no model_config and none is given.
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
        checkpoint[SCALER_STATE_DICT] = plain(scaler.state_dict(), SCALER_STATE_DICT)
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
    """Restore network, optimizer and random state; go on with epoch + 1.

    Args:
        model: of the saved architecture; filled in place and moved to `device`, set to train mode.
        optimizer: over its parameters; its state goes to their device.
        filepath: from `save_checkpoint`.
        device: where to train.
        scheduler: filled in place; the checkpoint must have one.
        scaler: filled in place; the checkpoint must have one.
        generator: filled in place; the checkpoint must have one.

    Returns:
        model, optimizer, the epoch that was done, and its loss.

    Raises:
        CheckpointError: one of its kinds; nothing was changed then.
    """
    source = str(filepath)
    device = checked_device(device, source)
    checkpoint = read_checkpoint(filepath)
    state_dict, _, metadata = verified_parts(checkpoint, source)
    wanted = {SCHEDULER_STATE_DICT: scheduler, SCALER_STATE_DICT: scaler}
    helpers = {key: helper for key, helper in wanted.items() if helper is not None}
    optimizer_state, epoch, loss, random_state, *states = require(
        checkpoint, source, OPTIMIZER_STATE_DICT, EPOCH, LOSS, RNG_STATE, *helpers, saved_with="save_checkpoint"
    )
    if type(epoch) is not int or type(loss) is not float:
        raise NotACheckpointError(f"{source}: expected epoch and loss as numbers, found {epoch!r} and {loss!r}")
    network = bare_network(model)
    check_weights(network, state_dict, source)
    _check_optimizer(optimizer, optimizer_state, source)
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


def rng_state(generator: torch.Generator | None = None) -> dict[str, Any]:
    """The random state of Python, NumPy, torch and CUDA, and of the data's own generator, as plain data."""
    numpy_state: Any = np.random.get_state(legacy=False)
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": {
            "bit_generator": str(numpy_state["bit_generator"]),
            "key": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
            "pos": int(numpy_state["state"]["pos"]),
            "has_gauss": int(numpy_state["has_gauss"]),
            "gauss": float(numpy_state["gauss"]),
        },
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if generator is not None:
        state["generator"] = generator.get_state()
    return state


def set_rng_state(state: Mapping[str, Any], generator: torch.Generator | None, source: str) -> None:
    """Put back what `rng_state` returned; CUDA's only where there are as many GPUs.

    Raises:
        CheckpointError: a part is missing or of another kind; nothing was changed then.
    """
    before = rng_state(generator)
    try:
        _set_rng_state(state, generator)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        _set_rng_state(before, generator)
        raise CheckpointError(f"{source}: {RNG_STATE}: cannot be restored: {type(error).__name__}: {error}") from error


def _set_rng_state(state: Mapping[str, Any], generator: torch.Generator | None) -> None:
    random.setstate(state["python"])
    numpy_state = dict(state["numpy"])
    words = {"key": numpy_state.pop("key").numpy().astype(np.uint32), "pos": numpy_state.pop("pos")}
    np.random.set_state({**numpy_state, "state": words})
    torch.set_rng_state(state["torch"].cpu())
    if len(state.get("cuda", ())) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    if generator is not None:
        generator.set_state(state["generator"].cpu())


def _stateful(state: Any) -> Any:
    """A scheduler's state without what cannot be stored: functions, which it makes anew."""
    return {name: value for name, value in state.items() if not callable(value)}


def _fill(helper: Any, state: Any, key: str, source: str) -> None:
    """Give a scheduler or a scaler its state; that of a disabled scaler (there was no GPU) is empty and says nothing.

    Raises:
        CheckpointError: it cannot be its state.
    """
    if state == {}:
        return
    try:
        helper.load_state_dict(state)
    except Exception as error:  # each kind of scheduler refuses in its own way
        raise CheckpointError(f"{source}: {key}: cannot be restored: {type(error).__name__}: {error}") from error


def _check_optimizer(optimizer: torch.optim.Optimizer, state: Any, source: str) -> None:
    where = f"{source}: {OPTIMIZER_STATE_DICT}"
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    if not isinstance(groups, list) or not all(isinstance(group, dict) and "params" in group for group in groups):
        raise CheckpointError(f"{where}: expected param_groups, found none")
    if not isinstance(state.get("state"), dict):
        raise CheckpointError(f"{where}: expected state, found none")
    expected = [len(group["params"]) for group in optimizer.param_groups]
    found = [len(group["params"]) for group in groups]
    if expected != found:
        raise CheckpointError(
            f"{where}: expected groups of {expected} parameters, found {found}; "
            "build the optimizer over the same parameters as when it was saved"
        )
    settings, saved = set(optimizer.defaults), set().union(*groups) - _NOT_SETTINGS
    if settings - saved and saved - settings:  # one alone: another version of torch
        raise CheckpointError(
            f"{where}: of another kind than {type(optimizer).__name__}: "
            f"it has {quoted(sorted(saved - settings))} and lacks {quoted(sorted(settings - saved))}"
        )
