"""Check that an optimizer can continue from a checkpoint: same kind, same number of parameters."""

from collections.abc import Mapping
from typing import Any

import torch

from simplenet.checkpoint.keys import OPTIMIZER_STATE_DICT
from simplenet.errors import CheckpointError
from simplenet.text import quoted

# Keys of a parameter group that are not settings of the optimizer: the parameters, and keys that schedulers add.
_NOT_SETTINGS = frozenset(
    ("params", "param_names", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr")
)


def check_optimizer_state(optimizer: torch.optim.Optimizer, state: Any, source: str) -> None:
    """Check that `optimizer.load_state_dict(state)` will succeed and keep its meaning; nothing is changed.

    Raises:
        CheckpointError: the state is damaged, or belongs to another kind of optimizer or to other parameters.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> saved = torch.optim.Adam([weight]).state_dict()
        >>> check_optimizer_state(torch.optim.Adam([weight]), saved, "epoch.pt")
    """
    where = f"{source}: {OPTIMIZER_STATE_DICT}"
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    if not isinstance(groups, list) or not all(isinstance(group, dict) and "params" in group for group in groups):
        raise CheckpointError(f"{where}: expected param_groups, found none")
    if not isinstance(state.get("state"), dict):
        raise CheckpointError(f"{where}: expected state, found none")
    expected = [len(group["params"]) for group in optimizer.param_groups]
    saved = [len(group["params"]) for group in groups]
    if expected != saved:
        raise CheckpointError(
            f"{where}: expected groups of {expected} parameters, found {saved}; "
            "build the optimizer over the same parameters as when it was saved"
        )
    settings, saved_settings = set(optimizer.defaults), set().union(*groups) - _NOT_SETTINGS
    lacking, unknown = settings - saved_settings, saved_settings - settings
    if lacking and unknown:  # only one of them: another version of torch
        raise CheckpointError(
            f"{where}: of another kind than {type(optimizer).__name__}: "
            f"it has {quoted(sorted(unknown))} and lacks {quoted(sorted(lacking))}"
        )
