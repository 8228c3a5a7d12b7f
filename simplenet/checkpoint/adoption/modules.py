"""A pickled nn.Module, read from its stand-in: its state_dict and the kinds of its layers; nothing of it is run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from simplenet.checkpoint.reading.stand_in import StandIn

_DEEPEST = 64
_MOST_LAYERS = 100_000


@dataclass(frozen=True)
class PickledModule:
    """What a pickled module tells about its network."""

    state_dict: dict[str, Any]
    layers: tuple[tuple[str, str], ...]  # name and class of each layer without children, in order
    name: str = ""  # of its class


def pickled_module(value: Any) -> PickledModule | None:
    """The module whose attributes these are; None if they are those of something else.

    Args:
        value: the state of a pickled object: for a module, `_parameters`, `_buffers` and `_modules` among others.
    """
    if not _is_module(value):
        return None
    weights: dict[str, Any] = {}
    layers: list[tuple[str, str]] = []
    for prefix, name, state in _modules(value):
        hidden = state.get("_non_persistent_buffers_set")
        hidden = hidden if isinstance(hidden, (set, frozenset)) else ()
        for table in ("_parameters", "_buffers"):
            for key, item in _table(state, table):
                if isinstance(item, (torch.Tensor, np.ndarray)) and not (table == "_buffers" and key in hidden):
                    weights[f"{prefix}{key}"] = item
        if not any(True for _ in _table(state, "_modules")):
            layers.append((prefix.rstrip("."), name))
    return PickledModule(weights, tuple(layers))


def _is_module(value: Any) -> bool:
    return isinstance(value, Mapping) and "_parameters" in value and "_modules" in value


def _modules(root: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Prefix, class and attributes of each module, in the order of their names in a state_dict."""
    stack: list[tuple[str, str, Any, int]] = [("", "", root, 0)]
    for _ in range(_MOST_LAYERS):  # a layer used twice has two names; a hostile file could repeat it without end
        if not stack:
            return
        prefix, name, state, depth = stack.pop()
        if not _is_module(state) or depth > _DEEPEST:
            continue
        yield prefix, name, state
        for key, child in reversed(list(_table(state, "_modules"))):
            if isinstance(child, StandIn):
                stack.append((f"{prefix}{key}.", child.qualified_name, _state_of(child), depth + 1))


def _state_of(child: StandIn) -> Any:
    """The attributes of a pickled module: its state, or an argument of what rebuilds it (a GraphModule)."""
    return next((part for part in (child.state, *child.args) if _is_module(part)), None)


def _table(state: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    table = state.get(name)
    if isinstance(table, Mapping):
        yield from ((key, item) for key, item in table.items() if isinstance(key, str))
