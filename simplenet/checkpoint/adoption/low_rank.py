"""LoRA: a weight plus the product of two thin matrices, as peft and loralib store it."""

import re
from collections.abc import Iterable, Mapping

import torch

from simplenet.checkpoint.adoption.parts import Fold, Outcome, Unfolded, is_floating

_PEFT = "base_model.model."
_FACTOR = re.compile(r"(?P<layer>.*?)\.?lora_A(?:\.(?P<adapter>[^.]+))?(?P<weight>\.weight)?")
_MERGE = "save the state_dict of what peft's model.merge_and_unload() returns"


def low_rank_folds(weights: Mapping[str, torch.Tensor], alpha: float | None) -> Iterable[Outcome]:
    """Each layer with LoRA factors: `W + alpha / r · B A`, or what to do where that cannot be computed.

    Example:
        >>> ones = {"fc.weight": torch.ones(1, 1), "fc.lora_A": torch.ones(2, 1), "fc.lora_B": torch.ones(1, 2)}
        >>> [fold] = low_rank_folds(ones, alpha=4)
        >>> fold.weight
        tensor([[5.]])
    """
    layers: dict[str, list[re.Match[str]]] = {}
    for name in weights:
        if ".lora_" in f".{name}":
            layer = f".{name}".partition(".lora_")[0].removeprefix(".")
            layers.setdefault(layer, [])
            if match := _FACTOR.fullmatch(name):
                layers[layer].append(match)
    for layer, factors in layers.items():
        yield _folded_layer(weights, layer, factors, alpha)


def _folded_layer(
    weights: Mapping[str, torch.Tensor], layer: str, factors: list[re.Match[str]], alpha: float | None
) -> Outcome:
    prefix = f"{layer}." if layer else ""
    target = f"{prefix}weight"
    stored = [name for name in weights if f".{name}".startswith(f".{prefix}lora_")]
    if len(factors) != 1 or len(stored) != 2:  # several adapters, DoRA's magnitudes, an embedding's factors, a bias
        return Unfolded(target, f"LoRA of a form that is not folded here; {_MERGE}")
    first = factors[0].string
    second = f"{prefix}lora_B{first.removeprefix(f'{prefix}lora_A')}"
    base = next((name for name in (f"{prefix}base_layer.weight", target) if name in weights), None)
    if base is None:
        return Unfolded(target, f"LoRA factors without the weight they are added to; load its base model, and {_MERGE}")
    if alpha is None:
        return Unfolded(target, f"LoRA of an unknown scale: lora_alpha is not in the file; {_MERGE}")
    parts = [weights[name] for name in (base, first, second) if name in weights]
    if len(parts) != 3 or not all(map(is_floating, parts)) or any(part.ndim < 2 for part in parts):
        return Unfolded(target, f"LoRA factors that are no pair of matrices; {_MERGE}")
    weight, a, b = parts
    rows, columns = a.detach().double().flatten(1), b.detach().double().flatten(1)  # a convolution's B is 1 x 1
    fits = (columns.shape[1], len(columns), rows.shape[1]) == (len(rows), len(weight), weight[0].numel())
    if not fits or not len(rows):
        return Unfolded(target, f"LoRA factors {tuple(b.shape)} and {tuple(a.shape)} do not fit the weight; {_MERGE}")
    product = (columns @ rows).reshape(weight.shape) * (alpha / len(rows))
    what = "LoRA" if factors[0]["weight"] else "LoRA (of loralib, saved in train mode: eval() already adds it)"
    return Fold(target, (base, first, second), (weight.detach().double() + product).to(weight.dtype), what)


def peft_names(weights: Mapping[str, torch.Tensor], stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights under the names of the network inside peft's wrapper, if every stored name is of that wrapper.

    A layer that was trained in full (`modules_to_save`) replaces the original one.

    Example:
        >>> inner = {"base_model.model.fc.base_layer.bias": torch.zeros(1)}
        >>> peft_names(inner, inner)
        {'fc.bias': tensor([0.])}
    """
    if not stored or not all(name.startswith(_PEFT) for name in stored):
        return dict(weights)
    bare: dict[str, torch.Tensor] = {}
    trained: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        path = name.removeprefix(_PEFT).replace(".base_layer.", ".").replace(".original_module.", ".")
        if match := re.fullmatch(r"(.+)\.modules_to_save\.[^.]+\.(.+)", path):
            trained[f"{match[1]}.{match[2]}"] = tensor
        else:
            bare[path] = tensor
    return {**bare, **trained}
