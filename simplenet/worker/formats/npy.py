"""NumPy's .npy: one array with its dtype and shape.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import io
import math

import numpy as np

from simplenet.errors import RequestError
from simplenet.worker.formats.format import Rows, finite
from simplenet.worker.model_spec import ModelSpec

SIGNATURES = (b"\x93NUMPY",)
_LONGEST = 160  # characters of NumPy's reason in a message


def decode(data: memoryview, spec: ModelSpec) -> Rows:
    """The rows `(n, input_size)` float32 of an array `(n, input_size)` or `(n, *shape)`; uint8 becomes 0..1.

    Example:
        >>> rows, parameters = decode(memoryview(encode(np.ones((1, 2)))), ModelSpec(2, ("cat", "dog")))
        >>> rows.dtype, rows.tolist(), parameters
        (dtype('float32'), [[1.0, 1.0]], {})

    Raises:
        RequestError: the body is not a .npy file, has another dtype or shape, or a number is not finite.
    """
    array = _read(data, spec)
    rows = array.reshape(len(array), spec.input_size)
    if rows.dtype == np.uint8:
        return rows.astype(np.float32) / 255, {}
    with np.errstate(over="ignore", invalid="ignore"):
        return finite(rows.astype(np.float32), "array"), {}


def encode(probabilities: np.ndarray) -> bytes:
    """Probabilities `(n, num_classes)` float32 as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, probabilities, allow_pickle=False)
    return buffer.getvalue()


def _read(data: memoryview, spec: ModelSpec) -> np.ndarray:
    """The array, if its header agrees with the bytes that follow; nothing is unpickled."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        dims, fortran_order, dtype = readers[version](stream)
    except Exception as error:  # the header is a Python literal: a damaged one fails in many ways
        reason = str(error)[:_LONGEST]  # NumPy's own may quote the whole header
        raise RequestError(f"array: expected a .npy file of version 1 or 2, found none: {reason}") from error
    if dtype.kind != "f" and dtype != np.uint8:
        raise RequestError(f"array: expected dtype float16, float32, float64 or uint8, found {str(dtype)[:64]}")
    accepted = ((spec.input_size,), *spec.row_shapes)
    whole = all(type(size) is int for size in dims)  # NumPy lets True pass for 1, then fails
    if not whole or dims[1:] not in accepted or dims[0] < 1:
        expected_dims = " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in accepted)
        raise RequestError(f"array: expected shape {expected_dims} with n of at least 1, found {str(dims)[:64]}")
    length = len(data) - stream.tell()
    expected_length = math.prod(dims) * dtype.itemsize
    if length != expected_length:
        raise RequestError(f"array: expected {expected_length} bytes after the header for shape {dims}, found {length}")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(dims, order="F" if fortran_order else "C")
