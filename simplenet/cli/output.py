"""Standard output whose reader may close it."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Output(io.FileIO):
    """Standard output whose reader may close it (`| head -1`) without an error."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


@contextmanager
def lasting_output() -> Iterator[None]:
    """Once nobody reads it, the body's output is dropped without an error."""
    before = sys.stdout
    if before is None:  # closed from the start
        yield
        return
    raw = _Output(before.fileno(), "w", closefd=False)
    with io.TextIOWrapper(io.BufferedWriter(raw), before.encoding, before.errors, line_buffering=True) as output:
        sys.stdout = output
        try:
            yield
        finally:
            sys.stdout = before
