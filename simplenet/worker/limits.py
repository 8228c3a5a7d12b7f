"""How large responses may be: TorchServe cuts the connection to a worker that sends a larger one, and kills it.

Its ModelResponseDecoder compares `max_response_size` with every field of a message, so with the body of each response,
not with their sum. The message of a batch is limited by the memory that the frontend collects it in, and by the time
that this takes.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from simplenet import settings
from simplenet.errors import ResponseTooLargeError
from simplenet.media_types import NPY

TORCHSERVE_MAX_RESPONSE = 6_553_500  # bytes: TorchServe's, where config.properties has no max_response_size
LARGEST_MESSAGE = (1 << 31) - 1  # bytes: what a Java array or buffer can hold
ENVELOPE = 512  # bytes, no response has more around its body in the message
_ENTRY = len('{"label":"","index":0,"probability":0.0},')  # the shortest prediction in JSON
_NPY_HEADER = 128
_MARGIN = 0.98  # of the rows that fit: those of the next request may be a little longer
_DIGITS = 3  # of the number of rows that a message recommends


@dataclass(frozen=True)
class Limits:
    """Bytes of one response, and of the message with all responses of a batch."""

    response: int
    batch: int

    @classmethod
    def of_server(cls) -> "Limits":
        """What `serve` tells its workers; on a stock TorchServe, what its own configuration says."""
        response = _number(os.environ, settings.MAX_RESPONSE.name) or _configured() or TORCHSERVE_MAX_RESPONSE
        batch = _number(os.environ, settings.MAX_BATCH_RESPONSE.name) or max(response, settings.LARGEST_BATCH_RESPONSE)
        return cls(max(1, min(response, batch) - ENVELOPE), batch)


def least_size(rows: int, top_k: int, classes: int) -> int:
    """Bytes that a response has at least.

    Args:
        rows: of the request.
        top_k: of a response in JSON; 0 for the probabilities of all classes in float32.
        classes: of the model.

    Example:
        >>> least_size(rows=1000, top_k=1, classes=10), least_size(rows=1000, top_k=0, classes=10)
        (41000, 40000)
    """
    if not top_k:
        return rows * classes * 4
    return rows * _ENTRY * (1 if top_k == 1 else 1 + top_k)


def too_large(found: int, rows: int, classes: int, limit: int) -> ResponseTooLargeError:
    """The error for a response of `found` bytes: how many such rows fit, and whether float32 would fit.

    Example:
        >>> str(too_large(found=69000, rows=1000, classes=10, limit=50000)).partition("; ")[2]
        'send at most 710 rows at a time, or ask for application/x-npy'
        >>> print(too_large(found=40000, rows=1, classes=10000, limit=30000))
        response: expected at most 30000 bytes, found 40000 for 1 rows; not even one row fits
    """
    fitting = rows_that_fit(found / rows, limit)
    remedy = f"send at most {fitting} rows at a time" if fitting else "not even one row fits"
    if least_size(rows, 0, classes) + _NPY_HEADER <= min(limit, found - 1):
        remedy += f", or ask for {NPY}"
    return ResponseTooLargeError(f"response: expected at most {limit} bytes, found {found} for {rows} rows; {remedy}")


def rows_that_fit(row_size: float, limit: int) -> int:
    """Rows of this many bytes that fit, rounded down to few digits.

    Example:
        >>> rows_that_fit(68.7, 33554432), rows_that_fit(100.0, 1000), rows_that_fit(1001.0, 1000)
        (478000, 9, 0)
    """
    fitting = int(limit * _MARGIN / row_size)
    unit: int = 10 ** max(0, len(str(fitting)) - _DIGITS)
    return fitting // unit * unit


def _number(values: Mapping[str, str], name: str) -> int:
    """A number of bytes, or 0 if there is none."""
    text = values.get(name, "").strip()
    return min(int(text), LARGEST_MESSAGE) if text.isascii() and text.isdecimal() else 0


def _configured() -> int:
    """`max_response_size` of the TorchServe that started this worker, or 0 if its configuration cannot be read.

    TorchServe reads TS_CONFIG_FILE, else the file that its command line names after `-f`, else config.properties.
    """
    process = Path("/proc", str(os.getppid()))
    with suppress(OSError, ValueError):
        words = (process / "cmdline").read_bytes().decode().split("\0")
        named = words[words.index("-f") + 1] if "-f" in words else "config.properties"
        file = process / "cwd" / (os.environ.get("TS_CONFIG_FILE") or named)
        lines = [line.partition("=") for line in file.read_text("latin-1").splitlines()]
        values: dict[str, str] = {name.strip(): value for name, _, value in lines}
        return _number(values, "max_response_size")
    return 0
