"""How much a file may make its reader allocate: never much more than the file holds."""

import dataclasses
from dataclasses import dataclass
from typing import IO

from simplenet.checkpoint.reading.refusal import Budget
from simplenet.manifest import MAX_INFLATION

MOST_COPIES = 4  # times the file: protocol 2 copies bytes twice, an array once more
MOST_OPCODES = 20_000_000
MOST_OBJECTS = 2_000_000  # of some 200 bytes each, for as few as one byte of the file
_FREE = 1 << 26  # bytes that the smallest file may use
_FREE_OPCODES = 1_000_000
_OPCODES = 20  # for each byte of the file: one, unless the pickle is compressed
_DEEPEST = 4


@dataclass(frozen=True)
class Limits:
    """What a file and the files inside it may use together.

    Attributes:
        held: storages as they lie in the file; two never share the same bytes.
        copies: bytes that a pickle has copied.
        inflated: what compressed entries become.
        opcodes: of all pickles together.
        objects: lists, dicts, tuples and stand-ins that they make.
        deeper: how many more files may lie inside each other.
    """

    held: Budget
    copies: Budget
    inflated: Budget
    opcodes: Budget
    objects: Budget
    deeper: int = _DEEPEST

    @classmethod
    def of(cls, size: int) -> "Limits":
        """The limits of a file of `size` bytes."""
        return cls(
            held=Budget(size),
            copies=Budget(_FREE + MOST_COPIES * size),
            inflated=Budget(_FREE + MAX_INFLATION * size),
            opcodes=Budget(min(MOST_OPCODES, _FREE_OPCODES + _OPCODES * size), "opcodes"),
            objects=Budget(MOST_OBJECTS, "objects"),
        )

    def inside(self, size: int) -> "Limits":
        """The limits of a file of `size` bytes inside this one."""
        return dataclasses.replace(self, held=Budget(size), deeper=self.deeper - 1)


def size_of(stream: IO[bytes]) -> int:
    """The size of the file in bytes; the stream is at its start afterwards."""
    size = stream.seek(0, 2)
    stream.seek(0)
    return size
