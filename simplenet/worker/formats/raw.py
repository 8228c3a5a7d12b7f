"""Raw floats: little-endian float32, row after row, with no header."""

import numpy as np

from simplenet.errors import RequestError
from simplenet.worker.formats.format import Rows, finite
from simplenet.worker.model_spec import ModelSpec


def decode(data: memoryview, spec: ModelSpec) -> Rows:
    """The rows `(n, input_size)` float32 of numbers without a header.

    Example:
        >>> rows, parameters = decode(memoryview(bytes(16)), ModelSpec(2, ("cat", "dog")))
        >>> rows.tolist(), parameters
        ([[0.0, 0.0], [0.0, 0.0]], {})

    Raises:
        RequestError: the last row is incomplete, or a number is not finite.
    """
    if not holds_whole_rows(data, spec):
        raise RequestError(
            f"body: expected a multiple of {4 * spec.input_size} bytes (rows of {spec.input_size} float32), "
            f"found {len(data)} bytes"
        )
    return finite(np.frombuffer(data, dtype="<f4").reshape(-1, spec.input_size), "body"), {}


def holds_whole_rows(data: memoryview, spec: ModelSpec) -> bool:
    """Whether the bytes can be rows of float32."""
    return len(data) % (4 * spec.input_size) == 0


def encode(probabilities: np.ndarray) -> bytes:
    """Probabilities `(n, num_classes)` as little-endian float32."""
    return probabilities.astype("<f4", copy=False).tobytes()
