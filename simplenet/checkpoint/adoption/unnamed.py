"""Tensors that have numbers, bytes or nothing for names, and the command that gives them theirs."""

from collections.abc import Mapping
from typing import Any

import torch

from simplenet.checkpoint.adoption.candidates import containers_in, is_tensor
from simplenet.checkpoint.reading.kind import python_command
from simplenet.text import quoted

_OUTPUT = "named.pt"


def unnamed(contents: Any, source: str) -> str:
    """What the first tensors without names are, and how to name them; empty if there are none.

    Example:
        >>> print(unnamed({"model": {b"0.weight": torch.zeros(2, 3)}, "epoch": 3}, "m.pt").partition("; ")[0])
        keys of type bytes ("b'0.weight'") at 'model'
    """
    for place, value, _ in containers_in(contents):
        where = f" at {place!r}" if place else ""
        if isinstance(value, Mapping):
            tensors = {key: item for key, item in value.items() if not isinstance(key, str) and is_tensor(item)}
            if tensors:
                kind = f"keys of type {type(next(iter(tensors))).__name__} ({quoted(tensors)}){where}"
                return f"{kind}; {_remedy(contents, place, value, tensors, source)}"
        elif len(value) > 1 and all(map(is_tensor, value)) and any(item.ndim > 1 for item in value):
            return (
                f"a list of tensors without names{where}; load them into the network that they belong to (of an EMA: "
                "ema.copy_to(model.parameters())), and save model.state_dict()"
            )
    return ""


def _remedy(contents: Any, place: str, value: Any, tensors: Mapping[Any, Any], source: str) -> str:
    """How to name them: a command if it is known to work."""
    path = _subscripts(contents, place, value)
    if path is None or not all(type(item) in (torch.Tensor, torch.nn.Parameter) for item in tensors.values()):
        return "name them by hand: load them into the network that they belong to, and save model.state_dict()"
    load = f"import torch; w = torch.load({source!r}, 'cpu', weights_only=True){path}"
    if all(isinstance(key, bytes) for key in tensors):
        return _command(load, "{k.decode(): v for k, v in w.items() if isinstance(k, bytes)}")
    values = "[v for k, v in w.items() if not isinstance(k, str) and torch.is_tensor(v)]"
    if _are_layers(list(tensors.values())):
        names = f"[f'fc{{i}}.{{p}}' for i in range(1, {len(tensors) // 2 + 1}) for p in ('weight', 'bias')]"
        return _command(load, f"dict(zip({names}, {values}))")
    return (
        "their shapes do not alternate as those of weights and biases do: name them by hand, where the network is "
        f"known as model: {load}; torch.save(dict(zip(model.state_dict(), {values})), {_OUTPUT!r})"
    )


def _command(load: str, named: str) -> str:
    return f"name them: {python_command(f'{load}; torch.save({named}, {_OUTPUT!r})')}, and name {_OUTPUT!r}"


def _are_layers(tensors: list[torch.Tensor]) -> bool:
    """Whether they are a weight, its bias, a weight, its bias, and so on."""
    pairs = list(zip(tensors[::2], tensors[1::2], strict=False))
    return len(tensors) == 2 * len(pairs) and all(
        weight.ndim == 2 and bias.shape == weight.shape[:1] for weight, bias in pairs
    )


def _subscripts(contents: Any, place: str, value: Any) -> str | None:
    """The Python that takes the value at the dotted place, whose keys may have dots themselves; None if none does."""
    if contents is value:
        return "" if not place else None
    if not isinstance(contents, (Mapping, list, tuple)) or not place:
        return None
    for key, item in contents.items() if isinstance(contents, Mapping) else enumerate(contents):
        name = str(key)[:80]
        if type(key) in (str, int, bytes) and (place == name or place.startswith(f"{name}.")):
            rest = _subscripts(item, place[len(name) + 1 :], value)
            if rest is not None:
                return f"[{key!r}]{rest}"
    return None
