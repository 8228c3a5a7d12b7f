"""The linear layers of a multi-layer perceptron, found among named tensors and put in order.

Only what is beyond doubt: where the names and shapes leave two orders, or tell of another network, there is no answer.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise, permutations
from typing import Any

from simplenet.checkpoint.adoption.names import natural_key

_MOST_UNNUMBERED = 6  # layers whose order is sought when their names are not numbered alike
_MOST_LAYERS = 256
# Parts of names that tell of something else than layers one after another.
_ANOTHER_NETWORK = re.compile(
    r"(^|[._\d])(enc|encoder|dec|decoder|emb|embed|embedding|embeddings|attn|attention|query|key|value|qkv|lora_a|lora_b)"
    r"([._\d]|$)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"(.*?)(\d+)", re.ASCII)


def mlp_names(tensors: Mapping[str, Any]) -> dict[str, str]:
    """`fc1.weight`, `fc1.bias`, `fc2.weight`, … with the name of each here; empty if the tensors are something else.

    They must be the weights and biases of two or more linear layers, of which each takes what the one before gives.
    The name of a bias is empty if neither of two layers has one.

    Example:
        >>> import torch
        >>> layers = {"out.weight": (3, 8), "out.bias": (3,), "hidden.weight": (8, 4), "hidden.bias": (8,)}
        >>> names = mlp_names({name: torch.zeros(shape) for name, shape in layers.items()})
        >>> names["fc1.weight"], names["fc2.weight"]
        ('hidden.weight', 'out.weight')
    """
    weights = {name[: -len("weight")].rstrip("."): t for name, t in tensors.items() if name.endswith("weight")}
    biases = {layer: tensors.get(f"{layer}.bias") for layer in weights}
    if not 2 <= len(weights) <= _MOST_LAYERS or any(tensor.ndim != 2 for tensor in weights.values()):
        return {}
    if len(tensors) != len(weights) + sum(bias is not None for bias in biases.values()):
        return {}
    if any(bias is not None and tuple(bias.shape) != (weights[layer].shape[0],) for layer, bias in biases.items()):
        return {}
    lacking = sum(bias is None for bias in biases.values())
    if lacking not in (0, 2) or (lacking and len(weights) != 2):  # an embedding has none, nor a gated layer
        return {}
    return {
        f"fc{number}.{part}": f"{layer}.{part}" if part == "weight" or not lacking else ""
        for number, layer in enumerate(_in_order(weights), 1)
        for part in ("weight", "bias")
    }


def are_numbered_alike(layers: Sequence[str]) -> bool:
    """Whether the names differ in their last number only, such as `fc1` and `fc2`.

    Example:
        >>> are_numbered_alike(["layers.0", "layers.2"]), are_numbered_alike(["fc_in", "fc1"])
        (True, False)
    """
    found = [_NUMBERED.fullmatch(layer) for layer in layers]
    return all(found) and len({match[1] for match in found if match}) == 1


def _in_order(layers: Mapping[str, Any]) -> list[str]:
    """The layers in the one order that names and shapes leave; empty if they leave none, or two."""
    in_file = list(layers)
    if any(_ANOTHER_NETWORK.search(name) for name in layers):
        return []
    if are_numbered_alike(in_file):
        counted = sorted(layers, key=natural_key)
        adjacent = any(int(b) - int(a) == 1 for a, b in pairwise(counted)) if all(map(_is_index, counted)) else False
        # Neighbours in a Sequential have no activation between them.
        return counted if _fit_together(counted, layers) and not adjacent else []
    if len({name.rpartition(".")[0] for name in layers}) > 1 and len(layers) > 2:
        return []  # parts of a network: what lies between them is not known
    if len(layers) > _MOST_UNNUMBERED:
        return in_file if _fit_together(in_file, layers) and in_file != sorted(in_file) else []
    orders = [list(order) for order in permutations(layers) if _fit_together(order, layers)]
    if len(orders) > 1:  # the order of definition decides, unless the names were sorted when they were saved
        return in_file if in_file in orders and in_file != sorted(in_file) else []
    return orders[0] if orders else []


def _is_index(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) < 10


def _fit_together(order: Sequence[str], layers: Mapping[str, Any]) -> bool:
    return all(layers[after].shape[1] == layers[before].shape[0] for before, after in pairwise(order))
