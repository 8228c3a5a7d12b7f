"""JSON: `{"instances": [row, …], "parameters": {…}}`, where a row is flat or nested in its shape."""

from typing import Any

import numpy as np
import orjson

from simplenet.errors import RequestError
from simplenet.text import quoted
from simplenet.worker.formats import fast_json
from simplenet.worker.formats.format import Rows, describe, finite
from simplenet.worker.model_spec import ModelSpec

SIGNATURES = (b"{", b"[")
_NUMBERS = frozenset((int, float))


def decode(data: memoryview, spec: ModelSpec) -> Rows:
    """Rows `(n, input_size)` float32 and parameters of a JSON body: the common form by `fast_json`, any other here.

    Example:
        >>> body = b'{"instances": [[0, 1], [0.5, 0]], "parameters": {"top_k": 2}}'
        >>> rows, parameters = decode(memoryview(body), ModelSpec(2, ("cat", "dog")))
        >>> rows.tolist(), parameters
        ([[0.0, 1.0], [0.5, 0.0]], {'top_k': 2})

    Raises:
        RequestError: the body is not JSON, or JSON of another form.
    """
    body = bytes(data)
    return fast_json.parse(body, spec.input_size) or decode_parsed(_parse(body), spec)


def decode_parsed(body: Any, spec: ModelSpec) -> Rows:
    """The same for a body that TorchServe or `decode` has parsed: any JSON value.

    Raises:
        RequestError: it has another form.
    """
    if not isinstance(body, dict):
        raise RequestError(f'body: expected an object {{"instances": [row, …]}}, found {describe(body)}')
    if unknown := [name for name in body if name not in ("instances", "parameters")]:
        raise RequestError(f"body: expected the fields 'instances' and 'parameters', found {quoted(unknown)}")
    if "instances" not in body:
        raise RequestError(f"instances: expected a list of rows, found {quoted(body)} in the body")
    instances = body["instances"]
    if not isinstance(instances, list) or not instances:
        raise RequestError(f"instances: expected a list of one or more rows, found {describe(instances)}")
    parameters = body.get("parameters", {})
    if not isinstance(parameters, dict):
        raise RequestError(f"parameters: expected an object, found {describe(parameters)}")
    if unknown := [name for name in parameters if name != "top_k"]:
        raise RequestError(f"parameters: expected 'top_k', found {quoted(unknown)}")
    flat = [_flat_row(row, index, spec) for index, row in enumerate(instances)]
    try:
        with np.errstate(over="ignore"):
            rows = np.array(flat, dtype=np.float32)
    except OverflowError as error:  # a whole number beyond any float
        raise RequestError(
            f"instances: expected numbers that fit a float32, found one that does not: {error}"
        ) from error
    return finite(rows, "instances"), parameters


def _parse(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"body: expected valid JSON, found {error}") from error


def _flat_row(row: Any, index: int, spec: ModelSpec) -> list[float]:
    """One row of JSON as a flat list of numbers; strings, null and booleans are not numbers."""
    where = f"instances[{index}]"
    if not isinstance(row, list):
        raise RequestError(f"{where}: expected a row of {spec.row}, found {describe(row)}")
    if row and type(row[0]) is list:
        row = _unnested(row, where, spec)
    if len(row) != spec.input_size:
        raise RequestError(f"{where}: expected a row of {spec.row}, found {len(row)}")
    if not _NUMBERS.issuperset(map(type, row)):
        position = next(i for i, value in enumerate(row) if type(value) not in _NUMBERS)
        raise RequestError(f"{where}[{position}]: expected a number, found {describe(row[position])}")
    numbers: list[float] = row
    return numbers


def _unnested(row: list[Any], where: str, spec: ModelSpec) -> list[Any]:
    """A row that is nested in one of its shapes as a flat list; any other as it is."""
    depth, first = 1, row[0]
    while type(first) is list:
        depth, first = depth + 1, first[0] if first else None
    shape = next((shape for shape in spec.row_shapes if len(shape) == depth and shape[0] == len(row)), ())
    if not all(type(line) is list for line in row):
        return row
    for axis, size in enumerate(shape[1:], 1):
        flat: list[Any] = []
        for number, line in enumerate(row):
            if type(line) is not list or len(line) != size:
                at = "".join(f"[{index}]" for index in np.unravel_index(number, shape[:axis]))
                what = "numbers" if axis == len(shape) - 1 else "lists"
                found = len(line) if type(line) is list else describe(line)
                raise RequestError(f"{where}{at}: expected {size} {what}, found {found}")
            flat += line
        row = flat
    return row
