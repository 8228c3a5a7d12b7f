"""The entries of a checkpoint: the keys that a file must have, and the plain data that it may hold."""

import itertools
from collections.abc import Mapping
from typing import Any

import torch

from simplenet.checkpoint.keys import CONTENT_HASH
from simplenet.errors import CheckpointError, NotACheckpointError
from simplenet.text import LONGEST_NAME, quoted, shortened, visible

_MOST_ENTRIES = 100_000
_DEEPEST = 100
_LONGEST_KEY = 200  # characters
_LONGEST_TEXT = 100_000  # characters of one string
_MOST_LETTERS = 10_000_000  # of all strings of an entry, a string counted as often as it is written


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
        found = [key for key in checkpoint if isinstance(key, str)]
        raise NotACheckpointError(
            f"{source}: missing {quoted(missing)}; found {quoted(sorted(found))}; save it with simplenet.{saved_with}"
        )
    return [checkpoint[key] for key in keys]


def stored_hash(metadata: Any) -> str | None:
    """The content hash in a checkpoint's metadata, which only a file of this library has.

    Example:
        >>> stored_hash({"content_hash": "6fc946aa1de6"}), stored_hash("my run")
        ('6fc946aa1de6', None)
    """
    found = metadata.get(CONTENT_HASH) if isinstance(metadata, Mapping) else None
    return found if isinstance(found, str) else None


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
        return {
            plain_data(key, f"{where} key"): plain_data(item, f"{where}[{shortened(key)}]")
            for key, item in value.items()
        }
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
    for key, value in values.items() if isinstance(values, Mapping) else ():
        name = key if isinstance(key, str) else shortened(key)
        try:
            if not is_small(value) or not _is_readable({name: value}):
                raise CheckpointError(f"{where}: too much")
            kept[str(name)] = plain_data(value, where)
        except CheckpointError:
            others.append(visible(name[:LONGEST_NAME])[:LONGEST_NAME])
    return kept, others


def _is_readable(value: Any) -> bool:
    """Whether a small value's text is of some length, and its keys can be printed: an escape would move the cursor."""
    left, queue = _MOST_LETTERS, [value]
    while queue:
        item = queue.pop()
        if isinstance(item, str):
            left -= len(item)
            if len(item) > _LONGEST_TEXT or left < 0:
                return False
        elif isinstance(item, Mapping):
            names = [key for key in item if isinstance(key, str)]
            if any(len(name) > _LONGEST_KEY or not name.isprintable() for name in names):
                return False
            queue += item.values()
        elif isinstance(item, (list, tuple)):
            queue += item
    return True


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
    return is_small(value) and _is_storable(value)


def _is_storable(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_storable(key) and _is_storable(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_storable, value))
    return value is None or isinstance(value, (bool, int, float, str, torch.Tensor))
