"""A pickled nn.Module, read from its stand-in: its state_dict and the kinds of its layers; nothing of it is run."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from simplenet.checkpoint.adoption.names import is_of_loss
from simplenet.checkpoint.reading.stand_in import StandIn

_DEEPEST = 64
_MOST_ENTRIES = 1000
_IDLE = ("Dropout", "Flatten", "Unflatten", "Identity")  # layers that change nothing in eval mode, or only the shape
_LETTERS = {"Linear": "L", "ReLU": "R"}
_ACTIVATION = re.compile(r"_?(activation|act|act_fn|activation_fn|act_layer|nonlinearity)", re.IGNORECASE)
_RELU = re.compile(r"(nn\.)?(relu|(log_?)?softmax|linear|identity|none)", re.IGNORECASE)  # or after the last
_MOST_LAYERS = 100_000


@dataclass(frozen=True)
class PickledModule:
    """What a pickled module tells about its network."""

    state_dict: dict[str, Any]
    layers: tuple[tuple[str, str], ...]  # name and class of each layer without children, in order
    containers: tuple[tuple[str, str], ...] = ()  # name and class of each layer with children, but the outermost
    evidence: str = ""  # an activation other than ReLU that an attribute names
    name: str = ""  # of its class


def pickled_module(value: Any) -> PickledModule | None:
    """The module whose attributes these are; None if they are those of something else.

    Args:
        value: the state of a pickled object: for a module, `_parameters`, `_buffers` and `_modules` among others.
    """
    if not is_module(value):
        return None
    weights: dict[str, Any] = {}
    layers: list[tuple[str, str]] = []
    containers: list[tuple[str, str]] = []
    evidence = ""
    for prefix, name, state in _modules(value):
        hidden = state.get("_non_persistent_buffers_set")
        hidden = hidden if isinstance(hidden, (set, frozenset)) else ()
        for table in ("_parameters", "_buffers"):
            for key, item in _table(state, table):
                if isinstance(item, (torch.Tensor, np.ndarray)) and not (table == "_buffers" and key in hidden):
                    weights[f"{prefix}{key}"] = item
        where = prefix.rstrip(".")
        if any(True for _ in _table(state, "_modules")):
            containers += [(where, name)] if prefix else []
        else:
            layers.append((where, f"{name}({state['dim']})" if "dim" in state else name))
        evidence = evidence or other_activation(state)
    return PickledModule(weights, tuple(layers), tuple(containers), evidence)


def structure_problem(module: PickledModule) -> str:
    """Why a pickled module is not a SimpleNet, as far as its layers tell; empty if they do not.

    A Sequential tells all: linear layers with ReLU between them, at most a softmax at the end. Of any other class the
    order in which it calls its layers is not known, so only their kinds count.
    """
    if module.evidence:
        return f"its activation is {module.evidence}"
    layers = [(name, _kind(kind)) for name, kind in module.layers if not _is_loss(name, kind)]
    for _, kind in layers:
        if kind not in ("Linear", "ReLU", "") and not _is_softmax(kind) and not kind.startswith(_IDLE):
            return f"it has a layer {kind}"
    for parent, kind in (("", module.name), *module.containers):
        if _kind(kind) != "Sequential":
            continue
        children = [found for name, found in layers if name.rpartition(".")[0] == parent]
        sequence = "".join(_LETTERS.get(found, "s") for found in children if not found.startswith(_IDLE))
        if not re.fullmatch(r"(L(RL)*R?s?)?" if parent else r"L(RL)*s?", sequence):
            return f"its layers are {', '.join(children)}"
    return ""


def loss_layers(module: PickledModule) -> list[str]:
    """The names of the layers that belong to a loss or a metric."""
    return [name for name, kind in module.layers if name and _is_loss(name, kind)]


def other_activation(values: Mapping[Any, Any]) -> str:
    """The activation that an entry such as `activation` names, if it is not ReLU.

    Example:
        >>> other_activation({"activation": "gelu"}), other_activation({"activation": "relu"}), other_activation({})
        ('gelu', '', '')
    """
    for key, value in itertools.islice(values.items(), _MOST_ENTRIES):
        if isinstance(key, str) and _ACTIVATION.fullmatch(key):
            name = value if isinstance(value, str) else getattr(value, "name", "")
            if isinstance(name, str) and name and not _RELU.fullmatch(name):
                return name[:40]
    return ""


def _kind(kind: str) -> str:
    return kind.rpartition(".")[2]


def _is_loss(name: str, kind: str) -> bool:
    return is_of_loss(f"{name}.weight") or "Loss" in kind or kind.startswith("torchmetrics.")


def _is_softmax(kind: str) -> bool:
    return kind.partition("(")[0] in ("Softmax", "LogSoftmax") and kind.partition("(")[2] in ("-1)", "1)", "None)", "")


def is_module(value: Any) -> bool:
    """Whether these are the attributes of a pickled module."""
    return isinstance(value, Mapping) and "_parameters" in value and "_modules" in value


def _modules(root: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Prefix, class and attributes of each module, in the order of their names in a state_dict."""
    stack: list[tuple[str, str, Any, int]] = [("", "", root, 0)]
    for _ in range(_MOST_LAYERS):  # a layer used twice has two names; a hostile file could repeat it without end
        if not stack:
            return
        prefix, name, state, depth = stack.pop()
        if not is_module(state) or depth > _DEEPEST:
            continue
        yield prefix, name, state
        for key, child in reversed(list(_table(state, "_modules"))):
            if isinstance(child, StandIn):
                stack.append((f"{prefix}{key}.", child.qualified_name, _state_of(child), depth + 1))


def _state_of(child: StandIn) -> Any:
    """The attributes of a pickled module: its state, or an argument of what rebuilds it (a GraphModule)."""
    return next((part for part in (child.state, *child.args) if is_module(part)), None)


def _table(state: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    table = state.get(name)
    if isinstance(table, Mapping):
        yield from ((key, item) for key, item in table.items() if isinstance(key, str))
