"""Fold what is computed from several stored tensors into the one weight that a plain network has.

Only plain arithmetic is folded: weight_norm, spectral_norm (as in eval mode), pruning masks, and LoRA of a known scale.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from simplenet.checkpoint.adoption.low_rank import low_rank_folds, peft_names
from simplenet.checkpoint.adoption.parts import Fold, Outcome, Unfolded, is_floating, replaced

_PARAMETRIZED = re.compile(r"(?P<module>.*?)parametrizations\.(?P<name>[^.]+)\.(?P<part>.+)")
_ALIGNED = 0.9  # cosine of u and W·v along the right dimension of a spectral_norm; random vectors are far below


@dataclass(frozen=True)
class Folded:
    """The weights of the plain network, a line for each that was folded, and a line for each that was not."""

    state_dict: dict[str, torch.Tensor]
    notes: tuple[str, ...]
    unfolded: tuple[str, ...]


def fold(state_dict: Mapping[str, torch.Tensor], lora_alpha: float | None = None) -> Folded:
    """The state_dict with every recognised reparametrization computed, in float64, in the dtype that was stored.

    Args:
        state_dict: the weights by name, as `dtypes.usable` returns them; not changed. A weight that is not
            reparametrized stays the same object.
        lora_alpha: the numerator of LoRA's scale alpha / r; None if it is unknown, and then LoRA is not folded.

    Returns:
        The folded weights, each in the place of its first part. What cannot be folded keeps its names, and `unfolded`
        says for each what to do.

    Example:
        >>> stored = {"fc.weight_g": torch.full((1, 1), 10.0), "fc.weight_v": torch.tensor([[3.0, 4.0]])}
        >>> folded = fold(stored)
        >>> folded.state_dict, folded.notes
        ({'fc.weight': tensor([[6., 8.]])}, ('fc.weight: weight_norm folded',))
    """
    weights = dict(state_dict)
    notes: list[str] = []
    unfolded: list[str] = []
    steps: tuple[Callable[[Mapping[str, torch.Tensor]], Iterable[Outcome]], ...] = (
        _pruning_folds,
        _spectral_norm_folds,
        _weight_norm_folds,
        _parametrization_folds,
        lambda weights: low_rank_folds(weights, lora_alpha),
    )
    for step in steps:
        outcomes = list(step(weights))
        folds = [outcome for outcome in outcomes if isinstance(outcome, Fold)]
        weights = replaced(weights, folds)
        notes += [f"{one.target}: {one.what} folded" for one in folds]
        unfolded += [f"{one.name}: {one.remedy}" for one in outcomes if isinstance(one, Unfolded)]
    return Folded(weights if unfolded else peft_names(weights, state_dict), tuple(notes), tuple(unfolded))


def _stems(weights: Mapping[str, torch.Tensor], suffix: str, *others: str) -> Iterable[tuple[str, list[torch.Tensor]]]:
    """Each name of a weight that is stored as `suffix` and `others` of it, and not itself, with those tensors."""
    for name in weights:
        stem = name.removesuffix(suffix)
        parts = [stem + other for other in (suffix, *others)]
        is_weight = any(word in stem.rpartition(".")[2] for word in ("weight", "bias"))
        if stem != name and is_weight and stem not in weights and all(part in weights for part in parts):
            tensors = [weights[part] for part in parts]
            if all(map(is_floating, tensors[:1])):
                yield stem, tensors


def _pruning_folds(weights: Mapping[str, torch.Tensor]) -> Iterable[Outcome]:
    for stem, (original, mask) in _stems(weights, "_orig", "_mask"):
        if original.shape == mask.shape and f"{stem}_u" not in weights:
            product = (original.detach().double() * mask.detach().double()).to(original.dtype)
            yield Fold(stem, (f"{stem}_orig", f"{stem}_mask"), product, "pruning mask")


def _weight_norm_folds(weights: Mapping[str, torch.Tensor]) -> Iterable[Outcome]:
    for stem, (magnitude, direction) in _stems(weights, "_g", "_v"):
        if (weight := _weight_norm(magnitude, direction)) is not None:
            yield Fold(stem, (f"{stem}_g", f"{stem}_v"), weight, "weight_norm")


def _spectral_norm_folds(weights: Mapping[str, torch.Tensor]) -> Iterable[Outcome]:
    for stem, (original, u, v) in _stems(weights, "_orig", "_u", "_v"):
        if f"{stem}_mask" not in weights and (found := _spectral_norm(original, u, v)):
            yield Fold(stem, tuple(f"{stem}_{part}" for part in ("orig", "u", "v")), *found)


def _parametrization_folds(weights: Mapping[str, torch.Tensor]) -> Iterable[Outcome]:
    """What torch.nn.utils.parametrize stores: the originals, and the buffers of each parametrization by its number."""
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for name in weights:
        if match := _PARAMETRIZED.fullmatch(name):
            groups.setdefault((match["module"], match["name"]), {})[match["part"]] = name
    for (module, name), parts in groups.items():
        tensors = {part: weights[stored] for part, stored in parts.items()}
        target = module + name
        found = _computed(tensors) if target not in weights else None
        if found:
            yield Fold(target, tuple(parts.values()), *found)
        else:
            yield Unfolded(
                target,
                "a parametrization that is not folded here; call torch.nn.utils.parametrize.remove_parametrizations("
                f'{"model." + module.rstrip(".") if module else "model"}, "{name}") and save the state_dict again',
            )


def _computed(parts: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, str] | None:
    if set(parts) == {"original0", "original1"}:
        weight = _weight_norm(parts["original0"], parts["original1"])
        return None if weight is None else (weight, "weight_norm")
    if set(parts) == {"original", "0._u", "0._v"}:
        return _spectral_norm(parts["original"], parts["0._u"], parts["0._v"])
    return None


def _weight_norm(magnitude: torch.Tensor, direction: torch.Tensor) -> torch.Tensor | None:
    """`g · v / ‖v‖`, the norm over each dimension in which g has size 1; None if g does not fit v."""
    if not (is_floating(magnitude) and is_floating(direction)):
        return None
    long = [(size, full) for size, full in zip(magnitude.shape, direction.shape, strict=False) if size != 1]
    if magnitude.ndim and (magnitude.ndim != direction.ndim or len(long) > 1 or any(a != b for a, b in long)):
        return None
    v = direction.detach().double()
    summed = [d for d in range(v.ndim) if not magnitude.ndim or magnitude.shape[d] == 1]
    norm = v.square().sum(summed, keepdim=True).sqrt() if summed else v.abs()
    return (v * (magnitude.detach().double() / norm)).to(direction.dtype)


def _spectral_norm(original: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, str] | None:
    """`W / (u · W v)` and what it is called; None if u and v do not fit W.

    torch makes W a matrix whose rows are dimension 0, or 1 for a transposed convolution. The sizes of u and v say
    which; where both fit, the trained vectors do.
    """
    if not all(map(is_floating, (original, left, right))) or original.ndim < 2 or left.ndim != 1 or right.ndim != 1:
        return None
    weight, u, v = (tensor.detach().double() for tensor in (original, left, right))
    fitting = [d for d in range(weight.ndim) if weight.shape[d] == len(u) and weight.numel() == len(u) * len(v)]
    if not fitting:
        return None
    images = {d: weight.movedim(d, 0).flatten(1) @ v for d in fitting}
    aligned = {d: float(u @ image / (u.norm() * image.norm())) for d, image in images.items()}
    dim = fitting[0] if aligned[fitting[0]] > _ALIGNED else max(fitting, key=lambda d: aligned[d])
    what = "spectral_norm" if dim == 0 else f"spectral_norm of dimension {dim}"
    return (weight / (u @ images[dim])).to(original.dtype), what
