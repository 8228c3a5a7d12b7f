"""A grey PNG of the model's own size without pillow's fifty microseconds, if pyspng is installed.

It reads only 8-bit grey images that nothing in the file would change (no transparency, orientation or animation). It
leaves the rest to the careful reader in image.py, which also explains errors.

Format: https://www.w3.org/TR/png-3/
"""

import struct
import zlib
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

pyspng: Any
try:
    pyspng = import_module("pyspng")
except ImportError:  # a stock TorchServe: the careful reader reads everything
    pyspng = None

ACTIVE = "pillow" if pyspng is None else "pyspng"  # what reads the common form here

_END = b"\0\0\0\0IEND\xaeB`\x82"
_MARKS = (b"tRNS", b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"acTL")  # chunks that may change the picture


def parse(data: memoryview, side: int) -> np.ndarray | None:
    """The row `(1, side * side)` float32, 0..1, of an image in the common form; None for any other file."""
    head = _head(side)
    if pyspng is None or data[: len(head)] != head:
        return None
    file = bytes(data)
    if not file.endswith(_END) or any(mark in file for mark in _MARKS) or not _is_intact(file, len(head)):
        return None
    try:
        pixels: np.ndarray = pyspng.load(file)
    except (RuntimeError, ValueError):
        return None
    return (pixels.astype(np.float32) / 255).reshape(1, -1)


def _is_intact(file: bytes, at: int) -> bool:
    """Whether the chunks between head and end match their checksums: pyspng does not check them."""
    last = len(file) - len(_END)
    while at < last:
        end = at + 8 + int.from_bytes(file[at : at + 4], "big")
        if zlib.crc32(file[at + 4 : end]) != int.from_bytes(file[end : end + 4], "big"):
            return False
        at = end + 4
    return at == last


@lru_cache(maxsize=16)
def _head(side: int) -> bytes:
    """The signature and the IHDR chunk of an 8-bit grey image that is not interlaced."""
    header = struct.pack(">4sIIBBBBB", b"IHDR", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header) - 4) + header + struct.pack(">I", zlib.crc32(header))
