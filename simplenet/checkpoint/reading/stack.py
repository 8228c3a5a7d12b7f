"""What the opcodes of a pickle work on."""

from collections.abc import Callable
from typing import Any

from simplenet.checkpoint.reading.building import Builder


class Stack:
    """A pickle being read: its bytes, the objects on the stack, those below each open mark, and the memo."""

    def __init__(self, data: bytes, builder: Builder) -> None:
        self.data = data
        self.builder = builder
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        """Close the newest mark: what was put on the stack since."""
        items = self.stack
        self.stack = self.marked.pop()
        return items


Opcode = Callable[[Stack, int], int]  # from the position behind the opcode to that of the next
