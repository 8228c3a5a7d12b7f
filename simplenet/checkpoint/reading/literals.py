"""The opcodes that hold a plain value: each function takes the pickle and a position, and gives the value and the next.

https://github.com/python/cpython/blob/main/Lib/pickletools.py describes every opcode.
"""

import codecs
from collections.abc import Callable
from struct import Struct
from typing import Any

from simplenet.checkpoint.reading.refusal import EndsTooEarly, Refused

MOST_LONG_BYTES = 1024  # of an integer; its decimal digits stay below Python's limit of 4300
_MOST_DIGITS = 2468
_INT2, _INT4, _UINT4, _UINT8, _FLOAT = (Struct(code) for code in ("<H", "<i", "<I", "<Q", ">d"))

Literal = Callable[[bytes, int], tuple[Any, int]]


class Python2Text(str):
    """A `str` of Python 2 with other than ASCII characters: text where that is what it was, and its bytes in `raw`.

    Example:
        >>> text = python2_text(b"caf" + bytes([0xE9]))
        >>> text == "caf" + chr(0xE9), text.raw == b"caf" + bytes([0xE9])
        (True, True)
    """

    raw: bytes


def python2_text(raw: bytes) -> str:
    """The bytes as text: UTF-8 if they are, else Latin-1, which every byte string is."""
    if raw.isascii():
        return raw.decode("ascii")
    try:
        text = Python2Text(raw.decode("utf-8"))
    except UnicodeDecodeError:
        text = Python2Text(raw.decode("latin-1"))
    text.raw = raw
    return text


def span(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    """The next `size` bytes.

    Raises:
        EndsTooEarly: there are fewer.
    """
    end = at + size
    if end > len(data):
        raise EndsTooEarly(f"pickle, byte {at}: expected {size} more bytes, found {len(data) - at}")
    return data[at:end], end


def line(data: bytes, at: int) -> tuple[bytes, int]:
    """The bytes up to the next line feed.

    Raises:
        EndsTooEarly: there is none.
    """
    end = data.find(b"\n", at)
    if end < 0:
        raise EndsTooEarly(f"pickle, byte {at}: expected a line, found the end of the file")
    return data[at:end], end + 1


def text_line(data: bytes, at: int) -> tuple[str, int]:
    """The UTF-8 text up to the next line feed: a module's or a class's name."""
    raw, at = line(data, at)
    return raw.decode("utf-8"), at


def number(text: bytes) -> int:
    """The decimal integer in a line, with the L that Python 2 puts behind it.

    Raises:
        Refused: it has too many digits.
    """
    if len(text) > _MOST_DIGITS:
        raise Refused(f"pickle: expected an integer of at most {_MOST_DIGITS} digits, found {len(text)}")
    return int(text.rstrip(b"L"))


def _int_line(data: bytes, at: int) -> tuple[Any, int]:
    text, at = line(data, at)
    return {b"00": False, b"01": True}[text] if text in (b"00", b"01") else number(text), at


def _long_line(data: bytes, at: int) -> tuple[Any, int]:
    text, at = line(data, at)
    return number(text), at


def _float_line(data: bytes, at: int) -> tuple[Any, int]:
    text, at = line(data, at)
    return float(text), at


def _string_line(data: bytes, at: int) -> tuple[Any, int]:
    text, at = line(data, at)
    text = text.strip()
    if len(text) < 2 or text[0] != text[-1] or text[:1] not in (b"'", b'"'):
        raise Refused(f"pickle, byte {at}: expected a string in quotes, found {text[:20]!r}")
    return python2_text(codecs.escape_decode(text[1:-1])[0]), at


def _unicode_line(data: bytes, at: int) -> tuple[Any, int]:
    text, at = line(data, at)
    return text.decode("raw-unicode-escape"), at


def _long(data: bytes, at: int, size: int) -> tuple[Any, int]:
    if not 0 <= size <= MOST_LONG_BYTES:
        raise Refused(f"pickle, byte {at}: expected an integer of at most {MOST_LONG_BYTES} bytes, found {size}")
    raw, at = span(data, at, size)
    return int.from_bytes(raw, "little", signed=True), at


def _long4(data: bytes, at: int) -> tuple[Any, int]:
    return _long(data, at + 4, _INT4.unpack_from(data, at)[0])


def _text(size: Struct) -> Literal:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        raw, at = span(data, at + size.size, size.unpack_from(data, at)[0])
        return raw.decode("utf-8", "surrogatepass"), at

    return read


def _bytes(size: Struct) -> Literal:
    return lambda data, at: span(data, at + size.size, size.unpack_from(data, at)[0])


def _bytearray(data: bytes, at: int) -> tuple[Any, int]:
    raw, at = span(data, at + 8, _UINT8.unpack_from(data, at)[0])
    return bytearray(raw), at


def _python2_string(size: Struct) -> Literal:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        length = size.unpack_from(data, at)[0]
        if length < 0:
            raise Refused(f"pickle, byte {at}: expected the length of a string, found {length}")
        raw, at = span(data, at + size.size, length)
        return python2_text(raw), at

    return read


_UINT1 = Struct("<B")
LITERALS: dict[bytes, Literal] = {
    b"N": lambda data, at: (None, at),
    b"\x88": lambda data, at: (True, at),
    b"\x89": lambda data, at: (False, at),
    b"I": _int_line,
    b"L": _long_line,
    b"F": _float_line,
    b"S": _string_line,
    b"V": _unicode_line,
    b"J": lambda data, at: (_INT4.unpack_from(data, at)[0], at + 4),
    b"K": lambda data, at: (data[at], at + 1),
    b"M": lambda data, at: (_INT2.unpack_from(data, at)[0], at + 2),
    b"G": lambda data, at: (_FLOAT.unpack_from(data, at)[0], at + 8),
    b"\x8a": lambda data, at: _long(data, at + 1, data[at]),
    b"\x8b": _long4,
    b"T": _python2_string(_INT4),
    b"U": _python2_string(_UINT1),
    b"X": _text(_UINT4),
    b"\x8c": _text(_UINT1),
    b"\x8d": _text(_UINT8),
    b"B": _bytes(_UINT4),
    b"C": _bytes(_UINT1),
    b"\x8e": _bytes(_UINT8),
    b"\x96": _bytearray,
}
