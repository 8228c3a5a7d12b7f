"""Rows of JSON without a Python object per number, if pysimdjson is installed.

It reads only the common form, `{"instances": [[number, …], …], "parameters": {…}}` with flat rows. It leaves the rest
to the careful reader in json_body.py, which also explains errors.
"""

from importlib import import_module
from typing import Any

import numpy as np

simdjson: Any
try:
    simdjson = import_module("simdjson")
except ImportError:  # a stock TorchServe: the careful reader reads everything
    simdjson = None

ACTIVE = "orjson" if simdjson is None else "simdjson"  # what reads the common form here

_parser: Any = None


def parse(body: bytes, input_size: int) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The rows `(n, input_size)` float32 and the parameters of a body in the common form; None for any other body."""
    global _parser  # noqa: PLW0603 - one parser keeps its memory from request to request
    if simdjson is None:
        return None
    try:
        if _parser is None:
            _parser = simdjson.Parser()
        return _rows(_parser.parse(body), body, input_size)
    except (ValueError, TypeError, RuntimeError, LookupError, AttributeError):
        _parser = None  # the failed document may still hold it
        return None


def _rows(document: Any, body: bytes, input_size: int) -> tuple[np.ndarray, dict[str, Any]] | None:
    names = list(document.keys()) if isinstance(document, simdjson.Object) else []
    if sorted(names) not in (["instances"], ["instances", "parameters"]):
        return None
    instances, options = document["instances"], {}
    if len(names) > 1:
        options = document["parameters"].as_dict()
    # as_buffer would flatten lists in a row: there must be one bracket for the list and one for each row.
    brackets = np.count_nonzero(np.frombuffer(body, np.uint8) == ord("["))  # a third of the time of body.count
    flat = isinstance(instances, simdjson.Array) and brackets == len(instances) + 1 > 1
    if not flat or not all(isinstance(row, simdjson.Array) and len(row) == input_size for row in instances):
        return None
    with np.errstate(over="ignore"):
        rows = np.frombuffer(instances.as_buffer(of_type="d"), np.float64).astype(np.float32).reshape(-1, input_size)
    return (rows, options) if np.isfinite(rows).all() and not set(options) - {"top_k"} else None
