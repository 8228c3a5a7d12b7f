"""How reading ends when a file is wrong, and the two errors it becomes for the caller."""

import contextlib
import zipfile
from collections.abc import Iterator

import torch

from simplenet.errors import (
    CheckpointError,
    HashMismatchError,
    NotACheckpointError,
    SimpleNetError,
    TruncatedCheckpointError,
)
from simplenet.text import first_line

_LONGEST = 300  # characters of a message


class Refused(Exception):
    """The file is damaged or claims something impossible; the message says what was expected and what was found."""


class EndsTooEarly(Refused):
    """The file ends before its contents do."""


class WrongChecksum(Refused):
    """Some bytes of the file are not the ones that were written."""


class Unfit(Exception):
    """Arguments that a rebuilding function does not take; a stand-in takes the object's place."""


@contextlib.contextmanager
def one_line(source: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an error of one line that begins with `source`.

    Raises:
        TruncatedCheckpointError: the file ends too early.
        HashMismatchError: some bytes are not the ones that were written.
        NotACheckpointError: it is damaged.
        CheckpointError: there is no room for it in memory or on the device.

    Example:
        >>> try:
        ...     with one_line("model.pt"):
        ...         raise Refused("byte 3: expected an opcode, found 255")
        ... except SimpleNetError as error:
        ...     print(error)
        model.pt: byte 3: expected an opcode, found 255
    """
    try:
        yield
    except SimpleNetError:
        raise
    except (EndsTooEarly, EOFError) as error:
        raise TruncatedCheckpointError(f"{source}: {_short(error)}") from error
    except WrongChecksum as error:
        raise HashMismatchError(f"{source}: {_short(error)}") from error
    except Refused as error:
        raise NotACheckpointError(f"{source}: {_short(error)}") from error
    except MemoryError as error:
        raise CheckpointError(f"{source}: needs more memory than there is: {_short(error)}") from error
    except torch.OutOfMemoryError as error:
        raise CheckpointError(f"{source}: does not fit on the device: {_short(error)}") from error
    except zipfile.BadZipFile as error:
        raise TruncatedCheckpointError(
            f"{source}: the file is damaged or ends too early: {_short(error)}; download or copy it again"
        ) from error
    except Exception as error:  # a damaged file makes many kinds; each means the same to the reader
        raise NotACheckpointError(f"{source}: damaged, or not a checkpoint: {_short(error)}") from error


def _short(error: BaseException) -> str:
    """The error in a message: Python's and torch's own may quote all of what they were given."""
    return first_line(error)[:_LONGEST]


class Budget:
    """How much a file may make its reader do: bytes to allocate, or opcodes to run.

    A pickle of a few bytes can ask for the same megabyte again and again; this is where that ends.

    Example:
        >>> budget = Budget(1000)
        >>> budget.spend(600)
        >>> try:
        ...     budget.spend(600)
        ... except Refused as error:
        ...     print(error)
        expected a file of at most 1000 bytes when it is read, found more
    """

    def __init__(self, limit: int, unit: str = "bytes") -> None:
        self.limit = limit
        self.unit = unit
        self.left = limit

    def spend(self, amount: int) -> None:
        """Take that much from what is left.

        Raises:
            Refused: less is left.
        """
        self.left -= amount
        if self.left < 0:
            raise Refused(f"expected a file of at most {self.limit} {self.unit} when it is read, found more")
