"""What a step of folding finds: parts that become one weight, or a weight that cannot be computed from them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Fold:
    """The stored `parts` become the weight `target`."""

    target: str
    parts: tuple[str, ...]
    weight: torch.Tensor
    what: str


@dataclass(frozen=True)
class Unfolded:
    """A weight that stays in parts, and what to do about it."""

    name: str
    remedy: str


Outcome = Fold | Unfolded


def is_floating(tensor: object) -> bool:
    """Whether it is a dense tensor of real floating-point numbers.

    Example:
        >>> is_floating(torch.zeros(2)), is_floating(torch.zeros(2, dtype=torch.int8))
        (True, False)
    """
    return isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.layout == torch.strided


def replaced(weights: Mapping[str, torch.Tensor], folds: Iterable[Fold]) -> dict[str, torch.Tensor]:
    """The weights with the parts of each fold replaced by its target, in the place of the first part.

    Example:
        >>> fold = Fold("w", ("w_a", "w_b"), torch.ones(1), "sum")
        >>> replaced({"w_a": torch.zeros(1), "w_b": torch.ones(1), "c": torch.zeros(1)}, [fold])
        {'w': tensor([1.]), 'c': tensor([0.])}
    """
    fold_of = {part: fold for fold in folds for part in fold.parts}
    result: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if name in fold_of:
            result[fold_of[name].target] = fold_of[name].weight
        else:
            result[name] = tensor
    return result
