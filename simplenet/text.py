"""How names, dtypes and errors are written in a message, defined once."""

import reprlib
from collections.abc import Iterable

MOST_NAMES = 8  # in one message
LONGEST_VALUE = 200  # characters
LONGEST_NAME = 80  # characters; a field of a request may have any name

_SHORT = reprlib.Repr()
_SHORT.maxdict, _SHORT.maxlevel, _SHORT.maxstring = 8, 3, 60


def quoted(names: Iterable[object]) -> str:
    """Names in a message: quoted, the first eight of them, and how many more there are.

    Example:
        >>> quoted(["fc1.weight", "fc1.bias"])
        "'fc1.weight', 'fc1.bias'"
        >>> quoted(range(10))
        "'0', '1', '2', '3', '4', '5', '6', '7' and 2 more"
        >>> quoted([])
        'none'
    """
    found = list(names)
    shown = ", ".join(repr(_text(name)[:LONGEST_NAME]) for name in found[:MOST_NAMES]) or "none"
    return shown if len(found) <= MOST_NAMES else f"{shown} and {len(found) - MOST_NAMES} more"


def _text(name: object) -> str:
    """A name as text; what a file has in a name's place may hold itself a billion times."""
    return shortened(name) if isinstance(name, (dict, list, tuple, set, frozenset)) else str(name)


def shortened(value: object) -> str:
    """A value from a file in a message: its repr, but never long, however deep the value is.

    Example:
        >>> shortened({"hidden_size": [32], "layers": list(range(100))})
        "{'hidden_size': [32], 'layers': [0, 1, 2, 3, 4, 5, ...]}"
    """
    return _SHORT.repr(value)[:LONGEST_VALUE]


def visible(text: str) -> str:
    """Text from a file for a terminal: what would move the cursor or hide a line is written as its escape.

    Example:
        >>> visible("fc1" + chr(27) + "[2J.weight")
        'fc1\\\\x1b[2J.weight'
    """
    if text.isprintable():
        return text
    return "".join(letter if letter == "\n" or letter.isprintable() else repr(letter)[1:-1] for letter in text)


def dtype_name(dtype: object) -> str:
    """The name of a torch dtype without its module.

    Example:
        >>> dtype_name("torch.float32")
        'float32'
    """
    return str(dtype).removeprefix("torch.")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if the message is empty.

    Example:
        >>> first_line(ValueError("no such file" + chr(10) + "at line 3"))
        'no such file'
        >>> first_line(EOFError())
        'EOFError'
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def last_line(output: str) -> str:
    """The last non-blank line of a program's output.

    Example:
        >>> last_line("Traceback" + chr(10) + "ValueError: wrong" + chr(10))
        'ValueError: wrong'
    """
    return next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "no message")
