"""What may be the key of a dict or the member of a set."""

from typing import Any

import numpy as np
import torch

from simplenet.checkpoint.reading.literals import Python2Text
from simplenet.checkpoint.reading.refusal import Refused
from simplenet.checkpoint.reading.stand_in import Global

_MOST_IN_KEY = 64  # members of a tuple that is a key
_LARGEST_INT = 1 << 63  # among larger ones, as among complex numbers, it is easy to find many of the same hash
_SCALARS = frozenset((str, float, bool, bytes, type(None), Python2Text))
# Nothing nests in these.
_ATOMS = (Global, torch.Tensor, torch.dtype, torch.device, torch.layout, np.integer, np.floating, np.bool_, np.str_)


def checked_key(key: Any) -> Any:
    """The key of a dict or member of a set, if hashing and comparing it is cheap.

    A tuple of tuples is not: hashing a nest of references to itself would take forever.

    Raises:
        Refused: it is of another kind.

    Example:
        >>> checked_key("fc.weight"), checked_key((1, "a"))
        ('fc.weight', (1, 'a'))
        >>> try:
        ...     checked_key(((1, 2), 3))
        ... except Refused as error:
        ...     print(error)
        pickle: expected a key that is a plain value or a short tuple of them, found tuple
    """
    if _is_plain(key) or (isinstance(key, tuple) and len(key) <= _MOST_IN_KEY and all(map(_is_plain, key))):
        return key
    raise Refused(f"pickle: expected a key that is a plain value or a short tuple of them, found {type(key).__name__}")


def _is_plain(key: Any) -> bool:
    if type(key) is int:
        return -_LARGEST_INT <= key <= _LARGEST_INT
    return type(key) in _SCALARS or isinstance(key, _ATOMS)
