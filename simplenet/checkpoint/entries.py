"""The entries of a checkpoint: the keys that a file must have, and the plain data that it may hold."""

import itertools
from collections.abc import Mapping
from typing import Any

import torch

from simplenet.errors import CheckpointError, NotACheckpointError
from simplenet.text import quoted

_MOST_ENTRIES = 100_000
_DEEPEST = 100


def required_entries(
    checkpoint: Mapping[str, Any], source: str, *keys: str, saved_with: str = "save_for_inference"
) -> list[Any]:
    """The values of `keys`, which every file from the public function `saved_with` has.

    Raises:
        NotACheckpointError: names the missing keys and the present ones.

    Example:
        >>> required_entries({"epoch": 3, "loss": 0.25}, "epoch.pt", "epoch", "loss")
        [3, 0.25]
    """
    if missing := [key for key in keys if key not in checkpoint]:
        raise NotACheckpointError(
            f"{source}: missing {quoted(missing)}; found {quoted(sorted(map(str, checkpoint)))}; "
            f"save it with simplenet.{saved_with}"
        )
    return [checkpoint[key] for key in keys]


def plain_data(value: Any, where: str) -> Any:
    """The value as plain data that loads without pickle: None, bool, int, float, str, lists, tuples and dicts.

    Raises:
        CheckpointError: names the first entry of another type.

    Example:
        >>> import numpy
        >>> plain_data({"accuracy": numpy.float32(0.5), "sizes": (8, 3)}, "metadata")
        {'accuracy': 0.5, 'sizes': (8, 3)}
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, str):  # torch.__version__ has its own class
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {plain_data(key, f"{where} key"): plain_data(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [plain_data(item, f"{where}[{index}]") for index, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy or torch scalar
        return value.item()
    raise CheckpointError(f"{where}: expected plain data (numbers, text, lists, dicts), found {type(value).__name__}")


def plain_part(values: Any, where: str) -> tuple[dict[str, Any], list[str]]:
    """What a dict from elsewhere holds of plain data, and the names of its other entries.

    Example:
        >>> plain_part({"lr": 0.1, "device": object()}, "metadata")
        ({'lr': 0.1}, ['device'])
    """
    kept: dict[str, Any] = {}
    others = []
    for name, value in values.items() if isinstance(values, Mapping) else ():
        try:
            if not is_small(value):
                raise CheckpointError(f"{where}[{name!r}]: too much")
            kept[str(name)] = plain_data(value, where)
        except CheckpointError:
            others.append(str(name)[:80])
    return kept, others


def is_small(value: Any) -> bool:
    """Whether the value, written out, has at most 100,000 entries: a list may hold another one a billion times."""
    left, queue = _MOST_ENTRIES, [(value, 0)]
    while queue:
        item, depth = queue.pop()
        left -= 1
        if left < 0 or depth > _DEEPEST:
            return False
        if isinstance(item, Mapping):
            queue += [(child, depth + 1) for child in itertools.islice(item.values(), left + 1)]
        elif isinstance(item, (list, tuple, set, frozenset)):
            queue += [(child, depth + 1) for child in itertools.islice(item, left + 1)]
    return True


def is_plain(value: Any) -> bool:
    """Whether the value holds nothing but plain data and tensors, so that it can be stored."""
    if isinstance(value, torch.Tensor):
        return True
    if not is_small(value):
        return False
    if isinstance(value, Mapping):
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
