"""A lock on a file, for what one process at a time may do."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simplenet.errors import ServerError


@contextmanager
def exclusive(file: Path, refusal: str) -> Iterator[None]:
    """Hold the lock on a file, which is created if missing.

    Raises:
        ServerError: another process holds it; the message is `refusal`.
    """
    with file.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServerError(refusal) from error
        yield
