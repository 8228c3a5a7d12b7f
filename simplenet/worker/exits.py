"""What may end a worker: TorchServe and signals, never the user's network. A child that the network forks does end."""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

_real_exit = os._exit
_FAILURE = 1
_guarded: list[int] = []  # the worker's pid, once it is guarded


class ProcessExitError(BaseException):
    """The network called `os._exit`; no Exception, so that the network's own handlers let it through as an exit."""


def in_worker() -> bool:
    """Whether this process is a worker of TorchServe."""
    return hasattr(sys.modules["__main__"], "TorchModelServiceWorker")


def guard() -> None:
    """In a worker: `os._exit` raises ProcessExitError, and Ctrl-C ends the process instead of raising an exception.

    Call it in the main thread, before the network's module is loaded: that may keep `os._exit` under another name.
    """
    if not in_worker():
        return
    own = os.getpid()
    _guarded[:] = [own]

    def refuse_exit(status: int) -> NoReturn:
        # A child that the network forked ends with os._exit (multiprocessing does): there the real one must work, or
        # the child would go on as a second worker on the same socket.
        if os.getpid() != own:
            _real_exit(status)
        raise ProcessExitError(f"os._exit({status})")

    os._exit = refuse_exit
    # Then a KeyboardInterrupt that comes out of the network is the network's own, and fails its request like any other
    # exception. Without a handler SIGINT does as SIGTERM does. Where it is ignored, or handled, it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def end_child(raised: BaseException | None = None) -> None:
    """End this process if it is a child that the network forked, or it would be a second worker on the same socket.

    Call it wherever the network returns to its worker, or an exception of the network is caught.

    Args:
        raised: what the child raised: an exit's status is its own, any other exception is printed.
    """
    if not _guarded or os.getpid() in _guarded:
        return
    status = 0 if raised is None else _FAILURE
    with suppress(BaseException):  # the exception's own methods may raise
        status = 0 if raised is None else _status(raised)
    _flush()
    _real_exit(status)


@contextmanager
def children_end() -> Iterator[None]:
    """A child that the network forks in this block ends there, whether the block raises or not."""
    try:
        yield
    except BaseException as error:
        end_child(error)
        raise
    end_child()


def leave() -> NoReturn:
    """End this worker, so that TorchServe starts another; nothing of the network's can hold it back."""
    logging.shutdown()
    _flush()
    _real_exit(_FAILURE)


def _flush() -> None:
    """Write what was printed, if the network has left the streams as they were."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()


def _status(raised: BaseException) -> int:
    """The exit status of a process that ends with this exception, which is printed as Python does."""
    if not issubclass(type(raised), SystemExit):  # isinstance would read its `__class__`, which may raise
        traceback.print_exception(type(raised), raised, raised.__traceback__)
        return _FAILURE
    code = getattr(raised, "code", None)
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    print(code, file=sys.stderr)
    return _FAILURE
