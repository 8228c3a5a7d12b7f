"""What a long-running command owes its terminal: signals end it cleanly, and an output that goes away does not."""

import io
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM, SIGINT and a closed terminal raise KeyboardInterrupt in the body.

    Without this SIGTERM ends Python at once, leaving its temporary folders, or, in a container's first process, does
    nothing at all.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with _handling(interrupt):
        yield


@contextmanager
def deferred() -> Iterator[None]:
    """These signals wait for the end of the body, and raise KeyboardInterrupt then."""
    arrived = []
    with _handling(lambda *_: arrived.append(True)):
        yield
    if arrived:
        raise KeyboardInterrupt


@contextmanager
def ignored() -> Iterator[None]:
    """These signals do nothing in the body."""
    with _handling(signal.SIG_IGN):
        yield


@contextmanager
def _handling(handler: Any) -> Iterator[None]:
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # a closed terminal, unless nohup ignores it
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


class _Output(io.FileIO):
    """Standard output whose reader may leave (`| head -1`) without that being an error."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


@contextmanager
def lasting_output() -> Iterator[None]:
    """What the body prints is lost, and nothing worse, once nobody reads it."""
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
