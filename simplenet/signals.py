"""Choose whether SIGTERM, SIGINT and a closed terminal interrupt a block, wait for its end, or are ignored."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_interrupts: list[int] = []  # the signals that raised KeyboardInterrupt; a list, because a handler takes no lock


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM, SIGINT and a closed terminal raise KeyboardInterrupt in the body.

    By default, SIGTERM ends Python at once and leaves its temporary folders; in a container's first process it does
    nothing.

    Code in C may clear the exception: torch does while it imports numpy. Whoever is about to do what cannot be taken
    back calls `check_interrupted`.
    """
    _interrupts.clear()

    def interrupt(number: int, _: object) -> None:
        _interrupts.append(number)
        raise KeyboardInterrupt

    with _handling(interrupt):
        yield


def check_interrupted() -> None:
    """Raise the KeyboardInterrupt of a signal that came since `signals_interrupt` began and went on unnoticed.

    Raises:
        KeyboardInterrupt: one came.
    """
    if _interrupts:
        raise KeyboardInterrupt


@contextmanager
def signals_deferred() -> Iterator[None]:
    """These signals are held back until the body ends, then raise KeyboardInterrupt."""
    arrived = []
    with _handling(lambda *_: arrived.append(True)):
        yield
    if arrived:
        raise KeyboardInterrupt


@contextmanager
def signals_ignored() -> Iterator[None]:
    """These signals are ignored in the body."""
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
