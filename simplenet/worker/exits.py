"""What may end a worker: TorchServe and signals, never the user's network."""

import logging
import os
import signal
import sys
from typing import NoReturn

_real_exit = os._exit
_FAILURE = 1


class ProcessExitError(BaseException):
    """The network called `os._exit`; no Exception, so that the network's own handlers let it through as an exit."""


def in_worker() -> bool:
    """Whether this process is a worker of TorchServe."""
    return hasattr(sys.modules["__main__"], "TorchModelServiceWorker")


def guard() -> None:
    """In a worker: `os._exit` raises ProcessExitError, and Ctrl-C ends the process instead of raising an exception.

    Call it after the network was loaded, in the main thread.
    """
    if not in_worker():
        return
    own = os.getpid()

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


def leave() -> NoReturn:
    """End this worker, so that TorchServe starts another; nothing of the network's can hold it back."""
    logging.shutdown()
    sys.stdout.flush()
    _real_exit(_FAILURE)
