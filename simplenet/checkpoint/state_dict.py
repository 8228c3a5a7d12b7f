"""Find a state_dict in a checkpoint, check that it fits a network, load it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from simplenet.checkpoint.keys import MODEL_STATE_DICT
from simplenet.errors import CheckpointError, KeyMismatchError, NotACheckpointError, ShapeMismatchError
from simplenet.text import quoted

_PLACES = (MODEL_STATE_DICT, "state_dict", "model")  # where checkpoints keep their state_dict


@dataclass(frozen=True)
class LoadReport:
    """What a lenient load did with each weight, by name.

    Example:
        >>> print(load_matching(nn.Linear(4, 3), {"weight": torch.zeros(3, 4)}, "weights.pt"))
        loaded 'weight'; missing 'bias'; unexpected none; of another shape none
    """

    loaded: tuple[str, ...]  # in the file and the network, in the same shape
    missing: tuple[str, ...]  # in the network, not in the file: unchanged
    unexpected: tuple[str, ...]  # in the file, not in the network
    mismatched: tuple[str, ...]  # in both, of different shapes: unchanged

    def __str__(self) -> str:
        return (
            f"loaded {quoted(self.loaded)}; missing {quoted(self.missing)}; unexpected {quoted(self.unexpected)}; "
            f"of another shape {quoted(self.mismatched)}"
        )


def find_state_dict(checkpoint: Mapping[str, Any], source: str) -> dict[str, torch.Tensor]:
    """The checkpoint's state_dict, or the checkpoint itself if it holds only tensors.

    Raises:
        NotACheckpointError: there is no state_dict.
    """
    for candidate in (*(checkpoint.get(key) for key in _PLACES), checkpoint):
        if isinstance(candidate, Mapping) and candidate and all(map(_is_weight, candidate.items())):
            return dict(candidate)
    raise NotACheckpointError(
        f"{source}: expected {quoted(_PLACES)} or a plain state_dict, found {quoted(sorted(map(str, checkpoint)))}"
    )


def load_weights(model: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str, *, assign: bool = True) -> None:
    """Load the weights into the network; there must be one for each of its names and no others.

    Args:
        model: the network, loaded in place.
        state_dict: its weights.
        source: their name in messages.
        assign: make them the network's parameters, in their own dtype and without a copy; otherwise copy them into
            the existing parameters (which an optimizer may hold).

    Raises:
        KeyMismatchError: names are missing or unexpected.
        ShapeMismatchError: a weight has another shape.
        CheckpointError: the dtypes of a weight do not convert (float and integer).
    """
    check_weights(model, state_dict, source)
    model.load_state_dict(dict(state_dict), strict=True, assign=assign)


def load_matching(model: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str) -> LoadReport:
    """Copy the weights that match the network's in name and shape; report the others."""
    wanted = model.state_dict()
    matching = {n: t for n, t in state_dict.items() if n in wanted and wanted[n].shape == t.shape}
    check_weights(model, {**wanted, **matching}, source)
    model.load_state_dict(matching, strict=False)
    return LoadReport(
        loaded=tuple(matching),
        missing=tuple(name for name in wanted if name not in state_dict),
        unexpected=tuple(name for name in state_dict if name not in wanted),
        mismatched=tuple(name for name in state_dict if name in wanted and name not in matching),
    )


def check_weights(model: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str) -> None:
    """Check that `load_weights` will succeed; nothing is changed. Raises the same errors."""
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in state_dict]
    unexpected = [name for name in state_dict if name not in wanted]
    if missing or unexpected:
        raise KeyMismatchError(
            f"{source}: the weights do not fit {type(model).__name__}: "
            f"missing {quoted(missing)}; unexpected {quoted(unexpected)}"
        )
    for name, tensor in wanted.items():
        stored = state_dict[name]
        if tensor.shape != stored.shape:
            config = fitting_config(state_dict)
            advice = f"; the model_config that fits is {config}" if config else ""
            raise ShapeMismatchError(
                f"{source}: {name}: expected shape {tuple(tensor.shape)}, found {tuple(stored.shape)}{advice}"
            )
        if tensor.dtype != stored.dtype and not (tensor.is_floating_point() and stored.is_floating_point()):
            raise CheckpointError(f"{source}: {name}: expected {tensor.dtype}, found {stored.dtype}")


def fitting_config(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any] | None:
    """The model_config of the SimpleNet that these weights fit, from their shapes; None if they fit none.

    Example:
        >>> from simplenet.model import SimpleNet
        >>> fitting_config(SimpleNet(4, 8, 3).state_dict())
        {'input_size': 4, 'hidden_size': 8, 'num_classes': 3}
        >>> fitting_config(SimpleNet(4, hidden_sizes=(16, 8), num_classes=3).state_dict())
        {'input_size': 4, 'hidden_sizes': [16, 8], 'num_classes': 3}
    """
    layers = [f"fc{number}" for number in range(1, len(state_dict) // 2 + 1)]
    if len(layers) < 2 or set(state_dict) != {f"{name}.{part}" for name in layers for part in ("weight", "bias")}:
        return None
    sizes = list(state_dict["fc1.weight"].shape[1:])
    for name in layers:
        weight, bias = state_dict[f"{name}.weight"], state_dict[f"{name}.bias"]
        if weight.ndim != 2 or weight.shape[1] != sizes[-1] or bias.shape != weight.shape[:1]:
            return None
        sizes.append(weight.shape[0])
    input_size, *hidden, num_classes = sizes
    named = {"hidden_size": hidden[0]} if len(hidden) == 1 else {"hidden_sizes": hidden}
    return {"input_size": input_size, **named, "num_classes": num_classes}


def _is_weight(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], torch.Tensor)
