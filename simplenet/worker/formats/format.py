"""The description of a format, and the checks and words that several formats share."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simplenet.errors import RequestError
from simplenet.text import quoted
from simplenet.worker.model_spec import ModelSpec

Rows = tuple[np.ndarray, dict[str, Any]]  # rows `(n, input_size)` float32, and parameters such as top_k


@dataclass(frozen=True)
class Format:
    """One format of a request's body, and of a response's if it can hold probabilities.

    Args:
        decode: a body that is not empty to rows and parameters; raises a RequestError that names the field, what was
            expected and what was found.
        signatures: first bytes; a body without a Content-Type that begins with one of them has this format.
        images: a body is one image, which only a model whose rows are images accepts.
        encode: probabilities `(n, num_classes)` float32 to the bytes of a response.
    """

    decode: Callable[[memoryview, ModelSpec], Rows]
    signatures: tuple[bytes, ...] = ()
    images: bool = False
    encode: Callable[[np.ndarray], bytes] | None = None


def finite(rows: np.ndarray, where: str) -> np.ndarray:
    """The rows, if every number in them is finite.

    Raises:
        RequestError: names the place of the first that is not.
    """
    if not np.isfinite(rows).all():
        row, position = (int(i) for i in np.argwhere(~np.isfinite(rows))[0])
        raise RequestError(f"{where}[{row}][{position}]: expected a finite float32, found {rows[row, position]}")
    return rows


def describe(value: Any) -> str:
    """A value for a message: short, as JSON writes it.

    Example:
        >>> describe(None), describe("seven"), describe([1, 2]), describe({"a": 1})
        ('null', 'the string "seven"', 'a list of 2', "an object with 'a'")
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return str(value)[:32]
    if isinstance(value, str):
        return f"the string {json.dumps(value[:32])}"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return f"an object with {quoted(value)}" if isinstance(value, Mapping) else type(value).__name__
