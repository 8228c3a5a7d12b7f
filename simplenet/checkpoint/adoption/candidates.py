"""Every place in a file that may hold the weights of a network: dicts of tensors, and pickled modules."""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from simplenet.checkpoint.adoption.modules import PickledModule, is_module, pickled_module
from simplenet.checkpoint.keys import MODEL_STATE_DICT
from simplenet.checkpoint.reading.stand_in import StandIn

_MOST_NODES = 100_000  # containers looked into; a file may refer to one list a billion times
_DEEPEST = 8
# Where frameworks keep the weights, in the order in which they are taken.
_PREFERRED = (MODEL_STATE_DICT, "state_dict", "model", "model_state", "net", "network", "module", "weights", "params")
_NOT_WEIGHTS = re.compile(
    r"(^|[._])(lr_?)?(optim|sched|(amp_?|grad_?)?scaler|rng|golden|grad([._s]|$)|exp_avg|momentum_buffer|fisher)",
    re.IGNORECASE,
)
_COPY = re.compile(
    r"(^|[._])(ema|teacher|target|avg|average|averaged|shadow|swa|old|previous|initial|momentum)([._]|$)", re.IGNORECASE
)


@dataclass(frozen=True)
class Candidate:
    """A dict of tensors in a file."""

    place: str  # its dotted path in the file; empty for the file itself
    tensors: dict[str, Any]  # name to tensor or NumPy array
    beside: tuple[str, ...] = ()  # names of the other entries of the same dict
    module: PickledModule | None = None  # what is known of the network, if a whole module was pickled
    lora_alpha: float | None = None  # beside the weights

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Smaller is taken first: no averaged copy, a usual key, not deep."""
        keys = self.place.split(".") if self.place else []
        usual = _PREFERRED.index(keys[-1]) if keys and keys[-1] in _PREFERRED else len(_PREFERRED)
        return is_copy(self.place), usual if keys else 0, len(keys)


def is_copy(name: str) -> bool:
    """Whether a key or a prefix names an averaged or older copy of the weights.

    Example:
        >>> is_copy("state_dict_ema"), is_copy("ema_model."), is_copy("schema")
        (True, True, False)
    """
    return _COPY.search(name) is not None


def candidates_in(contents: Any) -> list[Candidate]:
    """Every candidate in what a file holds, the most likely first.

    Example:
        >>> found = candidates_in({"epoch": 3, "checkpoint": {"model": {"fc1.weight": torch.zeros(2, 3)}}})
        >>> [(one.place, list(one.tensors)) for one in found]
        [('checkpoint.model', ['fc1.weight'])]
    """
    return sorted(_walk(contents), key=lambda candidate: candidate.rank)


def is_tensor(value: Any) -> bool:
    """Whether the value may be a weight."""
    return isinstance(value, (torch.Tensor, np.ndarray))


def _walk(contents: Any) -> Iterator[Candidate]:
    for place, value, owner in containers_in(contents):
        if not isinstance(value, Mapping):
            continue
        if module := pickled_module(value):
            if module.state_dict:
                yield Candidate(place, module.state_dict, module=replace(module, name=owner))
            continue
        tensors = {name: item for name, item in value.items() if isinstance(name, str) and is_tensor(item)}
        only_tensors = bool(tensors) and len(tensors) == len(value)
        if only_tensors or any(_is_weight(name, item) for name, item in tensors.items()):
            beside = tuple(str(name)[:80] for name in value if name not in tensors)
            alpha = value.get("lora_alpha")
            yield Candidate(place, tensors, beside, lora_alpha=alpha if isinstance(alpha, (int, float)) else None)
        elif not tensors and (nested := _nested(value)):
            yield Candidate(place, nested)


def containers_in(contents: Any) -> Iterator[tuple[str, Any, str]]:
    """Each dict and list once, with its dotted path and the class of the object that it is of, breadth first."""
    queue: deque[tuple[str, Any, str, int]] = deque([("", contents, "", 0)])
    seen: set[int] = set()
    while queue and len(seen) < _MOST_NODES:
        place, value, owner, depth = queue.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, StandIn):
            parts = (value.state, value.entries, value.items, value.args)
            queue.extendleft((place, part, value.qualified_name, depth) for part in reversed(parts) if part)
            continue
        if not isinstance(value, (Mapping, list, tuple)):
            continue
        yield place, value, owner
        if depth < _DEEPEST and not is_module(value):
            queue.extend((_join(place, key), item, "", depth + 1) for key, item in _children(value))


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for count, (key, item) in enumerate(items):
        if count >= _MOST_NODES:
            return
        if isinstance(item, (Mapping, list, tuple, StandIn)) and not _NOT_WEIGHTS.search(str(key)[:80]):
            yield str(key)[:80], item


def _nested(value: Mapping[Any, Any]) -> dict[str, Any]:
    """`{"fc1": {"weight": …, "bias": …}, …}` as one flat dict; empty if it is something else."""
    flat: dict[str, Any] = {}
    for layer, entries in value.items():
        if not isinstance(layer, str) or not isinstance(entries, Mapping) or not entries:
            return {}
        for name, item in entries.items():
            if not isinstance(name, str) or "." in name or not is_tensor(item):
                return {}
            flat[f"{layer}.{name}"] = item
    return flat if len(value) > 1 and any(_is_weight(name, item) for name, item in flat.items()) else {}


def _is_weight(name: str, value: Any) -> bool:
    return value.ndim >= 2 or name.endswith(("weight", "bias"))


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key
