"""What a worker prints: TorchServe's frontend collects each line whole in its own memory, so none may be long.

That holds for what Python writes to `sys.stdout` and `sys.stderr`: prints, warnings, logs, tracebacks. What a library
in C, or another process, writes to the descriptors is not seen here.
"""

import logging
import re
import sys
from typing import Any, TextIO

from simplenet.worker import exits

LONGEST_LINE = 16_384  # characters

_LINE = re.compile(r"[^\n\r]*[\n\r]?")


class LineCutter:
    """A text stream in front of another, to which it passes the first characters of every line.

    Args:
        stream: the other; has all that is not defined here.

    Example:
        >>> from io import StringIO
        >>> printed = StringIO()
        >>> print("x" * 20_000, file=LineCutter(printed))
        >>> printed.getvalue()[-32:]
        'xx ... 3616 characters left out\\n'
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._length = 0  # characters of the line so far, also those left out

    def write(self, text: str) -> int:
        """Write text that may begin and end anywhere in a line; returns its length as every stream does."""
        self._stream.write("".join([self._cut(match[0]) for match in _LINE.finditer(text)]))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts, one after another."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _cut(self, part: str) -> str:
        """A part of a line, perhaps with its end: as much of it as is passed on."""
        text = part.rstrip("\n\r")
        kept = text[: max(0, LONGEST_LINE - self._length)]
        self._length += len(text)
        if len(text) == len(part):
            return kept
        left_out, self._length = self._length - LONGEST_LINE, 0
        return kept + (f" ... {left_out} characters left out" if left_out > 0 else "") + part[len(text) :]


def cut_long_lines() -> None:
    """In a worker: put a LineCutter before the standard streams, also for the log that goes to them already."""
    if not exits.in_worker():
        return
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            continue
        cutter: Any = LineCutter(stream)
        setattr(sys, name, cutter)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
                handler.setStream(cutter)
