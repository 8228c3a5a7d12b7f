"""The entries of a checkpoint: the keys that a file must have, and the plain data that it may hold."""

from collections.abc import Mapping
from typing import Any

from simplenet.errors import CheckpointError, NotACheckpointError
from simplenet.text import quoted


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
