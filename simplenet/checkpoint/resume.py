"""Checkpoints from which training goes on exactly as if it had never stopped."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from simplenet.checkpoint.file import PathLike, read_checkpoint, write_checkpoint
from simplenet.checkpoint.inference import check_weights, inference_checkpoint, plain, require, verified_parts
from simplenet.checkpoint.keys import (
    EPOCH,
    LOSS,
    OPTIMIZER_STATE_DICT,
    RNG_STATE,
    SCALER_STATE_DICT,
    SCHEDULER_STATE_DICT,
)
from simplenet.checkpoint.lineage import remember_origin
from simplenet.errors import CheckpointError
from simplenet.model import bare_network


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
        filepath: where to; written whole or not at all.
        scheduler: a learning-rate scheduler, if there is one.
        scaler: an AMP GradScaler, if there is one.
        generator: the random generator that orders the data, if it is not torch's own.
        **inference: `metadata`, `model_config`, `classes`, `golden_inputs`, as `save_for_inference` takes them.

    Raises:
        CheckpointError: metadata cannot be stored, or the network answers NaN.
        ConfigError: the network carries no model_config and none is given.
    """
    checkpoint = inference_checkpoint(model, **inference)
    checkpoint[OPTIMIZER_STATE_DICT] = optimizer.state_dict()
    checkpoint[EPOCH] = int(epoch)
    checkpoint[LOSS] = float(loss)
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
        scheduler: filled in place, if the checkpoint has one.
        scaler: filled in place, if the checkpoint has one.
        generator: filled in place, if the checkpoint has one.

    Returns:
        model, optimizer, the epoch that was done, and its loss.

    Raises:
        CheckpointError: one of its kinds; nothing was changed then.
    """
    source = str(filepath)
    checkpoint = read_checkpoint(filepath)
    state_dict, _, metadata = verified_parts(checkpoint, source)
    optimizer_state, epoch, loss, random_state = require(
        checkpoint, source, OPTIMIZER_STATE_DICT, EPOCH, LOSS, RNG_STATE
    )
    wanted = [
        (what, key)
        for what, key in ((scheduler, SCHEDULER_STATE_DICT), (scaler, SCALER_STATE_DICT))
        if what is not None
    ]
    states = require(checkpoint, source, *(key for _, key in wanted))
    check_weights(bare_network(model), state_dict, source)
    _check_optimizer(optimizer, optimizer_state, source)
    bare_network(model).load_state_dict(state_dict)
    model.to(device).train()
    optimizer.load_state_dict(optimizer_state)
    for (what, _), state in zip(wanted, states, strict=True):
        what.load_state_dict(state)
    set_rng_state(random_state, generator, source)
    remember_origin(model, metadata)
    return model, optimizer, int(epoch), float(loss)


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
        CheckpointError: a part is missing or of another kind.
    """
    try:
        random.setstate(state["python"])
        numpy_state = dict(state["numpy"])
        words = {"key": numpy_state.pop("key").numpy().astype(np.uint32), "pos": numpy_state.pop("pos")}
        np.random.set_state({**numpy_state, "state": words})
        torch.set_rng_state(state["torch"].cpu())
        if len(state.get("cuda", ())) == torch.cuda.device_count() > 0:
            torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
        if generator is not None:
            generator.set_state(state["generator"].cpu())
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{source}: {RNG_STATE}: cannot be restored: {type(error).__name__}: {error}") from error


def _stateful(state: Any) -> Any:
    """A scheduler's state without what cannot be stored: functions, which it makes anew."""
    return {name: value for name, value in state.items() if not callable(value)}


def _check_optimizer(optimizer: torch.optim.Optimizer, state: Any, source: str) -> None:
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    if not isinstance(groups, list):
        raise CheckpointError(f"{source}: {OPTIMIZER_STATE_DICT}: expected param_groups, found none")
    expected = [len(group["params"]) for group in optimizer.param_groups]
    found = [len(group["params"]) for group in groups]
    if expected != found:
        raise CheckpointError(
            f"{source}: {OPTIMIZER_STATE_DICT}: expected groups of {expected} parameters, found {found}; "
            "build the optimizer over the same parameters as when it was saved"
        )
