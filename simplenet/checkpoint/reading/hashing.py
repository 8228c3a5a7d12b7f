"""What may be the key of a dict or the member of a set."""

from typing import Any

import numpy as np
import torch

from simplenet.checkpoint.reading.literals import Python2Text
from simplenet.checkpoint.reading.refusal import Refused
from simplenet.checkpoint.reading.stand_in import Global

_MOST_IN_KEY = 64  # members of a tuple that is a key
_SCALARS = frozenset((str, int, float, bool, bytes, complex, type(None), Python2Text))
_ATOMS = (Global, torch.Tensor, torch.dtype, torch.device, torch.layout, np.generic)  # nothing nests in them


def checked_key(key: Any) -> Any:
    """The key of a dict or member of a set, if hashing and comparing it is cheap.

    A tuple of tuples is not: hashing a nest of references to itself would take forever.

    Raises:
        Refused: it is of another kind.
    """
    kind = type(key)
    if kind in _SCALARS or isinstance(key, _ATOMS):
        return key
    if isinstance(key, tuple) and len(key) <= _MOST_IN_KEY:
        if all(type(item) in _SCALARS or isinstance(item, _ATOMS) for item in key):
            return key
        raise Refused("pickle: expected a key of plain values, found a tuple that holds more")
    raise Refused(f"pickle: expected a key that is a plain value or a short tuple of them, found {kind.__name__}")
